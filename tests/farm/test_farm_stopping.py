"""A stop ends what runs, with everything it started, gives back every claim, and loses nothing."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
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
    processes_in,
    wait_for,
)

pytestmark = pytest.mark.quick

STOPPING = ("INT", "TERM", "USR1", "USR2", "HUP")

#: Blocks in one of the ways in which tasks are hard to end; with a file `go` in the folder it ends at once.
BLOCK = """\
if [ -e go ]; then exit 0; fi
case $1 in
    plain) ;;
    nohup) setsid nohup sleep 601 > /dev/null 2>&1 & ;;
    double) ( setsid sh -c 'sleep 602 & exec sleep 602' & ) ;;
    stubborn) trap '' TERM INT HUP USR1 USR2 ;;
esac
touch started_$PROC_NUMBER
sleep 600
sleep 600
sleep 600
"""
HARD = ["plain", "nohup", "double", "stubborn"]


def blocking_farm(farm: Farm) -> Farm:
    """Four slots: a task that has ended and left two daemons, four that block; three more wait."""
    (farm.folder / "block.sh").write_text(BLOCK)
    leave = "if [ ! -e go ]; then setsid sleep 603 & setsid sleep 603 & fi; touch started_0"
    return farm.write(leave, *(f"sh block.sh {how}" for how in HARD), "true", "true", "echo done")


def start_blocking(farm: Farm, *flags: str) -> subprocess.Popen[str]:
    farmer = blocking_farm(farm).start("-n", "4", *flags, start_new_session=True)
    wait_for(farm, *(f"started_{id}" for id in range(5)))
    wait_until(lambda: len(processes_in(farm.folder, "sleep 60")) == 4 + 1 + 2 + 2, what="sleeps")
    return farmer


def assert_all_is_back(farm: Farm) -> None:
    assert_nothing_runs_in(farm.folder)
    assert farm.ids("finished") == [0]
    assert farm.ids("failed") == []
    farm.assert_each_task_stands_once(8)


def assert_the_same_line_finishes_it(farm: Farm, *flags: str) -> None:
    (farm.folder / "go").touch()
    farm.run("-n", "4", *flags, check=0)
    farm.assert_each_task_stands_once(8)
    assert sorted(farm.ids("finished")) == list(range(8))
    assert_nothing_runs_in(farm.folder)


def test_a_stop_ends_the_task_of_a_worker_that_does_not_answer(farm: Farm) -> None:
    farmer = farm.write("touch started_0; sleep 600", "true").start("-n", "1", "--grace", "0.1")
    wait_for(farm, "started_0")
    workers = children_of(farmer.pid)
    kill(workers, signal.SIGSTOP)
    farmer.send_signal(signal.SIGTERM)
    status, said = ended(farmer)
    assert status == 75, said
    assert_nothing_runs_in(farm.folder)
    farm.assert_each_task_stands_once(2)
    assert farm.ids("failed") == [], said


#: As srun does not answer when Slurm is slow. Killed, its helper ends the step in its own time: here, once it may.
SLOW_SRUN = """
import os, signal, time
open("/proc/self/comm", "w").write("srun")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
srun = os.getpid()
if not os.fork():
    while os.getppid() == srun or not os.path.exists("may_end"):
        time.sleep(0.02)
    open("step_ended", "w")
    os._exit(0)
open("started_0", "w")
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("grace", "signals"), [("0.2", 1), ("10m", 2)], ids=["after the grace", "at the second signal"]
)
def test_a_stop_does_not_wait_for_a_slow_srun_and_its_task_waits_for_the_end_of_the_step(
    farm: Farm, grace: str, signals: int
) -> None:
    """srun is killed, and its helper is left to end the step. Until it has, whoever comes next does not run the task."""
    (farm.folder / "srun.py").write_text(SLOW_SRUN)
    farmer = farm.write(f"test -e step_ended || exec {sys.executable} srun.py").start("-n", "1", "--grace", grace)
    wait_for(farm, "started_0")
    for _ in range(signals):
        farmer.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # or the kernel makes one of two
    status, said = ended(farmer, timeout=60)
    [helper] = processes_in(farm.folder, "srun.py")
    assert status == 75 and f"runs on: process {helper} of root" in said and "1 left" in said, said
    assert farm.waiting() == farm.ids("failed") == []
    again = farm.start("-n", "1")
    assert again.stdout is not None and "pytaskfarmer" in again.stdout.readline()
    (farm.folder / "may_end").touch()
    status, said = ended(again)
    assert status == 0 and "is gone: 1 task is back" in said, said
    farm.assert_each_task_stands_once(1)


