"""Several farmers of one host on one workdir: they come, go and die, and nothing is lost or done twice."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Farm, wait_until
from farmhands import (
    assert_nothing_runs_in,
    children_of,
    ended,
    kill,
    processes_in,
)

from taskfarmer.system import proctable

quick = pytest.mark.quick
in_ci = pytest.mark.components  # what waits for a look around, five seconds each, is not for every commit

#: Notes who ran it, and waits for `go`. Two at once are told in `twice`.
COUNTED = """\
exec 9> lock_$PROC_NUMBER
flock -n 9 || echo $PROC_NUMBER >> twice
echo $TASKFARMER_OWNER >> begun_$PROC_NUMBER
until [ -e go ]; do sleep 0.02; done
echo $TASKFARMER_OWNER >> ended_$PROC_NUMBER
"""


def counted_farm(farm: Farm, count: int) -> Farm:
    (farm.folder / "counted.sh").write_text(COUNTED)
    return farm.write(*["sh counted.sh"] * count)


def begun_by(farm: Farm, farmer: subprocess.Popen[str]) -> list[int]:
    """The tasks that a farmer has begun."""
    mine = f".{farmer.pid}."
    return sorted(int(path.name[6:]) for path in farm.folder.glob("begun_*") if mine in path.read_text())


def times(farm: Farm, what: str, id: int) -> int:
    """How often a task has begun, or ended."""
    path = farm.folder / f"{what}_{id}"
    return len(path.read_text().split()) if path.exists() else 0


def start(farm: Farm, slots: int) -> subprocess.Popen[str]:
    """Start a farmer and wait until all its slots are busy."""
    farmer = farm.start("-n", str(slots))
    wait_until(lambda: len(begun_by(farm, farmer)) == slots, what="its tasks")
    return farmer


def family(farmer: subprocess.Popen[str]) -> list[int]:
    """A farmer and its workers."""
    return [farmer.pid, *children_of(farmer.pid)]


def wait_for_a_look_around(farm: Farm, farmer: subprocess.Popen[str]) -> None:
    """Wait until a farmer has looked for the dead: it does so when its heart beats."""
    (folder,) = [path for path in (farm.workdir / "running").iterdir() if f".{farmer.pid}." in path.name]
    before = (folder / "alive").read_text()
    wait_until(lambda: (folder / "alive").read_text() != before, what="its heartbeat")


def go(farm: Farm) -> None:
    (farm.folder / "go").touch()


def kill_everything(farmer: subprocess.Popen[str]) -> None:
    """Farmer, workers and tasks die at once."""
    tasks = [task for worker in children_of(farmer.pid) for task in children_of(worker)]
    kill([*family(farmer), *tasks])
    ended(farmer)
    wait_until(lambda: not any(map(proctable.exists, tasks)), what="the end of its tasks")


@quick
def test_farmers_come_and_go_and_everything_is_done_once(farm: Farm) -> None:
    count = 900
    farm.write(*(f"echo $TASKFARMER_ATTEMPT >> ran_{id}" for id in range(count)))
    progress = lambda: len(farm.lines("finished"))  # noqa: E731
    stopped = farm.start("-n", "2")
    wait_until(lambda: progress() > 50, what="progress")
    killed = farm.start("-n", "2", start_new_session=True)
    stays = farm.start("-n", "2")
    wait_until(lambda: progress() > 200, what="progress")
    stopped.send_signal(signal.SIGTERM)
    wait_until(lambda: progress() > 350, what="progress")
    os.killpg(killed.pid, signal.SIGKILL)
    ended(killed)
    late = farm.start("-n", "2")
    assert ended(stopped)[0] in (0, 75)
    for farmer in (stays, late):
        status, said = ended(farmer, timeout=120)
        assert status == 0, said
    if progress() < count:  # what was killed last is taken over by whoever comes
        farm.run(check=0)
    farm.assert_each_task_stands_once(count)
    again = {int(line.split()[0]) for line in farm.lines("attempts")}
    ran = [(farm.folder / f"ran_{id}").read_text().split() for id in range(count)]
    assert {id for id, attempts in enumerate(ran) if len(attempts) > 1} <= again
    assert all(len(attempts) == len(set(attempts)) for attempts in ran), "each attempt has a number of its own"


@quick
def test_the_tasks_of_a_dead_farmer_are_taken_over_by_the_living_without_a_restart(farm: Farm) -> None:
    """With nothing left in `toprocess`, and while its own tasks run."""
    counted_farm(farm, 6)
    dead = start(farm, 2)
    living = farm.start("-n", "6")
    wait_until(lambda: len(begun_by(farm, living)) == 4, what="the others")
    kill_everything(dead)
    wait_until(lambda: len(begun_by(farm, living)) == 6, what="the dead one's tasks")
    assert [times(farm, "ended", id) for id in range(6)] == [0] * 6, "nothing has ended meanwhile"
    go(farm)
    status, said = ended(living)
    assert status == 0 and "is gone: 2 tasks are back" in said, said
    farm.assert_each_task_stands_once(6)
    assert not (farm.folder / "twice").exists()


#: What is hard to end, and hard to find; and says when it runs again whether the other is still there.
STUBBORN = """\
#!/bin/sh
lock=lock_$PROC_NUMBER
if [ $TASKFARMER_ATTEMPT -gt 1 ]; then exec flock -n $lock echo free; fi
case $1 in
    ignores-TERM) trap '' TERM HUP INT; flock -n $lock sleep 600; true ;;
    escaped) setsid flock -n $lock sleep 600 & sleep 600 ;;
    cleared) exec env -i PATH="$PATH" flock -n $lock sleep 600 ;;
    cleared-children) env -i PATH="$PATH" flock -n $lock sleep 600 & exec env -i PATH="$PATH" sleep 600 ;;
