"""Whether a job whose time is up is started again, and by whom. Slurm's programs are small ones of our own here."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Farm, wait_until

from taskfarmer import api
from taskfarmer.farm.notices import Notice, Requeue, Summary
from taskfarmer.farm.requeue import decide
from taskfarmer.stores.base import Added, Parting
from taskfarmer.stores.textfiles import TextStore
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process

pytestmark = pytest.mark.quick

LONG = "sleep 1.1"  # after a shorter one a farmer would take more tasks than it has slots
STOPPED = Summary(3, 1, 3, 1, [7], 2, 6, 0, 60.0, 50.0, 2, [], "SIGUSR1", None, times_up=True)
LAST = Parting(is_last=True, waiting=6, settled=4)


def test_a_job_is_started_again_if_its_end_leaves_work() -> None:
    assert decide(STOPPED, LAST, settled_before=0) is Requeue.YES


@pytest.mark.parametrize(
    ("summary", "parting"),
    [
        (STOPPED, LAST._replace(is_last=False)),
        (STOPPED, LAST._replace(waiting=0)),
        (STOPPED._replace(times_up=False), LAST),
        (STOPPED._replace(gave_up="the disk is full"), LAST),
    ],
    ids=["others are there", "nothing is left", "somebody stopped it", "it gave up"],
)
def test_a_job_is_left_alone_if(summary: Summary, parting: Parting) -> None:
    assert decide(summary, parting, settled_before=0) is Requeue.NO


def test_a_farmer_that_ended_well_starts_its_job_again_for_those_that_left_before() -> None:
    assert decide(STOPPED._replace(stopped=None, times_up=False), LAST, settled_before=0) is Requeue.YES


def test_a_job_in_which_nothing_was_settled_is_not_started_for_ever() -> None:
    idle = STOPPED._replace(finished=0, failed=0)
    assert decide(idle, LAST, settled_before=4) is Requeue.IN_VAIN
    assert decide(idle, LAST, settled_before=3) is Requeue.YES, "others have settled a task"


# With real farmers


@pytest.fixture
def job(farm: Farm) -> dict[str, str]:
    """The environment of a Slurm job in which `scontrol` only writes down what it was asked."""
    for name, does in (("scontrol", 'echo "$@" >> asked'), ("squeue", "echo 30:00 1:00:00")):
        (farm.folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (farm.folder / name).chmod(0o755)
    return {**os.environ, "SLURM_JOB_ID": "12", "PATH": f"{farm.folder}:{os.environ['PATH']}"}


def asked(farm: Farm) -> list[str]:
    """What `scontrol` was asked."""
    path: Path = farm.folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def settled(farm: Farm, count: int) -> None:
    wait_until(lambda: len(farm.ids("finished")) == count and len(list(farm.folder.glob("began.*"))) >= 1)


def stop(*farmers: subprocess.Popen[str], by: int = signal.SIGUSR1) -> list[str]:
    """Signal farmers together, wait for their end with 75, and return what they said."""
    for farmer in farmers:
        farmer.send_signal(by)
    said = [farmer.communicate(timeout=60)[0] for farmer in farmers]
    assert [farmer.returncode for farmer in farmers] == [75] * len(farmers), said
    return said


def test_of_all_farmers_of_a_job_exactly_one_starts_it_again(farm: Farm, job: dict[str, str]) -> None:
    farm.write(LONG, *["touch began.$$; sleep 600"] * 40)
    farmers = [farm.start("-n", "2", "--requeue", env=job) for _ in range(4)]
    wait_until(lambda: len(list(farm.folder.glob("began.*"))) == 8 and farm.ids("finished") == [0])
    said = stop(*farmers)
    assert asked(farm) == ["requeue 12"]
    assert sum("Slurm is asked to start this job again" in text for text in said) == 1
    farm.assert_each_task_stands_once(41)


def test_a_job_is_not_started_again_while_one_of_its_farmers_works(farm: Farm, job: dict[str, str]) -> None:
    farm.write(LONG, *["touch began.$$; sleep 600"] * 10)
    first, second = (farm.start("-n", "1", "--requeue", env=job) for _ in range(2))
    wait_until(lambda: len(list(farm.folder.glob("began.*"))) == 2 and farm.ids("finished") == [0])
    stop(first)
    assert asked(farm) == []
    stop(second)
    assert asked(farm) == ["requeue 12"]


def test_the_farmers_of_another_job_do_not_matter(farm: Farm, job: dict[str, str]) -> None:
    farm.write(LONG, *["touch began.$$; sleep 600"] * 10)
    one = farm.start("-n", "1", "--requeue", env=job)
    other = farm.start("-n", "1", "--requeue", env={**job, "SLURM_JOB_ID": "13"})
    wait_until(lambda: len(list(farm.folder.glob("began.*"))) == 2 and farm.ids("finished") == [0])
    stop(one)
    assert asked(farm) == ["requeue 12"]
    stop(other)
    assert asked(farm) == ["requeue 12", "requeue 13"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["scancel", "Ctrl-C"])
def test_who_ends_a_job_does_not_get_it_back(farm: Farm, job: dict[str, str], number: int) -> None:
    farmer = farm.write("true", "touch began.$$; sleep 600").start("-n", "1", "--requeue", env=job)
    settled(farm, 1)
    stop(farmer, by=number)
    assert asked(farm) == []


def test_a_job_that_settles_nothing_is_not_started_again(farm: Farm, job: dict[str, str]) -> None:
    farmer = farm.write("touch began.$$; sleep 600").start("-n", "1", "--requeue", env=job)
    settled(farm, 0)
    assert "the job is not started again: no task has ended since it was started last" in stop(farmer)[0]
    assert asked(farm) == []


def test_tasks_that_fit_into_no_job_do_not_start_it_again(farm: Farm, job: dict[str, str]) -> None:
    done = farm.write("true").run("--expect", "2h", "--requeue", env=job, check=75)
    assert "tasks take up to 2.0 h, the whole job has 59 min: 1 held back." in done.stdout
    assert asked(farm) == []


def test_a_job_that_has_done_everything_is_not_started_again(farm: Farm, job: dict[str, str]) -> None:
    farm.write("true").run("--requeue", env=job, check=0)
    assert asked(farm) == []


def test_a_second_farmer_of_a_job_on_a_node_is_asked_whether_it_is_meant(farm: Farm, job: dict[str, str]) -> None:
    farmer = farm.write("touch began.$$; sleep 600", "true").start("-n", "1", env=job)
    settled(farm, 0)
    second = farm.start(env=job)
    settled(farm, 1)
    assert farm.ids("finished") == [1], "it goes on"
    second.terminate()
    said = second.communicate(timeout=60)[0]
    assert "another farmer of job 12 works on this node: did you mean --ntasks-per-node=1?" in said
    other = farm.run(env={**job, "SLURM_JOB_ID": "13"}, check=0)
    assert "--ntasks-per-node" not in other.stdout
    stop(farmer)


def test_a_job_is_not_started_again_while_others_keep_the_lock(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended farmer may for hours: then nobody knows who leaves last, and Slurm waits for the job to end."""
    monkeypatch.setattr(api, "_PATIENCE_AT_THE_END", 0.2)
    farm.write("true").run(check=0)
    store = TextStore(Workdir(str(farm.workdir), process.new_owner()))
    said: list[Notice] = []
    with closing(store), (farm.workdir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert api._requeue(store, STOPPED, Added(1, 0, 0, 0, 1, 0), said.append) is Requeue.NO
    assert "is not known, so the job is not started again" in str(said)