@pytest.mark.parametrize("name", STOPPING)
def test_a_signal_to_the_farmer_ends_whole_trees_and_gives_every_claim_back(farm: Farm, name: str) -> None:
    farmer = start_blocking(farm, "--grace", "1")
    farmer.send_signal(getattr(signal, f"SIG{name}"))
    status, said = ended(farmer)
    assert status == 75, said
    assert "stopping (" in said
    assert_all_is_back(farm)
    assert_the_same_line_finishes_it(farm, "--grace", "1")


@pytest.mark.parametrize("name", STOPPING)
def test_a_signal_to_everybody_at_once_is_a_stop_and_no_failure(farm: Farm, name: str) -> None:
    """As a batch system sends it: to the farmer, its workers, the tasks and what they started."""
    farmer = start_blocking(farm, "--grace", "1")
    everybody = processes_in(farm.folder)
    kill(sorted(everybody, key=lambda pid: pid == farmer.pid), getattr(signal, f"SIG{name}"))
    status, said = ended(farmer)
    assert status == 75, said
    assert_all_is_back(farm)
    assert_the_same_line_finishes_it(farm)


def test_a_signal_to_the_process_group_is_a_stop(farm: Farm) -> None:
    farmer = start_blocking(farm, "--grace", "1")
    os.killpg(farmer.pid, signal.SIGINT)
    status, said = ended(farmer)
    assert (status, "Ctrl-C" in said) == (75, True), said
    assert_all_is_back(farm)


def test_timeout_stops_like_a_signal(farm: Farm) -> None:
    farmer = start_blocking(farm, "--grace", "1", "--timeout", "4")
    status, said = ended(farmer)
    assert (status, "--timeout 4" in said) == (75, True), said
    assert_all_is_back(farm)
    assert_the_same_line_finishes_it(farm)


def test_a_second_signal_ends_the_grace(farm: Farm) -> None:
    """With a grace of ten minutes, only the second signal can end a task that ignores the first."""
    farmer = start_blocking(farm, "--grace", "10m")
    farmer.send_signal(signal.SIGTERM)
    wait_until(lambda: len(processes_in(farm.folder, "block.sh")) == 1, what="only the stubborn one is left")
    farmer.send_signal(signal.SIGTERM)
    status, said = ended(farmer)
    assert status == 75, said
    assert_all_is_back(farm)


def test_a_task_gets_its_grace(farm: Farm) -> None:
    tidy = "trap 'sleep 0.5; echo tidied; exit 1' TERM; touch started_0; while :; do sleep 0.05; done"
    farmer = farm.write(tidy, "true").start("-n", "1")
    wait_for(farm, "started_0")
    farmer.terminate()
    assert ended(farmer)[0] == 75
    assert farm.log(0).endswith("tidied\n")
    assert farm.waiting() == [0, 1]


def test_claims_go_back_in_the_order_of_the_list(farm: Farm) -> None:
    """The ones that run end in another order than they were started in."""
    (farm.folder / "slow.sh").write_text(
        "trap 'sleep $1; exit 0' TERM; touch started_$PROC_NUMBER; while :; do sleep 0.02; done"
    )
    delays = ["0.3", "0.9", "0", "0.6"]
    farm.write(*(f"sh slow.sh {delay}" for delay in delays), *["sleep 0.01"] * 30)
    farmer = farm.start("-n", "4")
    wait_for(farm, *(f"started_{id}" for id in range(4)))
    farmer.terminate()
    assert ended(farmer)[0] == 75
    assert farm.waiting() == list(range(34))


def test_unstarted_claims_of_short_tasks_go_back_in_order(farm: Farm) -> None:
    farm.write(*["true"] * 20_000)
    farmer = farm.start("-n", "3")
    wait_until(lambda: len(farm.lines("finished")) > 500)
    farmer.terminate()
    assert ended(farmer)[0] == 75
    farm.assert_each_task_stands_once(20_000)
    assert farm.waiting() == sorted(farm.waiting())


def test_what_ended_tasks_left_running_in_an_idle_slot_ends_with_a_stop(farm: Farm) -> None:
    leave = "setsid sleep 603 & setsid sleep 603 & (setsid sleep 603 &)"
    farmer = farm.write(leave, "until [ -e go ]; do sleep 0.05; done").start("-n", "2")
    wait_until(lambda: farm.ids("finished") == [0] and len(processes_in(farm.folder, "sleep 603")) == 3, what="daemons")
    farmer.terminate()
    status, said = ended(farmer)
    assert status == 75, said
    assert_nothing_runs_in(farm.folder)
    farm.assert_each_task_stands_once(2)


def test_a_stop_while_nothing_runs_leaves_at_once(farm: Farm) -> None:
    """The one task left waits for its second try."""
    farmer = farm.write("touch tried; false").start("--retries", "1", "--retry-delay", "1h")
    wait_for(farm, "tried")
    wait_until(lambda: not processes_in(farm.folder, "touch tried"))
    farmer.terminate()
    status, said = ended(farmer)
    assert status == 75, said
    farm.assert_each_task_stands_once(1)
    assert farm.waiting() == [0]


