"""When a farmer that is out of work stays for the others, and when it leaves. A batch job is an environment here."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from conftest import Farm, wait_until
from farmhands import (
    assert_nothing_runs_in,
    children_of,
    ended,
    kill,
)

from taskfarmer.farm.leaving import Leaving

quick = pytest.mark.quick
in_ci = pytest.mark.components  # what takes ten seconds is not for every commit

LONG = "touch began.$PROC_NUMBER; until [ -e go ]; do sleep 0.02; done"


# Deciding


@quick
def test_one_that_waits_for_nobody_leaves_after_a_look() -> None:
    leaving = Leaving(waits=False)
    assert not leaving.is_free and leaving.look_is_due(0.0, others=3)
    assert not leaving.asks_who_works(running_elsewhere=5)
    leaving.saw(at_work=False, silent=0)
    assert leaving.is_free


@quick
def test_one_that_waits_asks_who_works_only_while_anything_is_running() -> None:
    leaving = Leaving(waits=True)
    assert leaving.asks_who_works(running_elsewhere=1) and not leaving.asks_who_works(running_elsewhere=0)


@quick
def test_it_looks_at_once_and_then_every_second_until_nobody_is_at_work() -> None:
    leaving = Leaving(waits=True)
    assert leaving.look_is_due(100.0, others=2)
    leaving.saw(at_work=True, silent=0)
    assert not leaving.is_free and not leaving.look_is_due(100.9, others=2) and leaving.look_is_due(101.0, others=2)
    leaving.saw(at_work=False, silent=0)
    assert leaving.is_free


@quick
def test_of_a_thousand_that_wait_each_looks_seldom() -> None:
    leaving = Leaving(waits=True)
    looks = [second for second in range(100) if leaving.look_is_due(float(second), others=1000)]
    assert len(looks) == 10


@quick
def test_one_that_is_silent_may_be_about_to_die() -> None:
    for waits in (True, False):
        leaving = Leaving(waits)
        leaving.look_is_due(0.0, others=0)
        leaving.saw(at_work=False, silent=1)
        assert not leaving.is_free


@quick
def test_new_work_makes_it_look_again_before_it_leaves() -> None:
    leaving = Leaving(waits=True)
    leaving.look_is_due(0.0, others=0)
    leaving.saw(at_work=False, silent=0)
    leaving.has_work()
    assert not leaving.is_free and not leaving.has_looked and leaving.look_is_due(0.1, others=0)


@quick
def test_that_it_stays_is_said_once_and_only_if_it_takes_long() -> None:
    leaving = Leaving(waits=True)
    leaving.look_is_due(0.0, others=1)
    leaving.saw(at_work=True, silent=0)
    assert [leaving.begins_to_last(second) for second in (5.0, 10.0, 20.0)] == [False, True, False]


# With real farmers


@pytest.fixture
def job(farm: Farm) -> dict[str, str]:
    """The environment of a Slurm job."""
    (farm.folder / "squeue").write_text("#!/bin/sh\necho 30:00 1:00:00\n")
    (farm.folder / "squeue").chmod(0o755)
    return {**os.environ, "SLURM_JOB_ID": "12", "PATH": f"{farm.folder}:{os.environ['PATH']}"}


def begin(farm: Farm, count: int, *flags: str, **options) -> subprocess.Popen[str]:
    """Start a farmer that has `count` slots, and wait until so many tasks have begun."""
    before = len(list(farm.folder.glob("began.*")))
    farmer = farm.start("-n", str(count), *flags, **options)
    wait_until(lambda: len(list(farm.folder.glob("began.*"))) == before + count, what="its tasks")
    return farmer


def wait_until_it_waits(farm: Farm, farmer: subprocess.Popen[str]) -> None:
    """Until a farmer has said two signs of life: it would have left long before."""

    def beats() -> int:
        (alive,) = farm.workdir.glob(f"running/*.{farmer.pid}.*/alive")
        return int(alive.read_text().split()[0])

    wait_until(lambda: list(farm.workdir.glob(f"running/*.{farmer.pid}.*/alive")), what="that it has joined")
    wait_until(lambda: beats() >= 2, what="its heartbeat")
    assert farmer.poll() is None


def kill_all(farmer: subprocess.Popen[str]) -> None:
    """The farmer, its workers and their tasks."""
    workers = children_of(farmer.pid)
    kill([farmer.pid, *workers, *(task for worker in workers for task in children_of(worker))])
    ended(farmer)


@quick
def test_who_is_out_of_work_takes_over_when_another_of_its_job_dies(farm: Farm, job: dict[str, str]) -> None:
    dies = begin(farm.write(LONG, LONG), 2, env=job)
    stays = farm.start("-n", "2", env=job)
    wait_until_it_waits(farm, stays)
    kill_all(dies)
    (farm.folder / "go").touch()
    status, said = ended(stays)
    assert status == 0 and "is gone: 2 tasks are back" in said, said
    assert "2 finished, 0 failed" in said
    farm.assert_each_task_stands_once(2)
    assert_nothing_runs_in(farm.folder)


@quick
def test_what_another_of_its_job_gives_back_is_done_by_who_stayed(farm: Farm, job: dict[str, str]) -> None:
    stops = begin(farm.write(LONG), 1, env=job)
    stays = farm.start("-n", "1", env=job)
    wait_until_it_waits(farm, stays)
    stops.terminate()
    assert ended(stops)[0] == 75
    (farm.folder / "go").touch()
    status, said = ended(stays)
    assert status == 0 and "1 finished, 0 failed" in said, said


@quick
def test_when_the_last_task_of_a_job_is_done_all_its_farmers_leave(farm: Farm, job: dict[str, str]) -> None:
    """None waits for another that waits."""
    farm.write(LONG, LONG)
    farmers = [begin(farm, 1, env=job), begin(farm, 1, env=job)]
    farmers += [farm.start("-n", "1", env=job) for _ in range(2)]
    wait_until_it_waits(farm, farmers[-1])
    (farm.folder / "go").touch()
    assert [ended(farmer)[0] for farmer in farmers] == [0] * 4
    assert list((farm.workdir / "running").iterdir()) == []


@quick
def test_nobody_stays_for_a_farmer_of_another_job_and_it_says_who_runs_what(farm: Farm, job: dict[str, str]) -> None:
    other = begin(farm.write(LONG, "true"), 1, env={**job, "SLURM_JOB_ID": "13"})
    for env in (job, None):
        done = farm.run(env=env, check=0)
        assert f"task 0 is still running on {os.uname().nodename} (pid {other.pid})\n" in done.stdout
    (farm.folder / "go").touch()
    assert ended(other)[0] == 0


@quick
def test_who_is_told_to_wait_for_others_does(farm: Farm) -> None:
    """Two of them, for a third, and not for each other."""
    works = begin(farm.write(LONG), 1)
    stay = [farm.start("--wait-for-others") for _ in range(2)]
    wait_until_it_waits(farm, stay[1])
    kill_all(works)
    (farm.folder / "go").touch()
    said = [ended(farmer) for farmer in stay]
    assert [status for status, _ in said] == [0, 0]
    assert sum("is gone: 1 task is back" in text for _, text in said) == 1
    farm.assert_each_task_stands_once(1)


@quick
def test_the_same_line_started_again_waits_for_what_the_workers_of_a_killed_farmer_still_run(farm: Farm) -> None:
    """Else it would end well with that undone: nobody else is there to settle it."""
    killed = begin(farm.write(LONG, "true"), 1)
    killed.kill()
    again = farm.start("-n", "1")
    wait_until_it_waits(farm, again)
    (farm.folder / "go").touch()
    status, said = ended(again)
    assert status == 0 and "is gone: 1 task had ended" in said, said
    farm.assert_each_task_stands_once(2)


@quick
def test_who_is_stopped_while_it_waits_for_the_dead_says_that_work_is_left(farm: Farm) -> None:
    """Nobody alive will settle it."""
    begin(farm.write(LONG), 1).kill()
    waits = farm.start("-n", "1")
    wait_until_it_waits(farm, waits)
    waits.terminate()
    status, said = ended(waits)
    assert status == 75 and "0 left. Start the same line again." in said, said


@quick
def test_a_stop_ends_the_waiting(farm: Farm, job: dict[str, str]) -> None:
    works = begin(farm.write(LONG), 1, env=job)
    stays = farm.start(env=job)
    wait_until_it_waits(farm, stays)
    stays.send_signal(signal.SIGUSR1)
    status, said = ended(stays)
    assert "stopping (SIGUSR1)" in said and "task 0 is still running on" in said, said
    assert status == 0, "none of its own was left undone"
    assert works.poll() is None
    (farm.folder / "go").touch()
    assert ended(works)[0] == 0


@quick
@pytest.mark.parametrize(
    ("flags", "why"), [(["--timeout", "3"], "--timeout 3"), (["--walltime", "63s"], "the job's time is up")]
)
def test_the_end_of_its_time_ends_the_waiting(farm: Farm, job: dict[str, str], flags: list[str], why: str) -> None:
    works = begin(farm.write(LONG), 1, "--walltime", "1h", env=job)
    assert f"stopping ({why}" in ended(farm.start(*flags, env=job))[1]
    (farm.folder / "go").touch()
    assert ended(works)[0] == 0


@quick
def test_a_job_is_started_again_by_the_last_even_if_it_only_waited(farm: Farm, job: dict[str, str]) -> None:
    (farm.folder / "scontrol").write_text('#!/bin/sh\necho "$@" >> asked\n')
    (farm.folder / "scontrol").chmod(0o755)
    works = begin(farm.write("true", LONG), 1, "--requeue", env=job)
    stays = farm.start("--requeue", env=job)
    wait_until_it_waits(farm, stays)
    for farmer in (stays, works):
        farmer.send_signal(signal.SIGUSR1)
    said = [ended(farmer)[1] for farmer in (stays, works)]
    assert sum("Slurm is asked to start this job again" in text for text in said) == 1, said
    assert (farm.folder / "asked").read_text() == "requeue 12\n"


# Who says how far it is


def lines_of(path) -> list[str]:
    return path.read_text().splitlines()


@in_ci
def test_of_a_job_one_farmer_says_how_far_all_are_and_another_takes_its_place(farm: Farm, job: dict[str, str]) -> None:
    farm.write(*[LONG] * 4, "false", "false")
    logs = [farm.folder / f"said.{number}" for number in range(2)]
    farmers = []
    for log in logs:
        with open(log, "w") as out:
            farmers.append(begin(farm, 2, env=job, stdout=out))
    told = lambda log: [line for line in lines_of(log) if " running, " in line]  # noqa: E731
    wait_until(lambda: told(logs[0]) or told(logs[1]), what="a line")
    speaker = 0 if told(logs[0]) else 1
    assert "all farmers: 0 done, 4 running, 2 left" in told(logs[speaker])[0]
    wait_until(lambda: len(told(logs[speaker])) >= 2, what="another line")
    assert not told(logs[1 - speaker])
    kill_all(farmers[speaker])
    wait_until(lambda: told(logs[1 - speaker]), what="that the other says it")
    (farm.folder / "go").touch()
    assert farmers[1 - speaker].wait(30) == 1
    said = logs[1 - speaker].read_text()
    host = os.uname().nodename
    assert f"{host}: failed  task 4  exit 1" in said and f"{host}: failed: 4 5" in said
    farm.assert_each_task_stands_once(6)


@quick
def test_where_several_are_mixed_each_line_says_whose_it_is(farm: Farm, job: dict[str, str]) -> None:
    said = farm.write("true", "echo why; false").run("-n", "1", env=job, check=1).stdout.splitlines()
    host = os.uname().nodename
    assert all(line.startswith((f"{host}: ", "    | ")) for line in said[1:]), said
    assert said[-2:] == [
        f"{host}: failed: 1",
        f"{host}: the whole list: 1 finished, 1 failed   again: pytaskfarmer.py retry tasks.txt --run",
    ]


@quick
def test_what_a_later_start_finds_says_whose_it_is_too(farm: Farm, job: dict[str, str]) -> None:
    farm.write("true", "false", "true").run("-n", "1", "--max-failures", "1", env=job, check=1)
    said = (
        farm.write("true", "false", "true", "echo new").run("-n", "1", "-v", "2", env=job, check=1).stdout.splitlines()
    )
    host = os.uname().nodename
    assert all(line.startswith(f"{host}: ") for line in said[1:]), said
    assert f"{host}: the list has changed: 1 line new" in said
    assert any(line.startswith(f"{host}: again: ") for line in said), said
