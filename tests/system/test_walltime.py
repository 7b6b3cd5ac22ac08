"""What a batch system says of the time a job has left. `squeue` is a small program of our own here; tests/components has a real one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Callable

import pytest
from conftest import processes_with, wait_until

from taskfarmer.system import walltime
from taskfarmer.system.walltime import Asked, Walltime

pytestmark = pytest.mark.quick

IN_JOB = {"SLURM_JOB_ID": "4711"}


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make `squeue` a script that does this, if it is asked what we mean to ask."""

    def write(does: str) -> None:
        program = tmp_path / "squeue"
        program.write_text(f'#!/bin/sh\n[ "$*" = "-h -j 4711 -o %L %l" ] || exit 99\n{does}\n')
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return write


def asked_in(environ: dict[str, str]) -> Asked:
    return Asked({"PATH": os.environ["PATH"], **environ})


def ask(environ: dict[str, str]) -> Walltime:
    """What is answered in the end."""
    asked = asked_in(environ)
    wait_until(lambda: asked.answer() is not None)
    found = asked.answer()
    assert found is not None
    return found


def test_outside_a_batch_job_there_is_no_end() -> None:
    assert ask({}) == Walltime()


def test_slurm_says_in_the_environment_when_the_job_ends(squeue) -> None:
    squeue("exit 98")
    now = time.time()
    found = ask({**IN_JOB, "SLURM_JOB_START_TIME": f"{now - 100:.0f}", "SLURM_JOB_END_TIME": f"{now + 500:.0f}"})
    assert found.left == pytest.approx(500, abs=60) and found.whole == pytest.approx(600, abs=2)
    assert found.trouble == ""


def test_an_older_slurm_is_asked(squeue) -> None:
    squeue("echo 4:05 1:00:00")
    assert ask(IN_JOB) == Walltime(245.0, 3600.0)


def test_what_a_user_likes_to_see_of_the_queue_does_not_hide_the_job(squeue) -> None:
    squeue("env | grep -e SQUEUE_ -e SLURM_CLUSTERS || echo 4:05 1:00:00")
    likes = {"SQUEUE_STATES": "PENDING", "SQUEUE_FORMAT": "%i", "SLURM_CLUSTERS": "all"}
    assert ask({**IN_JOB, **likes}) == Walltime(245.0, 3600.0)


def test_a_member_of_an_array_asks_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One member has the number of the whole array, and squeue answers with all of them."""
    (tmp_path / "squeue").write_text('#!/bin/sh\necho 4:05 1:00:00\n[ "$3" = 4711_3 ] || echo 5:05 1:00:00\n')
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    member = {**IN_JOB, "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3"}
    assert ask(member) == Walltime(245.0, 3600.0)


@pytest.mark.parametrize(
    "limit", ["UNLIMITED UNLIMITED", "NOT_SET UNLIMITED", "INVALID INVALID", "INVALID 400-00:00:00"]
)
def test_a_job_without_a_limit_has_no_end(squeue, limit: str) -> None:
    squeue(f"echo {limit}")
    assert ask(IN_JOB) == Walltime()


def test_a_job_beyond_its_limit_has_no_time_left(squeue) -> None:
    squeue("echo INVALID 1:00:00")
    assert ask(IN_JOB) == Walltime(0.0, 3600.0)


def test_a_job_whose_end_was_put_off_is_not_over(squeue) -> None:
    """The environment says what was true when it was started."""
    squeue("echo 4:05 1:00:00")
    assert ask({**IN_JOB, "SLURM_JOB_END_TIME": f"{time.time() - 100:.0f}"}) == Walltime(245.0, 3600.0)


@pytest.mark.parametrize("end", ["", "0", "-1", "soon", "\u00b2", "2026-01-01T00:00:00"])
def test_an_end_that_is_no_time_is_asked_for(squeue, end: str) -> None:
    squeue("echo 4:05 1:00:00")
    assert ask({**IN_JOB, "SLURM_JOB_END_TIME": end}) == Walltime(245.0, 3600.0)


@pytest.mark.parametrize(
    ("does", "why"),
    [
        (
            "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
            "squeue ended with 1: slurm_load_jobs error",
        ),
        ("echo soon", "squeue said 'soon'"),
        ("exit 0", "squeue said ''"),
        ("echo soon later", "squeue said 'soon later'"),
        ("echo 4:05 1:00:00; echo 5:05 1:00:00", "squeue said '4:05 1:00:00 5:05 1:00:00'"),
        (r"printf '\377\0\n'", "squeue said '\ufffd"),
        ("yes | head -c 50000", "squeue said 'y y"),
    ],
)
def test_a_squeue_that_cannot_tell_is_quoted(squeue, does: str, why: str) -> None:
    squeue(does)
    found = ask(IN_JOB)
    assert (found.left, found.whole) == (None, None)
    assert found.trouble.startswith(why)


def test_without_a_squeue_the_end_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask(IN_JOB) == Walltime(trouble="squeue: No such file or directory")


def test_a_squeue_that_does_not_answer_is_left(squeue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walltime, "_PATIENCE", 0.2)
    squeue("exec sleep 60123")
    assert ask(IN_JOB).trouble == "squeue has not answered within 0.2 s"
    assert processes_with("sleep 60123") == []


def test_while_squeue_takes_its_time_there_is_no_answer_and_nobody_waits(squeue, tmp_path: Path) -> None:
    squeue(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo 4:05 1:00:00")
    asked = asked_in(IN_JOB)
    assert asked.answer() is None
    (tmp_path / "go").touch()
    wait_until(lambda: asked.answer() == Walltime(245.0, 3600.0))


def test_a_question_that_does_not_matter_any_more_leaves_nothing_behind(squeue) -> None:
    squeue("exec sleep 60124")
    asked = asked_in(IN_JOB)
    wait_until(lambda: processes_with("sleep 60124"))
    asked.close()
    assert processes_with("sleep 60124") == []


def test_a_script_in_place_of_squeue_ends_with_all_it_has_started(squeue) -> None:
    squeue("sleep 60125\nexit 0")
    asked = asked_in(IN_JOB)
    wait_until(lambda: processes_with("sleep 60125"))
    asked.close()
    assert processes_with("sleep 60125") == []


def test_what_such_a_script_leaves_running_is_not_waited_for(squeue) -> None:
    squeue("sleep 60126 &\necho 4:05 1:00:00")
    try:
        assert ask(IN_JOB) == Walltime(245.0, 3600.0)
    finally:
        for pid in processes_with("sleep 60126"):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("length", ["3600", "1:00:00", "01:00:00", "60:00"])
def test_pbs_tells_how_long_the_whole_job_is(length: str) -> None:
    assert ask({"PBS_JOBID": "12.server", "PBS_WALLTIME": length}) == Walltime(3600.0, 3600.0)


def test_a_length_that_pbs_does_not_tell_so_that_it_can_be_read_is_quoted() -> None:
    assert ask({"PBS_JOBID": "12.server", "PBS_WALLTIME": "an hour"}) == Walltime(trouble="PBS_WALLTIME is 'an hour'")
    assert ask({"PBS_JOBID": "12.server"}) == Walltime()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:00", 0), ("2:00", 120), ("1:02:03", 3723), ("1-00:00:10", 86410), ("12", None), ("", None), ("-1:00", None)],
)
def test_times_are_read_as_slurm_writes_them(text: str, seconds: float | None) -> None:
    assert walltime.slurm_time(text) == seconds
