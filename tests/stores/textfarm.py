"""A farm of the text store as tests see it: a list, a workdir, stores that open it, and what stands where."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterable, Iterator

from taskfarmer.model import Attempt, Claim, Outcome, Owner
from taskfarmer.stores.base import Added
from taskfarmer.stores.lines import owner_file, parse_claims
from taskfarmer.stores.textfiles import TextStore
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process
from taskfarmer.tasklists.lines import ListTaskList

STATE_FILES = ("toprocess", "later", "finished", "failed")
_BEGIN = 1_700_000_000_000_000_000


class TextFarm:
    """The text store, as the contract drives any store."""

    def __init__(self, folder: Path) -> None:
        os.environ.pop("SCRATCH", None)  # the lock must not go where the tester's environment says
        self.tasklist = folder / "tasks.txt"
        self.path = folder / "work"
        self._writes = 0

    # What every store's farm can do

    def load(self, *commands: str, replace: bool = False) -> Added:
        """Write the list, one command per line, and load it."""
        return self.load_bytes(
            "".join(f"{command}\n" for command in commands).encode("utf-8", "surrogateescape"), replace=replace
        )

    def load_bytes(self, content: bytes, newer: bool = True, replace: bool = False) -> Added:
        """Write the list and load it. Each writing is a second newer than the one before, or older than the first."""
        self.write(content, newer)
        return self.reload(replace)

    def open(self, retries: int = 0, tell: Callable[[str], None] = lambda message: None) -> TextStore:
        """The store, for a new owner."""
        workdir = Workdir(str(self.path), process.new_owner())
        return TextStore(workdir, retries, tell)

    @contextmanager
    def farmer(self, retries: int = 0, slots: int = 2) -> Iterator[TextStore]:
        """A store that has joined and leaves at the end."""
        store = self.open(retries)
        presence = store.join(slots)
        try:
            yield store
            store.leave()
        finally:
            presence.close()
            store.close()

    def slot_file(self, store: TextStore, slot: int = 0) -> Path:
        """Where the worker of a slot writes."""
        return self.path / owner_file(store.owner, f"slot_{slot}")

    def take_over(self, store: TextStore, silent: TextStore) -> None:
        """What an observer on another host does once it has seen no sign of life for long enough."""
        store._recovery.take_over(silent.owner)

    def stranger(self, host: str) -> Owner:
        """An owner on another host, which holds nothing."""
        owner = Owner(host, 1, 1, "5a5a5a")
        (self.path / "running" / str(owner)).mkdir()
        return owner

    def standing(self) -> dict[int, tuple[str, str]]:
        """Where each task stands, with its command; each in exactly one place, and nobody holds a claim."""
        found: dict[int, tuple[str, str]] = {}
        for name in STATE_FILES:
            for id, command in self.tasks(name):
                assert id not in found, f"task {id} stands in {found[id][0]} and in {name}"
                found[id] = (name, command)
        assert self.claimed() == []
        assert not (self.path / "journal").exists()
        return found

    # What only the text store has

    def write(self, content: bytes, newer: bool = True) -> None:
        """Write the list, with a time of its own."""
        self._writes += 1
        self.tasklist.write_bytes(content)
        when = _BEGIN + (self._writes if newer else -self._writes) * 1_000_000_000
        os.utime(self.tasklist, ns=(when, when))

    def reload(self, replace: bool = False, handler: str = "default") -> Added:
        """Load the list as it is."""
        store = self.open()
        try:
            return store.load(ListTaskList(str(self.tasklist)), handler, replace)
        finally:
            store.close()

    def file(self, name: str) -> Path:
        """A file of the workdir."""
        return self.path / name

    def lines(self, name: str) -> list[bytes]:
        """The lines of a state file."""
        path = self.path / name
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def tasks(self, name: str) -> list[tuple[int, str]]:
        """Id and command of each line of a state file."""
        pairs = (line.split(b" ", 1) for line in self.lines(name))
        return [(int(id), command.decode("utf-8", "surrogateescape")) for id, command in pairs]

    def ids(self, name: str) -> list[int]:
        """The ids in a state file, in their order."""
        return [id for id, _ in self.tasks(name)]

    def claimed(self) -> list[int]:
        """The ids in any `claims`."""
        files = (self.path / "running").glob("*/claims")
        return [held.id for claims in files for held in parse_claims(claims.read_bytes())]

    def content(self) -> dict[str, bytes]:
        """Every file that says something about tasks."""
        names = (*STATE_FILES, "attempts", "farm.json")
        return {name: self.file(name).read_bytes() for name in names if self.file(name).exists()}


def ended(claim: Claim, outcome: Outcome = Outcome.FINISHED, status: int = 0) -> Attempt:
    """An attempt that ended so."""
    return Attempt(claim, outcome, status, 1_700_000_000.25, 1.5, 0.25, 1000)


def finished(claims: Iterable[Claim]) -> list[Attempt]:
    """Attempts that all went well."""
    return [ended(claim) for claim in claims]


def work_off(farm: TextFarm, at_once: int = 3) -> list[tuple[int, str]]:
    """Recover what is dead and finish everything there is; the tasks in the order of their claims."""
    ran: list[tuple[int, str]] = []
    with farm.farmer() as store:
        store.recover()
        done: list[Attempt] = []
        while True:
            exchange = store.exchange(done, at_once)
            assert exchange.refused == []
            if not exchange.claims:
                break
            ran += [(claim.id, claim.command) for claim in exchange.claims]
            done = finished(exchange.claims)
    return ran
