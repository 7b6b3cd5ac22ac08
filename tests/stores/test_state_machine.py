"""Hypothesis drives the text store, on real files and with real processes as owners, and compares it with a plain model.

The model is where each task stands, who holds it by which token, and how often it was tried. After each step the files
must say what it says: each task in exactly one place, in this order, with its command whole.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from contextlib import ExitStack
from copy import deepcopy
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
from forked import FileCalls, die_now, dying_at, folder_in_memory, start_child
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from textfarm import TextFarm, ended

from taskfarmer.errors import FarmError, Fenced, UsageError
from taskfarmer.model import Attempt, Claim, Outcome, Owner, State
from taskfarmer.stores import slotfile
from taskfarmer.stores.journal import parse
from taskfarmer.stores.lines import parse_claims

SLOTS = 2
MOST_OWNERS = 4


# The model


class Held(NamedTuple):
    id: int
    attempt: int


class Model:
    """What a farm is, without files."""

    def __init__(self, retries: int) -> None:
        self.retries = retries
        self.commands: dict[int, str] = {}
        #: `toprocess` is a stack: its last is the next. Then come those of `later`, from its beginning.
        self.places: dict[str, list[int]] = {name: [] for name in ("toprocess", "later", "finished", "failed")}
        self.held: dict[str, dict[int, Held]] = {}
        self.ended: dict[str, dict[int, Outcome]] = {}  # as workers wrote it down
        self.tokens: Counter[str] = Counter()
        self.counted: Counter[int] = Counter()
        self.total: Counter[int] = Counter()
        self.list: list[str] = []
        self.of_no_list: set[int] = set()
        self.by_index = 0  # an id below this is the index of its line
        self.next_id = 0

    def claim_text(self, owner: str) -> list[tuple[int, int, int, str]]:
        return [(token, id, attempt, self.commands[id]) for token, (id, attempt) in self.held[owner].items()]

    @property
    def left(self) -> int:
        return len(self.places["toprocess"]) + len(self.places["later"])

    def counts(self) -> dict[State, int]:
        return {
            State.TOPROCESS: self.left,
            State.RUNNING: sum(map(len, self.held.values())),
            State.FINISHED: len(self.places["finished"]),
            State.FAILED: len(self.places["failed"]),
        }

    # What owners do

    def join(self, owner: str) -> None:
        self.held[owner], self.ended[owner] = {}, {}

    def record(self, owner: str, outcomes: dict[int, Outcome]) -> None:
        # A worker that is lost writes nothing: its farmer says so.
        self.ended[owner].update({t: o for t, o in outcomes.items() if o is not Outcome.WORKER_LOST})

    def exchange(self, owner: str, settled: list[tuple[int, Outcome]], want: int, unstarted: list[int]) -> Answer:
        held = self.held[owner]
        refused = [token for token, _ in settled if token not in held]
        back = [(token, held.pop(token).id) for token in unstarted]
        behind = False
        for token, outcome in settled:
            if token in held:
                id = held.pop(token).id
                place = self._place(id, outcome)
                behind |= place == "later"
                if place == "toprocess":
                    back.append((token, id))
                else:
                    self.places[place].append(id)
        self.places["toprocess"] += [id for _, id in sorted(back, reverse=True)]
        claims = [] if back else self._claim(owner, want, behind)
        elsewhere = 0
        if not (self.left or claims):
            elsewhere = sum(len(theirs) for other, theirs in self.held.items() if other != owner)
        counts = self.counts()
        return Answer(claims, refused, self.left, counts[State.FINISHED], counts[State.FAILED], elsewhere)

    def _claim(self, owner: str, want: int, behind: bool) -> list[Claim]:
        places = self.places
        if not places["toprocess"] and not behind and want:
            places["toprocess"], places["later"] = places["later"][::-1], []
        claims = []
        for _ in range(min(want, len(places["toprocess"]))):
            id = places["toprocess"].pop()
            self.tokens[owner] += 1
            token, attempt = self.tokens[owner], self.total[id] + 1
            self.held[owner][token] = Held(id, attempt)
            claims.append(Claim(token, id, attempt, self.counted[id], self.commands[id]))
        return claims

    def _place(self, id: int, outcome: Outcome) -> str:
        place = outcome.state.value
        if (
            place == "failed"
            and outcome not in (Outcome.CANCELLED, Outcome.NOT_ENDED)
            and self.counted[id] < self.retries
        ):
            place = "later"
            self.counted[id] += 1
        if place in ("later", "toprocess"):
            self.total[id] += 1
        return place

    def take_over(self, owner: str) -> tuple[int, int]:
        """How many had ended, and how many come back."""
        held, outcomes = self.held.pop(owner, {}), self.ended.pop(owner, {})
        back = []
        for token, (id, _) in held.items():
            place = self._place(id, outcomes.get(token, Outcome.OWNER_LOST))
            (back if place == "toprocess" else self.places[place]).append(id)
        self.places["toprocess"] += back[::-1]
        known = len(held.keys() & outcomes.keys())
        return known, len(held) - known

    # What people do

    def add(self, commands: list[str]) -> list[int]:
        ids = list(range(self.next_id, self.next_id + len(commands)))
        self.commands.update(zip(ids, commands))
        self.places["later"] += ids
        self.next_id += len(ids)
        return ids

    def requeue(self, ids: list[int] | None) -> int:
        moved = [id for id in self.places["failed"] if ids is None or id in ids]
        self.places["failed"] = [id for id in self.places["failed"] if id not in moved]
        self.places["later"] += moved
        for id in moved:
            self.counted[id], self.total[id] = 0, self.total[id] + 1
        return len(moved)

    def found(self, lines: list[str]) -> None:
        self.list, self.by_index = lines, len(lines)
        self.add(lines)

    def load(self, lines: list[str]) -> bool:
        """The list says this now. False if it is another list."""
        if lines == self.list:
            return True
        if lines[: len(self.list)] == self.list:
            self.by_index = len(lines) if self.by_index == self.next_id else self.by_index
            self.add(lines[len(self.list) :])
            self.list = lines
            return True
        return self.match(lines)

    def match(self, lines: list[str]) -> bool:
        waiting = self.places["toprocess"] + self.places["later"]
        stay = {id for id in waiting if id in self.of_no_list or self.commands[id] in lines}
        known = {self.commands[id] for id in self.standing() if id not in self.of_no_list}
        if not stay and (waiting or (known and not known & set(lines))):
            return False
        for name in ("toprocess", "later"):
            self.places[name] = [id for id in self.places[name] if id in stay]
        self.list, self.by_index = lines, 0
        self.add([line for line in lines if line not in known])
        return True

    def lose_toprocess(self) -> None:
        """A person has removed `toprocess`: what the list knows comes back."""
        lost, self.places["toprocess"] = self.places["toprocess"], []
        back = sorted(id for id in lost if id < self.by_index)
        self.places["later"] += back
        if len(back) < len(lost):
            assert self.match(self.list)

    def standing(self) -> list[int]:
        ids = [id for held in self.held.values() for id, _ in held.values()]
        return ids + [id for place in self.places.values() for id in place]


class Answer(NamedTuple):
    """What an exchange must say."""

    claims: list[Claim]
    refused: list[int]
    left: int
    finished: int
    failed: int
    running_elsewhere: int


# The owners


class OwnerProcess:
    """A process that has joined the farm and does what it is told."""

    def __init__(self, farm: TextFarm, retries: int) -> None:
        self._line, theirs = Pipe()
        self.pid = start_child(lambda: serve(farm, retries, theirs))
        theirs.close()
        self.name: str = self._line.recv()
        self.held: dict[int, Claim] = {}
        self.settled: list[Claim] = []
        self.is_fenced = False

    def do(self, what: Callable[..., Any], *args: Any, die: Callable[[], FileCalls] | None = None) -> Any:
        """Its answer; what it raises is raised here; None if it died of it."""
        try:
            self._line.send((what, args, die))
            answer = self._line.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self.bury()
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.bury()

    def bury(self) -> None:
        os.waitpid(self.pid, 0)
        self._line.close()


class Tools(NamedTuple):
    """What an owner's process works with."""

    farm: TextFarm
    store: Any
    presence: Any


