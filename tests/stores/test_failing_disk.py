"""A disk that refuses (ENOSPC, EIO): nothing is lost, and the same store goes on when the disk is well again (P7)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import pytest
from forked import SURVIVED, FileCalls, failing_at, folder_in_memory, in_child
from textfarm import TextFarm, ended, finished

from taskfarmer.errors import DiskError, FarmError, Fenced
from taskfarmer.model import Attempt, Claim, Outcome

pytestmark = pytest.mark.quick

COUNT = 8
#: What the store should say is DiskError, which is a test of its own.
TROUBLE = (DiskError, OSError)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with folder_in_memory(tmp_path) as folder:
        yield folder


class Farmer:
    """What a farmer does with its store: settle what ended, claim more, and after trouble the same again."""

    def __init__(self, farm: TextFarm) -> None:
        farm.load(*(f"echo {number}" for number in range(COUNT)))
        self.farm = farm
        self.store = farm.open()
        self.presence = self.store.join(1)
        self.held: dict[int, Claim] = {}
        self.done: list[Attempt] = []
        self.got: list[int] = []

    def exchange(self, want: int = 2) -> None:
        exchange = self.store.exchange(self.done, want)
        assert exchange.refused == [], "a settled attempt was refused"
        for attempt in self.done:
            self.held.pop(attempt.claim.token)
        self.done = []
        for claim in exchange.claims:
            assert claim.token not in self.held
            self.held[claim.token] = claim
            self.got.append(claim.id)

    def work(self) -> None:
        """Every task that is held is done."""
        self.done = finished(self.held.values())

    def finish(self) -> None:
        """The disk is well: go on to the end."""
        for _ in range(2 * COUNT):
            self.work()
            self.exchange()
        assert self.held == {}
        self.store.leave()
        standing = self.farm.standing()
        assert {id: command for id, (_, command) in standing.items()} == {id: f"echo {id}" for id in range(COUNT)}
        assert self.store.counts() == self.farm.open().counts()


def claim_and_settle(farmer: Farmer) -> Callable[[], None]:
    farmer.exchange(3)
    farmer.work()
    return lambda: farmer.exchange(2)


def first_claim(farmer: Farmer) -> Callable[[], None]:
    return lambda: farmer.exchange(3)


def settle_failed(farmer: Farmer) -> Callable[[], None]:
    farmer.exchange(3)
    farmer.done = [ended(claim, Outcome.FAILED, 1) for claim in farmer.held.values()]
    return lambda: farmer.exchange(2)


def give_back(farmer: Farmer) -> Callable[[], None]:
    farmer.exchange(3)

    def operate() -> None:
        claims = list(farmer.held.values())[1:]
        farmer.store.exchange([], 0, claims)
        for claim in claims:
            farmer.held.pop(claim.token, None)
            farmer.got.remove(claim.id)

    return operate


OPERATIONS = [first_claim, claim_and_settle, settle_failed, give_back]


def trouble_at_each_call(
    folder: Path,
    prepare: Callable[[Farmer], Callable[[], None]],
    trouble: Callable[[int], FileCalls],
    times: int = 1,
    kinds: frozenset[str] = frozenset(("DiskError", "Pending", "OSError")),
) -> None:
    """Refuse the first change, the second ... until the operation makes fewer."""
    number = 0
    refused = True
    went_wrong: dict[int, str] = {}
    while refused:
        number += 1
        (folder / f"{number}").mkdir()
        farm = TextFarm(folder / f"{number}")

        def work(number: int = number, farm: TextFarm = farm) -> None:
            farmer = Farmer(farm)
            operate = prepare(farmer)
            calls = trouble(number)
            raised: list[str] = []
            notes = farm.tasklist.parent
            calls.armed = True
            for _ in range(times):
                try:
                    operate()
                except TROUBLE as error:
                    raised.append(type(error).__name__)
                except Fenced as error:
                    (folder / f"{number}" / "wrong").write_text(f"{', '.join(raised)}; then {error}")
            calls.armed = False
            (notes / "calls").write_text(str(calls.count))
            try:
                assert set(raised) <= kinds, raised
                farmer.finish()
            except (AssertionError, FarmError) as error:
                (notes / "wrong").write_text(f"{', '.join(raised)}; then {type(error).__name__}: {error}")

        assert in_child(work) == SURVIVED, f"trouble at call {number}"
        if (folder / f"{number}" / "wrong").exists():
            went_wrong[number] = (folder / f"{number}" / "wrong").read_text()
        refused = int((folder / f"{number}" / "calls").read_text()) >= number
        shutil.rmtree(folder / f"{number}")
    assert number > 5, "the operation changed nothing?"
    assert went_wrong == {}


@pytest.mark.parametrize("prepare", OPERATIONS, ids=lambda operation: operation.__name__)
def test_a_disk_that_refuses_one_call_costs_nothing(folder: Path, prepare: Callable) -> None:
    trouble_at_each_call(folder, prepare, failing_at)


@pytest.mark.parametrize("prepare", OPERATIONS, ids=lambda operation: operation.__name__)
def test_a_disk_that_refuses_everything_from_some_call_on_costs_nothing(folder: Path, prepare: Callable) -> None:
    trouble_at_each_call(folder, prepare, lambda number: failing_at(number, and_on=True))


@pytest.mark.parametrize("again", range(1, 12))
def test_a_disk_that_refuses_twice_costs_nothing(folder: Path, again: int) -> None:
    """The second trouble comes while what the first left behind is put right."""
    trouble_at_each_call(folder, claim_and_settle, lambda number: failing_at(number, number + again), times=2)


@pytest.mark.parametrize("prepare", OPERATIONS, ids=lambda operation: operation.__name__)
def test_trouble_with_the_disk_is_told_as_such(folder: Path, prepare: Callable) -> None:
    """The farmer waits for the disk when it is told DiskError; anything else ends it with a traceback."""
    trouble_at_each_call(folder, prepare, failing_at, kinds=frozenset(("DiskError", "Pending")))


def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip("no permission to mount a tmpfs")
    try:
        assert in_child(lambda: farm_on_a_full_disk(disk)) == SURVIVED
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def farm_on_a_full_disk(disk: Path) -> None:
    farm = TextFarm(disk)
    farmer = Farmer(farm)
    farmer.exchange(2)
    farmer.work()
    filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(filler, bytes(4096)):
            pass
    except OSError:
        pass
    refused = 0
    for _ in range(3):
        try:
            farmer.exchange(2)
            farmer.work()
        except TROUBLE:
            refused += 1
    try:
        farmer.store.add(["x" * 100_000])
    except TROUBLE:
        refused += 1
    assert refused, "the disk was not full"
    os.ftruncate(filler, 0)
    farmer.finish()