esac
"""
WAYS = ("ignores-TERM", "escaped", "cleared", "cleared-children")


def start_stubborn(farm: Farm, *ways: str) -> subprocess.Popen[str]:
    """A farm that runs these; its workers have written down in which session."""
    (farm.folder / "stubborn.sh").write_text(STUBBORN)
    farm.write(*(f"sh stubborn.sh {way}" for way in ways))
    farmer = farm.start("-n", str(len(ways)))
    wait_until(lambda: all(is_locked(farm.folder / f"lock_{id}") for id in range(len(ways))), what="the tasks")
    slots = list(farm.workdir.glob("running/*/slot_*"))
    assert len(slots) == len(ways)
    wait_until(lambda: all(b"start" in path.read_bytes() for path in slots), what="their start lines")
    return farmer


def is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@quick
def test_what_a_dead_farmer_left_running_is_ended_before_another_runs_it_again(farm: Farm) -> None:
    dead = start_stubborn(farm, *WAYS)
    kill(family(dead))
    ended(dead)
    assert all(is_locked(farm.folder / f"lock_{id}") for id in range(4)), "nobody is there to end them"
    said = farm.run(check=0).stdout
    assert [farm.log(id) for id in range(4)] == ["free\n"] * 4, said
    assert_nothing_runs_in(farm.folder)


@quick
@pytest.mark.parametrize("way", WAYS)
def test_what_a_dead_worker_left_running_is_ended_before_another_runs_it_again(farm: Farm, way: str) -> None:
    farmer = start_stubborn(farm, way)
    kill(children_of(farmer.pid))
    status, said = ended(farmer)
    assert (status, farm.log(0)) == (0, "free\n"), said
    assert_nothing_runs_in(farm.folder)


@quick
def test_what_was_recorded_before_everything_died_is_settled_and_not_run_again(farm: Farm) -> None:
    counted_farm(farm, 4)
    dead = start(farm, 2)
    fd = os.open(farm.workdir / "lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)  # so that the farmer settles nothing
    go(farm)
    claims = [line.split() for path in farm.workdir.glob("running/*/claims") for line in path.read_text().splitlines()]
    slots = list(farm.workdir.glob("running/*/slot_*"))
    tokens = {words[0] for words in claims}
    wait_until(lambda: tokens <= {line.split()[1] for line in ends_in(slots)}, what="the records of their end")
    kill_everything(dead)
    os.close(fd)
    assert farm.lines("finished") == []
    said = farm.run(check=0).stdout
    assert f"is gone: {len(tokens)} tasks had ended" in said
    farm.assert_each_task_stands_once(4)
    assert [times(farm, "begun", id) for id in range(4)] == [1] * 4


def ends_in(slots: list[Path]) -> list[str]:
    return [line for slot in slots for line in slot.read_text().splitlines() if line.startswith("end ")]


@quick
def test_everything_killed_at_once_is_run_again_by_the_next_farmer(farm: Farm) -> None:
    counted_farm(farm, 5)
    kill_everything(start(farm, 3))
    go(farm)
    said = farm.run(check=0).stdout
    assert "is gone: 3 tasks are back, no retry counted" in said
    farm.assert_each_task_stands_once(5)
    assert [(times(farm, "begun", id), times(farm, "ended", id)) for id in range(5)] == [(2, 1)] * 3 + [(1, 1)] * 2
    assert {line.split()[1] for line in farm.lines("attempts")} == {"0"}


@in_ci
def test_two_farmers_killed_at_once_are_both_taken_over(farm: Farm) -> None:
    counted_farm(farm, 6)
    dead = [start(farm, 2), start(farm, 2)]
    living = farm.start("-n", "6")
    wait_until(lambda: len(begun_by(farm, living)) == 2, what="the others")
    kill([pid for farmer in dead for pid in family(farmer)])
    for farmer in dead:
        ended(farmer)
    wait_until(lambda: len(begun_by(farm, living)) == 6, what="the dead ones' tasks")
    go(farm)
    status, said = ended(living)
    assert status == 0 and said.count("is gone: 2 tasks are back") == 2, said
    farm.assert_each_task_stands_once(6)
    assert not (farm.folder / "twice").exists()
    assert_nothing_runs_in(farm.folder)


@in_ci
@pytest.mark.parametrize("stopped", ["the farmer", "everybody"])
def test_nothing_is_taken_from_a_stopped_farmer(farm: Farm, stopped: str) -> None:
    """Stopped is not dead; it goes on where it was."""
    counted_farm(farm, 4)
    first = start(farm, 2)
    pids = family(first) if stopped == "everybody" else [first.pid]
    kill(pids, signal.SIGSTOP)
    second = farm.start("-n", "4")
    wait_until(lambda: len(begun_by(farm, second)) == 2, what="the others")
    wait_for_a_look_around(farm, second)
    go(farm)
    status, said = ended(second)
    assert "is gone" not in said and status == 0, said
    assert [times(farm, "begun", id) for id in range(4)] == [1] * 4
    kill(pids, signal.SIGCONT)
    status, said = ended(first)
    assert status == 0, said
    farm.assert_each_task_stands_once(4)
    assert [times(farm, "ended", id) for id in range(4)] == [1] * 4


@in_ci
def test_a_farmer_killed_alone_is_not_dead_before_its_workers_have_left(farm: Farm) -> None:
    """They finish and record what they run; only the rest of its claims is taken over, by a farmer that lives on."""
    counted_farm(farm, 5)
    killed = start(farm, 2)
    living = farm.start("-n", "3")
    wait_until(lambda: len(begun_by(farm, living)) == 3, what="the others")
    workers = children_of(killed.pid)
    killed.kill()
    ended_or_not = [times(farm, "ended", id) for id in range(5)]
    assert ended_or_not == [0] * 5
    assert all(map(proctable.exists, workers))
    wait_for_a_look_around(farm, living)
    go(farm)
    killed.communicate(timeout=20)
    status, said = ended(living)
    assert status == 0, said
    if "is gone" not in said:
        said = farm.run(check=0).stdout
    assert "is gone: 2 tasks had ended" in said
    farm.assert_each_task_stands_once(5)
    assert [times(farm, "begun", id) for id in range(5)] == [1] * 5
    assert processes_in(farm.folder) == []
