"""SIGKILL: of a worker, of all of them, of the farmer, of everybody; and what the next start makes of it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest
from conftest import Farm, wait_until
from farmhands import (
    assert_nothing_runs_in,
    children_of,
    ended,
    kill,
    parent_of,
    processes_in,
    wait_for,
)

pytestmark = pytest.mark.quick

#: Says in a file of its own that it began, waits for `go`, says that it ended. Two at once are told in `twice`.
COUNTED = """\
me=task_$PROC_NUMBER
exec 9> lock_$PROC_NUMBER
flock -n 9 || { echo $PROC_NUMBER >> twice; exit 9; }
echo begun >> $me
echo $$ > pid_$PROC_NUMBER
until [ -e go ]; do sleep 0.02; done
echo ended >> $me
"""


def counted_farm(farm: Farm, count: int) -> Farm:
    (farm.folder / "counted.sh").write_text(COUNTED)
    return farm.write(*["sh counted.sh"] * count)


def runs(farm: Farm, id: int) -> list[str]:
    """What task `id` has said: `begun` and `ended`, once for each time."""
    return (farm.folder / f"task_{id}").read_text().split()


def worker_of(farm: Farm, id: int) -> int:
    """The pid of the worker that runs a task of `counted_farm`."""
    return parent_of(int((farm.folder / f"pid_{id}").read_text()))


def start_counted(farm: Farm, count: int, *flags: str) -> subprocess.Popen[str]:
    """Start a farm of which the first `count` tasks run."""
    farmer = farm.start("-n", str(count), *flags, start_new_session=True)
    wait_for(farm, *(f"pid_{id}" for id in range(count)))
    return farmer


def go(farm: Farm) -> None:
    (farm.folder / "go").touch()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, as another farmer would."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


# A worker


def test_a_killed_worker_loses_no_task(farm: Farm) -> None:
    farmer = start_counted(counted_farm(farm, 6), 3)
    worker = worker_of(farm, 1)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: runs(farm, 1) == ["begun", "begun"], what="task 1 again")
    go(farm)
    status, said = ended(farmer)
    assert status == 0, said
    assert f"worker {worker} of slot" in said
    assert "will be tried again" in said
    farm.assert_each_task_stands_once(6)
    assert len(farm.ids("finished")) == 6
    assert runs(farm, 1) == ["begun", "begun", "ended"]
    assert [runs(farm, id) for id in (0, 2, 3, 4, 5)] == [["begun", "ended"]] * 5
    assert not (farm.folder / "twice").exists()


#: Holds a lock; the second time it only says whether the lock was free.
HOLD = """\
#!/bin/sh
if [ $TASKFARMER_ATTEMPT -gt 1 ]; then exec flock -n lock echo free; fi
exec flock -n lock sleep 600
"""
LEFTOVERS = [
    "./hold",
    "./hold; true",
    "true && ./hold",
    "exec ./hold",
    "./hold & wait",
    "setsid ./hold & wait",
    "env A=1 ./hold",
]


def start_holding(farm: Farm, line: str) -> subprocess.Popen[str]:
    (farm.folder / "hold").write_text(HOLD)
    (farm.folder / "hold").chmod(0o755)
    farmer = farm.write(line).start("-n", "1")
    wait_until(lambda: processes_in(farm.folder, "sleep 600"), what="the task")
    return farmer


@pytest.mark.parametrize("line", LEFTOVERS)
def test_what_a_killed_worker_was_running_is_ended_before_it_runs_again(farm: Farm, line: str) -> None:
    farmer = start_holding(farm, line)
    os.kill(children_of(farmer.pid)[0], signal.SIGKILL)
    status, said = ended(farmer)
    assert (status, farm.log(0)) == (0, "free\n"), said
    assert_nothing_runs_in(farm.folder)


@pytest.mark.parametrize("line", LEFTOVERS)
def test_what_a_killed_farm_was_running_is_ended_before_it_runs_again(farm: Farm, line: str) -> None:
    farmer = start_holding(farm, line)
    kill([farmer.pid, *children_of(farmer.pid)])
    ended(farmer)
    assert processes_in(farm.folder, "sleep 600"), "nobody is there to end it"
    said = farm.run("-n", "1", check=0).stdout
    assert farm.log(0) == "free\n", said
    assert "is gone" in said
    assert_nothing_runs_in(farm.folder)


def test_a_task_whose_worker_dies_again_and_again_fails(farm: Farm) -> None:
    """A task that kills its worker must not do so for ever."""
    farm.write("echo x >> tries; kill -9 $PPID; sleep 600", "true")
    done = farm.run("-n", "1", check=1)
    farm.assert_each_task_stands_once(2)
    assert farm.ids("failed") == [0]
    assert (farm.folder / "tries").read_text() == "x\n" * 2, done.stdout
    assert_nothing_runs_in(farm.folder)


def test_a_killed_idle_worker_costs_nothing(farm: Farm) -> None:
    farmer = counted_farm(farm, 2).start("-n", "2")
    wait_for(farm, "pid_0", "pid_1")
    kill([int((farm.folder / "pid_1").read_text())])  # so that its worker is idle
    wait_until(lambda: len(farm.ids("failed")) == 1, what="the task that was killed")
    idle = [pid for pid in children_of(farmer.pid) if not children_of(pid)]
    assert len(idle) == 1
    os.kill(idle[0], signal.SIGKILL)
    wait_until(lambda: len(set(children_of(farmer.pid)) - set(idle)) == 2, what="a new worker")
    go(farm)
    status, said = ended(farmer)
    assert status == 1, said
    assert f"worker {idle[0]} of slot" in said
    farm.assert_each_task_stands_once(2)
    assert (farm.ids("finished"), farm.ids("failed")) == ([0], [1])


def test_all_workers_killed_at_once_lose_no_task(farm: Farm) -> None:
    farmer = start_counted(counted_farm(farm, 8), 4)
    kill(children_of(farmer.pid))
    wait_until(lambda: all(runs(farm, id) == ["begun", "begun"] for id in range(4)), what="all of them again")
    go(farm)
    status, said = ended(farmer)
    assert status == 0, said
    farm.assert_each_task_stands_once(8)
    assert not (farm.folder / "twice").exists()


def test_workers_killed_amid_short_tasks_lose_no_task(farm: Farm) -> None:
    farm.write(*(f"echo x >> ran_{id}" for id in range(3000)))
    farmer = farm.start("-n", "3", "--retries", "2")  # a task that is hit twice has failed, once
    for _ in range(3):
        before = len(farm.lines("finished"))
        wait_until(lambda: len(farm.lines("finished")) > before + 300, what="progress")  # noqa: B023
        kill(children_of(farmer.pid)[:2])
    status, said = ended(farmer)
    assert status == 0, said
    farm.assert_each_task_stands_once(3000)
    assert all((farm.folder / f"ran_{id}").exists() for id in range(3000))


def test_a_worker_replaced_while_the_farmer_waits_for_the_lock_gets_its_slot(farm: Farm) -> None:
    """The new one stands at the door before the farmer had time to see that the old one is dead."""
    (farm.folder / "block.sh").write_text("touch began_$PROC_NUMBER; until [ -e go_$PROC_NUMBER ]; do sleep 0.02; done")
    farmer = farm.write(*["sh block.sh"] * 3).start("-n", "2")
    wait_for(farm, "began_0", "began_1")
    before = set(children_of(farmer.pid))
    with locked(farm.workdir / "lock"):
        (farm.folder / "go_0").touch()
        (farm.folder / "go_2").touch()
        # The end of task 0 sends the farmer to the store.
        wait_until(lambda: any(not children_of(pid) for pid in before), what="an idle worker")
        wait_until(lambda: "nanosleep" in Path(f"/proc/{farmer.pid}/wchan").read_text(), what="waiting for the lock")
        busy = [pid for pid in before if children_of(pid)]
        kill(busy)
        wait_until(lambda: len(set(children_of(farmer.pid)) - before) == 1, what="a new worker")
    (farm.folder / "go_1").touch()
    status, said = ended(farmer)
    assert status == 0, said
    farm.assert_each_task_stands_once(3)


def test_a_worker_replaced_at_the_very_end_does_not_keep_the_farmer(farm: Farm) -> None:
    """The new one comes when nobody opens the door any more."""
    farmer = start_counted(counted_farm(farm, 2), 2)
    with locked(farm.workdir / "timeline.json"):  # the last thing the farmer does before it dismisses its workers
        go(farm)
        wait_until(lambda: len(farm.lines("finished")) == 2, what="the end of the tasks")
        before = set(children_of(farmer.pid))
        kill(list(before)[:1])
        wait_until(lambda: set(children_of(farmer.pid)) - before, what="a new worker")
    status, said = ended(farmer)
    assert status == 0, said
    assert_nothing_runs_in(farm.folder)


# The farmer


def stop_in_an_exchange(farm: Farm, farmer: subprocess.Popen[str]) -> None:
    """Stop a farmer at a moment when it has the lock and the journal."""
    journal = str(farm.workdir / "journal")

    def is_inside() -> bool:
        if not os.path.exists(journal):
            return False
        farmer.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, farmer.pid, os.WSTOPPED | os.WNOWAIT)
        if os.path.exists(journal):
            return True
        farmer.send_signal(signal.SIGCONT)
        return False

    deadline = time.monotonic() + 30
    while not is_inside():  # without a pause: an exchange takes a few milliseconds
        assert time.monotonic() < deadline, "no exchange was met within 30 s"


def test_a_farmer_killed_in_an_exchange_does_not_hold_the_lock_through_its_workers(farm: Farm) -> None:
    """A lock lives as long as any copy of the descriptor: those that workers inherit must not count."""
    counted_farm(farm, 1)
    with farm.tasklist.open("a") as tasks:
        tasks.write("sleep 0.05\n" * 400)
    first = farm.start("-n", "2")
    wait_for(farm, "pid_0")
    stop_in_an_exchange(farm, first)
    first.kill()
    first.wait()
    before = len(farm.lines("finished"))
    second = farm.start("-n", "1")
    wait_until(lambda: len(farm.lines("finished")) > before + 5, what="the second farmer's work")
    assert runs(farm, 0) == ["begun"], "the worker of the first one still runs its task"
    go(farm)
    kill([second.pid], signal.SIGTERM)
    ended(second)


def test_workers_of_a_killed_farmer_finish_and_record_their_task_and_leave(farm: Farm) -> None:
    farmer = start_counted(counted_farm(farm, 6), 2)
    farmer.kill()
    farmer.wait()
    go(farm)
    wait_until(lambda: not processes_in(farm.folder), what="the end of the workers")
    assert [runs(farm, id) for id in (0, 1)] == [["begun", "ended"]] * 2
    assert not any((farm.folder / f"task_{id}").exists() for id in range(2, 6))
    said = farm.run("-n", "2", check=0).stdout
    assert "is gone" in said
    farm.assert_each_task_stands_once(6)
    assert [runs(farm, id) for id in range(6)] == [["begun", "ended"]] * 6


def test_workers_of_a_killed_farmer_do_not_start_the_rest_of_their_batch(farm: Farm) -> None:
    count = 3000
    farm.write(*(f"echo x >> ran_{id}" for id in range(count)))
    farmer = farm.start("-n", "3")
    wait_until(lambda: len(farm.lines("finished")) > 300, what="progress")
    farmer.kill()
    farmer.wait()
    wait_until(lambda: not processes_in(farm.folder), what="the end of the workers")
    assert not (farm.folder / f"ran_{count - 1}").exists()
    farm.run("-n", "3", check=0)
    farm.assert_each_task_stands_once(count)
    assert [(farm.folder / f"ran_{id}").read_text() for id in range(count)] == ["x\n"] * count


def test_a_killed_farm_loses_nothing_and_doubles_only_what_was_running(farm: Farm) -> None:
    """Farmer and workers die at once, in the middle of short tasks, several times."""
    count = 3000
    farm.write(*(f"echo x >> ran_{id}" for id in range(count)))
    for progress in (1, 700, 1400):
        farmer = farm.start("-n", "3", start_new_session=True)
        wait_until(lambda: farmer.poll() is not None or len(farm.lines("finished")) > progress)  # noqa: B023
        os.killpg(farmer.pid, signal.SIGKILL)
        ended(farmer)
    farm.run("-n", "3", check=0)
    farm.assert_each_task_stands_once(count)
    again = {int(line.split()[0]) for line in farm.lines("attempts")}
    ran = [(farm.folder / f"ran_{id}").read_text().count("x") for id in range(count)]
    assert min(ran) == 1
    assert {id for id, times in enumerate(ran) if times > 1} <= again


def test_a_restart_ends_what_a_killed_farm_left_running_before_it_runs_it_again(farm: Farm) -> None:
    farmer = start_counted(counted_farm(farm, 5), 3)
    os.killpg(farmer.pid, signal.SIGKILL)
    ended(farmer)
    assert len(processes_in(farm.folder, "counted.sh")) >= 3
    restarted = farm.start("-n", "3")
    wait_until(lambda: all(runs(farm, id) == ["begun", "begun"] for id in range(3)), what="all of them again")
    go(farm)
    status, said = ended(restarted)
    assert status == 0, said
    assert [runs(farm, id) for id in range(5)] == [["begun", "begun", "ended"]] * 3 + [["begun", "ended"]] * 2
    assert not (farm.folder / "twice").exists()
    farm.assert_each_task_stands_once(5)


def test_a_restart_while_the_workers_still_run_does_not_take_their_tasks(farm: Farm) -> None:
    """The farmer is dead, its workers hold its presence: it is not dead before they have left."""
    farmer = start_counted(counted_farm(farm, 4), 2)
    farmer.kill()
    farmer.wait()
    second = farm.start("-n", "2")
    wait_for(farm, "pid_2", "pid_3")
    go(farm)
    status, said = ended(second)
    assert status in (0, 75), said
    farm.run("-n", "2")
    farm.assert_each_task_stands_once(4)
    assert [runs(farm, id) for id in range(4)] == [["begun", "ended"]] * 4
    assert not (farm.folder / "twice").exists()


def test_the_last_farmer_does_not_leave_before_it_has_taken_over_the_dead(farm: Farm) -> None:
    """The other died so lately that it was alive when we last looked."""
    first = start_counted(counted_farm(farm, 4), 2)
    second = farm.start("-n", "2")
    wait_for(farm, "pid_2", "pid_3")
    os.killpg(first.pid, signal.SIGKILL)
    ended(first)
    go(farm)
    status, said = ended(second)
    assert status == 0, said
    farm.assert_each_task_stands_once(4)
    assert len(farm.ids("finished")) == 4, said
    assert not (farm.folder / "twice").exists()


def test_a_stopped_farmer_is_not_dead(farm: Farm) -> None:
    farmer = start_counted(counted_farm(farm, 3), 2)
    everybody = [farmer.pid, *children_of(farmer.pid)]
    kill(everybody, signal.SIGSTOP)
    second = farm.run("-n", "2", "--timeout", "1")
    assert runs(farm, 0) == ["begun"], second.stdout
    go(farm)
    kill(everybody, signal.SIGCONT)
    status, said = ended(farmer)
    assert status == 0, said
    farm.assert_each_task_stands_once(3)
    assert [runs(farm, id)[-1] for id in range(3)] == ["ended"] * 3
    assert [runs(farm, id).count("ended") for id in range(3)] == [1] * 3