def serve(farm: TextFarm, retries: int, line: Connection) -> None:
    store = farm.open(retries)
    tools = Tools(farm, store, store.join(SLOTS))
    line.send(str(store.owner))
    while True:
        what, args, die = line.recv()
        calls = die() if die else None
        try:
            if calls:
                calls.armed = True
            answer = what(tools, *args)
        except FarmError as error:
            answer = error
        if calls:
            calls.armed = False
        line.send(answer)


def exchange(tools: Tools, settled: list[Attempt], want: int, unstarted: list[Claim]) -> Answer:
    done = tools.store.exchange(settled, want, unstarted)
    return Answer(done.claims, done.refused, done.left, done.finished, done.failed, done.running_elsewhere)


def record(tools: Tools, slot: int, attempts: list[Attempt], torn: bool) -> bool:
    """As a worker does; `torn`: it dies while it writes one more."""
    with open(tools.farm.slot_file(tools.store, slot), "ab") as file:
        for attempt in attempts:
            file.write(slotfile.end_line(attempt))
        if torn:
            file.write(b"\nend 1 fini")
    return True


def recover(tools: Tools) -> list[tuple[str, int, int]]:
    return [(str(found.owner), found.settled, found.requeued) for found in tools.store.recover()]


def leave(tools: Tools) -> bool:
    tools.store.leave()
    tools.presence.close()
    return True