def test_a_stop_before_the_first_claim_says_that_work_is_left(farm: Farm) -> None:
    """The farmer is told to stop while it has the list but nothing else."""
    farmer = farm.write(*["true"] * 9).start("-n", "2", "--timeout", "0.000001")
    status, said = ended(farmer)
    assert status == 75, said
    assert "9 left" in said
    farm.assert_each_task_stands_once(9)


SEED = random.randrange(1 << 32)


def test_stops_at_random_moments_lose_and_double_nothing(farm: Farm) -> None:
    """Each task says in a file of its own that it ran to its end; twice only where a stop may have come between."""
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    count = 1500
    farm.write(*(f"sleep 0.002; echo ran >> ran_{id}" if id % 5 else f"sleep 0.00{id % 7}" for id in range(count)))
    for _ in range(15):
        farmer = farm.start("-n", "3", "--grace", "1")
        time.sleep(dice.choice([dice.uniform(0.05, 0.3), dice.uniform(0.1, 0.6)]))
        if farmer.poll() is None:
            farmer.send_signal(signal.SIGUSR1)
        status, said = ended(farmer)
        assert status in (75, 0, -signal.SIGUSR1), said
        if status == -signal.SIGUSR1:
            continue  # before the program was there to listen
        assert_nothing_runs_in(farm.folder)
        assert farm.ids("failed") == [], f"seed {SEED}\n{said}"
        farm.assert_each_task_stands_once(count)
    farm.run("-n", "3", check=0)
    farm.assert_each_task_stands_once(count)
    assert sorted(farm.ids("finished")) == list(range(count))
    again = {int(line.split()[0]) for line in farm.lines("attempts")}
    ran = {id: len(Path(farm.folder / f"ran_{id}").read_text().splitlines()) for id in range(count) if id % 5}
    doubled = {id for id, times in ran.items() if times > 1}
    assert min(ran.values()) == 1
    assert doubled <= again, f"seed {SEED}"


def test_a_task_that_the_batch_system_ends_is_interrupted_though_its_farmer_waits_for_the_lock(farm: Farm) -> None:
    """A batch system signals both at once, and who holds the lock may be dead on another host, for as long as that takes."""
    farm.write("echo $$ > pid; exec sleep 600", "until [ -e go ]; do sleep 0.02; done", "true")
    farmer = farm.start("-n", "2")
    wait_for(farm, "pid")
    task = int((farm.folder / "pid").read_text())
    with (farm.workdir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (farm.folder / "go").touch()
        assert farmer.stdout is not None
        assert any("waiting for the lock" in line for line in farmer.stdout)
        kill([task, farmer.pid], signal.SIGTERM)
        slots = list(farm.workdir.glob("running/*/slot_*"))
        wait_until(lambda: sum(path.read_text().count("\nend ") for path in slots) == 2, what="both have ended")
    status, _ = ended(farmer)
    assert status == 75
    assert (farm.ids("finished"), farm.ids("failed")) == ([1], [])
    assert sorted(farm.waiting()) == [0, 2]


# Somebody keeps the lock: a suspended farmer, say, which is not dead


@contextmanager
def kept_by_another(farm: Farm) -> Iterator[None]:
    """The farm's lock."""
    with (farm.workdir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def waits_for_the_lock(farmer: subprocess.Popen[str]) -> bool:
    assert farmer.stdout is not None
    return any("waiting for the lock" in line for line in farmer.stdout)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_who_waits_for_the_lock_before_it_has_begun_heeds_a_stop(farm: Farm, name: str) -> None:
    farm.write("true").run(check=0)
    farm.write("true", "echo new")
    with kept_by_another(farm):
        farmer = farm.start()
        assert waits_for_the_lock(farmer)
        farmer.send_signal(signal.Signals[name])
        status, said = ended(farmer)
    assert status == 75 and "while others kept the lock of tasks.txt_workdir" in said, said
    farm.run(check=0)
    farm.assert_each_task_stands_once(2)


def test_a_stopped_farmer_does_not_wait_for_the_lock_for_ever(farm: Farm) -> None:
    """What has ended is safe in its slot's file, and what it held comes back: P4."""
    farm.write("touch ended", "touch begun; exec sleep 600", "true")
    farmer = farm.start("-n", "2", "--grace", "1")
    wait_for(farm, "begun")
    with kept_by_another(farm):
        farmer.terminate()
        status, said = ended(farmer, timeout=60)
    assert status == 75 and "others keep the lock. What is held here comes back" in said, said
    assert_nothing_runs_in(farm.folder)
    done = farm.run("--timeout", "5", check=75)
    assert "is gone" in done.stdout
    farm.assert_each_task_stands_once(3)
    assert sorted(farm.ids("finished")) == [0, 2]
