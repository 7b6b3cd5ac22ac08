"""Die at the first change to a file, the second, the third ... until it survives; then let another owner go on.

A scenario prepares a farm and performs one operation in a child. What is left is recovered and worked off by the parent:
each task then stands in exactly one place, with its command whole. Journals and slot files are also cut at every byte.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import pytest
from forked import DIED, DIED_AT_WRITE, SURVIVED, FileCalls, die_now, dying_at, folder_in_memory, in_child
from textfarm import TextFarm, ended, finished, work_off

from taskfarmer.model import Attempt, Claim, Outcome, State
from taskfarmer.stores import section, slotfile
from taskfarmer.stores.journal import parse
from taskfarmer.stores.textfiles import TextStore
from taskfarmer.system.leftovers import Leader

pytestmark = pytest.mark.quick

COMMANDS = [
    "echo zero",
    "printf '\udcff\udcfe'",
    "7 echo 'two'",
    "x" * 300,
    "echo four",
    'echo "five"',
    "true",
    "false",
]
Operate = Callable[[], object]


class Scenario(NamedTuple):
    """`prepare` runs in the child, undisturbed, and returns the operation that is to be disturbed."""

    name: str
    prepare: Callable[[TextFarm], Operate]
    standing: Callable[[TextFarm], None] = lambda farm: None
    ids: tuple[int, ...] = tuple(range(len(COMMANDS)))


def claimed(farm: TextFarm, want: int, retries: int = 0) -> tuple[TextStore, list[Claim]]:
    """A new owner that holds claims. Its presence lasts as long as its process."""
    store = farm.open(retries)
    presence = store.join(2)
    store.keep = presence  # type: ignore[attr-defined]
    return store, store.exchange([], want).claims


def dead(farm: TextFarm, want: int, outcomes: dict[int, Outcome]) -> None:
    """An owner has claimed and died; its worker had written down these outcomes."""

    def work() -> None:
        store, claims = claimed(farm, want)
        record(farm, store, [ended(claims[id], outcome, 1) for id, outcome in outcomes.items()])
        die_now()

    assert in_child(work) == -9


def record(farm: TextFarm, store: TextStore, attempts: list[Attempt]) -> None:
    """Write outcomes down as a worker does."""
    with open(farm.slot_file(store), "ab") as slot:
        for attempt in attempts:
            slot.write(slotfile.end_line(attempt))


def few_are_many() -> None:
    """Let a change of a few lines take the way of a large one."""
    section._FEW = 2  # type: ignore[attr-defined]


# The operations


def load_new(farm: TextFarm) -> Operate:
    farm.write(as_list(COMMANDS))
    return farm.reload


def load_new_large(farm: TextFarm) -> Operate:
    few_are_many()
    return load_new(farm)


def load_grown(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS[:5])
    claimed(farm, 1)
    farm.write(as_list(COMMANDS))
    return farm.reload


def load_grown_large(farm: TextFarm) -> Operate:
    operate = load_grown(farm)
    few_are_many()
    return operate


def load_edited(farm: TextFarm) -> Operate:
    farm.load("to be dropped", *COMMANDS[:6])
    farm.write(as_list(COMMANDS))
    return farm.reload


def load_replacing(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    fail(farm, 3)
    return lambda: farm.reload(replace=True)


def load_ancestors(farm: TextFarm) -> Operate:
    farm.path.mkdir()
    farm.file("toprocess").write_bytes(as_list(["6 true", "7 false"]))
    farm.file("finished").write_bytes(as_list(["0 echo zero"]))
    farm.file("failed").write_bytes(as_list(["4 echo four"]))
    return load_new(farm)


def claim(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    store, _ = claimed(farm, 1)
    return lambda: store.exchange([], 3)


def turn_later_round(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    store, _ = claimed(farm, 0)
    return lambda: store.exchange([], 3)


def take_all_of_later(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    store, _ = claimed(farm, 0)
    return lambda: store.exchange([], 99)


def settle(farm: TextFarm) -> Operate:
    return settle_and_claim(farm, want=0)


def settle_and_claim(farm: TextFarm, want: int = 2) -> Operate:
    farm.load(*COMMANDS)
    store, claims = claimed(farm, 4)
    attempts = [ended(claims[0]), ended(claims[1], Outcome.FAILED, 1), ended(claims[2])]
    record(farm, store, attempts)
    return lambda: store.exchange(attempts, want)


def settle_interrupted(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    store, claims = claimed(farm, 4)
    attempts = [ended(claims[0]), *(ended(claim, Outcome.INTERRUPTED) for claim in claims[1:])]
    record(farm, store, attempts)
    return lambda: store.exchange(attempts, 0)


def settle_with_retries(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    store, claims = claimed(farm, 4, retries=2)
    attempts = [ended(claim, Outcome.FAILED, 1) for claim in claims]
    return lambda: store.exchange(attempts, 2)


def give_back(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    store, claims = claimed(farm, 4)
    return lambda: store.exchange([], 0, claims[1:])


def fail(farm: TextFarm, count: int) -> None:
    with farm.farmer() as store:
        store.exchange([ended(claim, Outcome.FAILED, 1) for claim in store.exchange([], count).claims], 0)


def requeue_all(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    fail(farm, 4)
    store = farm.open()
    return lambda: store.requeue(None)


def requeue_some(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    fail(farm, 4)
    store = farm.open()
    return lambda: store.requeue([1, 2])


def requeue_many(farm: TextFarm) -> Operate:
    operate = requeue_all(farm)
    few_are_many()
    return operate


def add(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS[:5])
    store = farm.open()
    return lambda: store.add(COMMANDS[5:])


def add_many(farm: TextFarm) -> Operate:
    operate = add(farm)
    few_are_many()
    return operate


def recover(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    dead(farm, 4, {0: Outcome.FINISHED, 1: Outcome.FAILED, 2: Outcome.FINISHED})
    store = farm.open()
    return store.recover


def repair_by_hand_retry(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    fail(farm, 4)
    with open(farm.file("toprocess"), "ab") as toprocess:
        toprocess.write(farm.file("failed").read_bytes().rstrip(b"\n"))
    return farm.reload


def bring_back_removed(farm: TextFarm) -> Operate:
    farm.load(*COMMANDS)
    fail(farm, 1)
    farm.file("toprocess").unlink()
    return farm.reload


# What must be true whatever the moment


def recorded_outcomes_hold(farm: TextFarm) -> None:
    assert farm.ids("finished").count(0) == 1
    assert farm.ids("failed") == [1]


def all_or_none_are_requeued(farm: TextFarm) -> None:
    assert farm.ids("failed") in ([], [0, 1, 2, 3])


def some_or_none_are_requeued(farm: TextFarm) -> None:
    assert farm.ids("failed") in ([0, 3], [0, 1, 2, 3])


def all_or_none_were_added(farm: TextFarm) -> None:
    assert len(farm.standing()) in (5, 8)


def the_list_is_there(farm: TextFarm) -> None:
    """What stands in the farm is the list, without what was dropped from it; ids differ."""
    commands = [command for _, command in farm.standing().values() if command != "to be dropped"]
    assert sorted(commands) == sorted(COMMANDS)


SCENARIOS = [
    Scenario("load a new list", load_new),
    Scenario("load a new large list", load_new_large),
    Scenario("load a grown list", load_grown),
    Scenario("load a list grown by much", load_grown_large),
    Scenario("load an edited list", load_edited, the_list_is_there, ()),
    Scenario("replace the list", load_replacing),
    Scenario("take over the ancestor's workdir", load_ancestors),
    Scenario("claim", claim),
    Scenario("claim and turn later round", turn_later_round),
    Scenario("claim all there is", take_all_of_later),
    Scenario("settle", settle, recorded_outcomes_hold),
    Scenario("settle and claim", settle_and_claim, recorded_outcomes_hold),
    Scenario("settle interrupted", settle_interrupted),
    Scenario("settle with retries", settle_with_retries),
    Scenario("give back", give_back),
    Scenario("requeue all", requeue_all, all_or_none_are_requeued),
    Scenario("requeue some", requeue_some, some_or_none_are_requeued),
    Scenario("requeue many", requeue_many, all_or_none_are_requeued),
    Scenario("add", add, all_or_none_were_added, ()),
    Scenario("add many", add_many, all_or_none_were_added, ()),
    Scenario("recover", recover, recorded_outcomes_hold),
    Scenario("repair cat failed >> toprocess", repair_by_hand_retry),
    Scenario("repair a removed toprocess", bring_back_removed),
]


def as_list(commands: list[str]) -> bytes:
    return "".join(f"{command}\n" for command in commands).encode("utf-8", "surrogateescape")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with folder_in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="module")
def killed(request: pytest.FixtureRequest) -> Iterator[dict[str, int]]:
    """How many points were killed in each scenario; told and checked once all have run."""
    points: dict[str, int] = {}
    yield points
    if len(points) == len(SCENARIOS):
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{sum(points.values())} points were killed: {points}")
        assert sum(points.values()) >= 100


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_death_at_any_step_loses_no_task(scenario: Scenario, folder: Path, killed: dict[str, int]) -> None:
    farms = []
    status, number = DIED, 0
    while status != SURVIVED:
        number += 1
        status = die(scenario, farms, folder / f"{number}", number)
        if status == DIED_AT_WRITE:
            assert die(scenario, farms, folder / f"{number}torn", number, torn=True) == status
    assert number > 5, "the operation changed nothing?"
    # A journal whose writer's name is torn is waited for, a second each: so all at once.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda farm: go_on(scenario, farm), farms))
    killed[scenario.name] = len(farms) - 1


def die(scenario: Scenario, farms: list[TextFarm], folder: Path, number: int, torn: bool = False) -> int:
    """Prepare a farm and perform the operation in a child that dies on the way; how it ended."""
    folder.mkdir()
    farm = TextFarm(folder)
    farms.append(farm)

    def work() -> None:
        operate = scenario.prepare(farm)
        dying_at(number, torn).armed = True
        operate()

    status = in_child(work)
    assert status in (SURVIVED, DIED, DIED_AT_WRITE)
    return status


def go_on(scenario: Scenario, farm: TextFarm) -> None:
    """Start the same line again, as a user does, and look at what came of it."""
    farm.reload()
    ran = work_off(farm)
    assert len({id for id, _ in ran}) == len(ran), "a task ran twice after the crash"
    scenario.standing(farm)
    standing = farm.standing()
    if scenario.ids:
        assert sorted(standing) == list(scenario.ids)
        assert {id: command for id, (_, command) in standing.items()} == dict(enumerate(COMMANDS))
    assert {place for place, _ in standing.values()} <= {"finished", "failed"}
    assert list((farm.path / "running").iterdir()) == []
    with_counts = farm.open().counts()
    assert with_counts[State.FINISHED] + with_counts[State.FAILED] == len(standing)


# Torn files


def crashed_after_writing_its_record(farm: TextFarm) -> None:
    """Tasks 0 and 1 are claimed; their owner died when settling them and claiming 2 and 3 was written down."""

    def work() -> None:
        farm.load(*COMMANDS)
        store, claims = claimed(farm, 2)

        def die_once_written(count: int, name: str, real, args):
            done = real(*args)
            if name == "pwrite" and parse(bytes(args[1]))[1] is not None:
                die_now()
            return done

        FileCalls(die_once_written).armed = True
        store.exchange([ended(claims[0]), ended(claims[1], Outcome.FAILED, 1)], 2)

    assert in_child(work) == -9
    assert parse(farm.file("journal").read_bytes())[1] is not None


def damaged(whole: bytes) -> Iterator[tuple[str, bytes]]:
    for length in range(len(whole)):
        yield f"cut at {length}", whole[:length]
    for length in range(0, len(whole), 29):
        yield f"zeros from {length}", whole[:length].ljust(len(whole), b"\0")
        yield f"a bit at {length}", whole[:length] + bytes([whole[length] ^ 1]) + whole[length + 1 :]


def test_a_journal_cut_at_any_byte_is_done_wholly_or_not_at_all(folder: Path) -> None:
    (folder / "crashed").mkdir()
    crashed = TextFarm(folder / "crashed")
    crashed_after_writing_its_record(crashed)
    whole = crashed.file("journal").read_bytes()

    def one(case: tuple[int, str, bytes]) -> str | None:
        number, what, journal = case
        here = folder / str(number)
        shutil.copytree(folder / "crashed", here)
        farm = TextFarm(here)
        farm.file("journal").write_bytes(journal)
        counts = farm.open().counts()
        settled = counts[State.FINISHED], counts[State.FAILED]
        assert settled == ((1, 1) if journal == whole else (0, 0)), what
        assert counts[State.RUNNING] == 2 and sum(counts.values()) == len(COMMANDS), what
        work_off(farm)
        assert sorted((id, command) for id, (_, command) in farm.standing().items()) == list(enumerate(COMMANDS)), what
        shutil.rmtree(here)
        return what

    cases = [(number, what, journal) for number, (what, journal) in enumerate([*damaged(whole), ("whole", whole)])]
    # A writer's name that is torn is waited for, a second each: so many at once.
    with ThreadPoolExecutor(64) as pool:
        assert len(list(pool.map(one, cases))) > len(whole)


def test_a_slot_file_cut_at_any_byte_tells_what_is_whole_in_it(folder: Path) -> None:
    claims = [Claim(token, token + 10, 1, 0, "x") for token in range(3)]
    outcomes = [Outcome.FINISHED, Outcome.FAILED, Outcome.OUT_OF_MEMORY]
    attempts = [ended(claim, outcome, 137) for claim, outcome in zip(claims, outcomes)]
    lines = [slotfile.end_line(attempt) for attempt in attempts]
    lines.insert(1, slotfile.start_line(7, Leader(4711, 8812345)))
    text = b"".join(lines)
    for length in range(len(text) + 1):
        # A line is known once all but its last newline is there; the next writer's line is known whatever was torn.
        known = sum(b"end" in line and sum(map(len, lines[: n + 1])) - 1 <= length for n, line in enumerate(lines))
        ends = list(slotfile.read_ends(text[:length]))
        assert [(end.token, end.outcome) for end in ends] == list(enumerate(outcomes))[:known]
        after = slotfile.end_line(ended(Claim(99, 9, 1, 0, "x"), Outcome.KILLED, 9))
        assert [end.token for end in slotfile.read_ends(text[:length] + after)] == [*range(known), 99]
    (end, *_) = slotfile.read_ends(text)
    assert end == (0, Outcome.FINISHED, 137, 1_700_000_000.25, 1.5, 0.25, 1000)
    assert list(slotfile.read_starts(text)) == [(7, Leader(4711, 8812345))]


def test_a_line_with_any_flipped_bit_in_a_slot_file_is_skipped() -> None:
    line = slotfile.end_line(ended(Claim(3, 3, 1, 0, "x"), Outcome.FAILED, 1))
    for at in range(1, len(line) - 1):
        for bit in range(8):
            torn = line[:at] + bytes([line[at] ^ (1 << bit)]) + line[at + 1 :]
            assert list(slotfile.read_ends(torn)) == []


def test_recovery_believes_only_whole_lines_of_a_torn_slot_file(folder: Path) -> None:
    (folder / "dead").mkdir()
    farm = TextFarm(folder / "dead")
    farm.load(*COMMANDS)
    dead(farm, 3, {0: Outcome.FAILED, 1: Outcome.FAILED})
    (slot,) = farm.path.glob("running/*/slot_0")
    text = slot.read_bytes()
    first = text.index(b"\n", text.index(b"end"))
    shutil.copytree(farm.path, folder / "kept")
    for length in sorted({*range(0, len(text), 7), first - 1, first, first + 1, len(text) - 2, len(text) - 1}):
        shutil.rmtree(farm.path)
        shutil.copytree(folder / "kept", farm.path)
        os.truncate(slot, length)
        with farm.farmer() as store:
            (recovered,) = store.recover()
            settled = (length >= first) + (length >= len(text) - 1)
            assert (recovered.settled, recovered.requeued) == (settled, 3 - settled)
            assert farm.ids("failed") == [0, 1][:settled]
            claims = store.exchange([], 9).claims
            assert [claim.id for claim in claims] == list(range(settled, 8))
            store.exchange(finished(claims), 0)
        assert sorted(farm.standing()) == list(range(8))


# A journal that comes back: its removal is not synced


def settle_all_and_leave(farm: TextFarm) -> Operate:
    store, claims = claimed(farm, len(COMMANDS))
    store.exchange(finished(claims[:2]), 0)
    return lambda: (store.exchange(finished(claims[2:]), 0), store.leave())


def take_over_and_remove(farm: TextFarm) -> Operate:
    dead(farm, len(COMMANDS), dict.fromkeys(range(len(COMMANDS)), Outcome.FINISHED))
    store, _ = claimed(farm, 0)
    return lambda: (store.recover(), store.leave())


@pytest.mark.parametrize("prepare", [settle_all_and_leave, take_over_and_remove])
def test_a_journal_that_a_power_cut_brings_back_after_the_owner_is_gone_changes_nothing(prepare, folder: Path) -> None:
    farm = TextFarm(folder)
    farm.load(*COMMANDS)

    def work() -> None:
        def keep_a_copy(count: int, name: str, real, args):
            if name == "unlink" and args[0] == str(farm.file("journal")):
                shutil.copy(args[0], folder / "brought back")
            return real(*args)

        operate = prepare(farm)
        FileCalls(keep_a_copy).armed = True
        operate()

    assert in_child(work) == SURVIVED
    assert list((farm.path / "running").iterdir()) == []
    shutil.copy(folder / "brought back", farm.file("journal"))
    assert farm.open().counts()[State.FINISHED] == len(COMMANDS)
    assert work_off(farm) == []
    assert farm.ids("finished") == list(range(len(COMMANDS)))


def test_a_farm_can_be_made_in_a_folder_that_cannot_be_read(folder: Path) -> None:
    """Its name cannot be synced there."""
    folder.chmod(0o755)
    TextFarm(folder).load("import what it takes")
    (folder / "blind").mkdir()
    farm = TextFarm(folder / "blind")

    def work() -> None:
        farm.tasklist.parent.chmod(0o333)
        if os.geteuid() == 0:
            os.setuid(65534)
        farm.load(*COMMANDS)

    assert in_child(work) == SURVIVED
    assert len(farm.ids("later")) == len(COMMANDS)