class Dying(NamedTuple):
    """At which change to a file a process dies; `at_sync`: when its record is written and nothing is done."""

    number: int
    torn: bool = False

    def __call__(self) -> FileCalls:
        return dying_at(self.number, self.torn) if self.number else FileCalls(die_at_sync)


AT_SYNC = Dying(0)


def die_at_sync(count: int, name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if name == "fsync":
        die_now()
    return real(*args)


# The machine

outcomes = st.sampled_from([None, "unstarted", *Outcome, Outcome.FINISHED, Outcome.FAILED])
several = st.lists(outcomes, min_size=1, max_size=6)
who = st.integers(0, MOST_OWNERS - 1)
wanted = st.integers(0, 5)


class StoreMachine(RuleBasedStateMachine):
    """The rules. An owner is named by a number: which of those that live."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        spare = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.farm = TextFarm(self.stack.enter_context(folder_in_memory(spare)))
        self.owners: list[OwnerProcess] = []
        self.made = 0

    @initialize(count=st.integers(0, 12), retries=st.integers(0, 2), owners=st.integers(1, 3), want=wanted)
    def found(self, count: int, retries: int, owners: int, want: int) -> None:
        self.model = Model(retries)
        self.model.found(self.new_commands(count))
        self.farm.load(*self.model.list)
        for _ in range(owners):
            self.join(want)

    def new_commands(self, count: int) -> list[str]:
        self.made += count
        return [f"echo {number} '\udcff" for number in range(self.made - count, self.made)]

    # Owners

    @precondition(lambda self: len(self.owners) < MOST_OWNERS)
    @rule(count=st.integers(1, MOST_OWNERS), want=wanted)
    def several_join(self, count: int, want: int) -> None:
        for _ in range(min(count, MOST_OWNERS - len(self.owners))):
            self.join(want)

    def join(self, want: int) -> None:
        owner = OwnerProcess(self.farm, self.model.retries)
        self.owners.append(owner)
        self.model.join(owner.name)
        self.settle_and_claim(len(self.owners) - 1, [], want)

    @precondition(lambda self: self.owners)
    @rule(who=who, want=st.integers(1, 5))
    def claim(self, who: int, want: int) -> None:
        self.settle_and_claim(who, [], want)

    @precondition(lambda self: self.owners)
    @rule(who=who, how=several)
    def settle(self, who: int, how: list[Outcome | str | None]) -> None:
        self.settle_and_claim(who, how, 0)

    @precondition(lambda self: self.owners)
    @rule(who=who, how=several, want=wanted)
    def settle_and_claim(self, who: int, how: list[Outcome | str | None], want: int) -> None:
        owner = self.owners[who % len(self.owners)]
        attempts, unstarted = self.ended(owner, how)
        if owner.is_fenced:
            self.is_refused(owner, attempts, want)
            return
        answer = owner.do(exchange, attempts, want, unstarted)
        assert answer == self.expect(owner, attempts, want, unstarted)
        self.heard(owner, answer, attempts, unstarted)

    def is_refused(self, owner: OwnerProcess, attempts: list[Attempt], want: int) -> None:
        with pytest.raises(Fenced):
            owner.do(exchange, attempts, want, [])
        owner.kill()
        self.owners.remove(owner)

    def ended(self, owner: OwnerProcess, how: list[Outcome | str | None]) -> tuple[list[Attempt], list[Claim]]:
        """What came of the first claims an owner holds; its worker writes that down first."""
        attempts, unstarted = [], []
        known = self.model.ended.get(owner.name, {})
        for claim, outcome in zip(owner.held.values(), how):
            outcome = known.get(claim.token, outcome)
            if outcome == "unstarted":
                unstarted.append(claim)
            elif outcome is not None:
                attempts.append(ended(claim, Outcome(outcome)))
        new = [a for a in attempts if a.claim.token not in known and a.outcome is not Outcome.WORKER_LOST]
        if not owner.is_fenced:  # its slot's file is gone
            owner.do(record, len(new) % SLOTS, new, False)
            self.model.record(owner.name, {attempt.claim.token: attempt.outcome for attempt in new})
        return attempts, unstarted

    def expect(self, owner: OwnerProcess, attempts: list[Attempt], want: int, unstarted: list[Claim]) -> Answer:
        settled = [(attempt.claim.token, attempt.outcome) for attempt in attempts]
        return self.model.exchange(owner.name, settled, want, [claim.token for claim in unstarted])

    def heard(self, owner: OwnerProcess, answer: Answer, attempts: list[Attempt], unstarted: list[Claim]) -> None:
        for claim in [*(attempt.claim for attempt in attempts), *unstarted]:
            if owner.held.pop(claim.token, None):
                owner.settled.append(claim)
        owner.held.update({claim.token: claim for claim in answer.claims})

    @precondition(lambda self: any(owner.settled and not owner.is_fenced for owner in self.owners))
    @rule(outcome=st.sampled_from(Outcome), which=st.integers(0, 99))
    def settle_a_second_time(self, outcome: Outcome, which: int) -> None:
        """A late report of a claim that is no longer one: refused by its token."""
        owner = next(owner for owner in self.owners if owner.settled and not owner.is_fenced)
        late = ended(owner.settled[which % len(owner.settled)], outcome)
        assert owner.do(exchange, [late], 0, []).refused == [late.claim.token]

    # Ends

    @precondition(lambda self: self.owners)
    @rule(who=who, how=several, leaves=st.booleans(), torn=st.booleans())
    def end(self, who: int, how: list[Outcome | str | None], leaves: bool, torn: bool) -> None:
        """With outcomes written down that are not settled; what an owner holds stays for whoever recovers it."""
        owner = self.owners.pop(who % len(self.owners))
        self.ended(owner, how)
        if leaves:
            assert owner.do(leave)
            if not owner.held and not owner.is_fenced:
                del self.model.held[owner.name], self.model.ended[owner.name]
        elif torn and not owner.is_fenced:
            owner.do(record, 0, [], torn)
        owner.kill()

    @precondition(lambda self: any(not owner.is_fenced for owner in self.owners))
    @rule(who=who, how=several, want=wanted, number=st.integers(1, 24), torn=st.booleans())
    def die_in_an_exchange(self, who: int, how: list[Outcome | str | None], want: int, number: int, torn: bool) -> None:
        self._die_in_an_exchange(who, how, want, Dying(number, torn))

    @precondition(lambda self: any(not owner.is_fenced for owner in self.owners))
    @rule(who=who, how=several, want=wanted, keep=st.floats(0, 1))
    def die_with_a_record_written_down(self, who: int, how: list[Outcome | str | None], want: int, keep: float) -> None:
        self._die_in_an_exchange(who, how, want, AT_SYNC, keep)

    def _die_in_an_exchange(
        self, who: int, how: list[Outcome | str | None], want: int, die: Dying, keep: float = 1.0
    ) -> None:
        living = [owner for owner in self.owners if not owner.is_fenced]
        owner = living[who % len(living)]
        attempts, unstarted = self.ended(owner, how)
        before = deepcopy(self.model)
        expected = self.expect(owner, attempts, want, unstarted)
        answer = owner.do(exchange, attempts, want, unstarted, die=die)
        if answer is not None:
            assert answer == expected
            self.heard(owner, answer, attempts, unstarted)
            return
        self.owners.remove(owner)
        self.model = self._after_death(owner.name, keep, before, self.model)

    def _after_death(self, owner: str, keep: float, before: Model, after: Model) -> Model:
        """Wholly or not at all: a whole journal is done, a torn one was never begun, and without one the files say it."""
        self._remove_untitled_journal()
        journal = self.farm.file("journal")
        if not journal.exists():
            return after if self.seen() == told(after) else before
        content = journal.read_bytes()
        writer, _ = parse(content)
        if str(writer) != owner:
            return before  # it died while it did what another had left
        if keep < 1:
            title = content.index(b"\n") + 1
            content = content[: title + int(keep * (len(content) - title))]  # what was not synced may be torn anywhere
            journal.write_bytes(content)
        return after if parse(content)[1] is not None else before

    def _remove_untitled_journal(self) -> None:
        """Whoever comes next waits a second for it, and then does this. Other tests have that patience."""
        journal = self.farm.file("journal")
        if journal.exists() and b"\n" not in journal.read_bytes():
            journal.unlink()

    @precondition(lambda self: any(not owner.is_fenced for owner in self.owners))
    @rule(who=who)
    def be_thought_dead(self, who: int) -> None:
        """An observer on another host saw no sign of life; the owner knows nothing of it yet."""
        living = [owner for owner in self.owners if not owner.is_fenced]
        owner = living[who % len(living)]
        store = self.farm.open(self.model.retries)
        name = Owner.parse(owner.name)
        assert name
        found = store._recovery.take_over(name)
        store.close()
        assert (found.settled, found.requeued) == self.model.take_over(owner.name)
        owner.is_fenced = True

    def recovered(self) -> list[tuple[str, int, int]]:
        living = {owner.name for owner in self.owners if not owner.is_fenced}
        return [(name, *self.model.take_over(name)) for name in sorted(self.model.held) if name not in living]

    @precondition(lambda self: any(not owner.is_fenced for owner in self.owners))
    @rule(who=who)
    def recover(self, who: int) -> None:
        living = [owner for owner in self.owners if not owner.is_fenced]
        found = living[who % len(living)].do(recover)
        # A folder without claims is one whose removal was cut short.
        assert [one for one in found if one[1:] != (0, 0)] == [one for one in self.recovered() if one[1:] != (0, 0)]

    @precondition(lambda self: len(self.owners) < MOST_OWNERS and len(self.model.held) > len(self.owners))
    @rule(number=st.integers(1, 40), torn=st.booleans())
    def die_while_recovering(self, number: int, torn: bool) -> None:
        owner = OwnerProcess(self.farm, self.model.retries)
        self.model.join(owner.name)
        self.owners.append(owner)
        possible = [deepcopy(self.model)]
        living = {owner.name for owner in self.owners if not owner.is_fenced}
        for name in sorted(set(self.model.held) - living):
            self.model.take_over(name)
            possible.append(deepcopy(self.model))
        if owner.do(recover, die=Dying(number, torn)) is None:
            self.owners.remove(owner)
            self._remove_untitled_journal()
            self.look()  # whoever enters does what is written down
            seen = self.seen()
            assert seen in [told(model) for model in possible]
            self.model = next(model for model in possible if told(model) == seen)

    # People

    def visit(self, what: Callable[[Any], Any]) -> Any:
        store = self.farm.open(self.model.retries)
        try:
            return what(store)
        finally:
            store.close()

    def look(self) -> dict[State, int]:
        return self.visit(lambda store: store.counts())

    @rule()
    def count(self) -> None:
        assert self.look() == self.model.counts()
        records = self.visit(lambda store: list(store.records()))
        assert sorted(record.task.id for record in records) == sorted(self.model.standing())
        assert {record.task.id: record.task.command for record in records}.items() <= self.model.commands.items()

    @rule(ids=st.none() | st.lists(st.integers(0, 30), max_size=8))
    def retry(self, ids: list[int] | None) -> None:
        assert self.visit(lambda store: store.requeue(ids)) == self.model.requeue(ids)

    @rule(count=st.integers(0, 3))
    def add(self, count: int) -> None:
        commands = self.new_commands(count)
        added = self.visit(lambda store: store.add(commands))
        self.model.of_no_list |= set(self.model.add(commands))
        assert (added.new, added.left) == (count, self.model.left)

    @rule(drop=st.sets(st.integers(0, 12), max_size=3), at=st.integers(0, 12), count=st.integers(0, 3))
    def edit_the_list(self, drop: set[int], at: int, count: int) -> None:
        """Lines go and come."""
        old = self.model.list
        before = self.model.next_id
        lines = [line for number, line in enumerate(old) if number not in drop]
        lines[at:at] = self.new_commands(count)
        if self.model.load(lines):
            added = self.farm.load(*lines)
            assert (added.new, added.left) == (self.model.next_id - before, self.model.left)
        else:
            with pytest.raises(UsageError, match="another list"):
                self.farm.load(*lines)
            self.farm.load(*old)

    # Edits by hand, while no farmer lives

    @precondition(lambda self: len(self.owners) <= 1)
    @rule(edit=st.sampled_from(["retry", "retry and keep", "remove toprocess", "open last lines"]), look=st.booleans())
    def edit_by_hand(self, edit: str, look: bool) -> None:
        """And start the same line again, `look`: after a look at the status."""
        self.everybody_dies()
        if edit == "remove toprocess":
            self.farm.file("toprocess").unlink()
            self.model.lose_toprocess()
        elif edit == "open last lines":
            for name in self.model.places:
                path = self.farm.file(name)
                path.write_bytes(path.read_bytes().removesuffix(b"\n"))
        else:
            with open(self.farm.file("toprocess"), "ab") as file:
                file.write(self.farm.file("failed").read_bytes())
            if edit == "retry":
                self.farm.file("failed").unlink()
            self.model.places["toprocess"] += self.model.places["failed"]
            self.model.places["failed"] = []
        if look:
            self.look()
        self.farm.reload()

    def everybody_dies(self) -> None:
        for owner in self.owners:
            owner.kill()
        self.owners.clear()
        self.look()  # an edit amid what was written down is refused, which is a test of its own

    # What must hold

    def seen(self) -> dict[str, Any]:
        """What the files say."""
        running = {}
        for path in self.farm.path.glob("running/*/claims"):
            held = [(one.token, one.id, one.attempt, one.command) for one in parse_claims(path.read_bytes())]
            if held:
                running[path.parent.name] = [(*one[:3], one[3].decode("utf-8", "surrogateescape")) for one in held]
        return {"running": running, **{name: self.farm.tasks(name) for name in self.model.places}}

    @invariant()
    def the_files_say_what_the_model_says(self) -> None:
        if hasattr(self, "model") and not self.farm.file("journal").exists():
            assert self.seen() == told(self.model)
            standing = self.model.standing()
            assert len(set(standing)) == len(standing)

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                self.finish()
        finally:
            for owner in self.owners:
                owner.kill()
            self.stack.close()

    def finish(self) -> None:
        """Whatever happened, the next farmer finishes it, each task once and in order."""
        self.everybody_dies()
        tasks = set(self.model.standing())
        self.join(0)
        self.recover(0)
        while self.model.left:
            (owner,) = self.owners
            self.settle_and_claim(0, [Outcome.FINISHED] * len(owner.held), 5)
        self.settle_and_claim(0, [Outcome.FINISHED] * 5, 0)
        self.the_files_say_what_the_model_says()
        assert sorted(self.model.places["finished"] + self.model.places["failed"]) == sorted(tasks)
        assert self.look() == self.model.counts()


def told(model: Model) -> dict[str, Any]:
    """What the files should say."""
    running = {owner: model.claim_text(owner) for owner, held in model.held.items() if held}
    return {
        "running": running,
        **{name: [(id, model.commands[id]) for id in ids] for name, ids in model.places.items()},
    }


QUIET: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.quick
class TestStore(StoreMachine.TestCase):
    """The same examples each time, as they are found: to make one shorter takes minutes."""

    settings = settings(
        max_examples=70, stateful_step_count=30, derandomize=True, phases=[Phase.generate], print_blob=True, **QUIET
    )


@pytest.mark.campaign
class TestStoreForLong(StoreMachine.TestCase):
    """New examples each time; a failure is made short and prints what repeats it."""

    settings = settings(max_examples=5000, stateful_step_count=50, print_blob=True, **QUIET)
