"""What a batch system says of the time a job has left. `squeue` is a small program of our own here; tests/components has a real one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

import pytest

from taskfarmer.system import walltime
from taskfarmer.system.walltime import Walltime

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


def test_outside_a_batch_job_there_is_no_end() -> None:
    assert walltime.ask({}) == Walltime()


def test_slurm_says_in_the_environment_when_the_job_ends(squeue) -> None:
    squeue("exit 98")
    now = time.time()
    found = walltime.ask(
        {**IN_JOB, "SLURM_JOB_START_TIME": f"{now - 100:.0f}", "SLURM_JOB_END_TIME": f"{now + 500:.0f}"}
    )
    assert found.left == pytest.approx(500, abs=60) and found.whole == pytest.approx(600, abs=2)
    assert found.trouble == ""


def test_an_older_slurm_is_asked(squeue) -> None:
    squeue("echo 4:05 1:00:00")
    assert walltime.ask(IN_JOB) == Walltime(245.0, 3600.0)


def test_a_job_without_a_limit_has_no_end(squeue) -> None:
    squeue("echo UNLIMITED UNLIMITED")
    assert walltime.ask(IN_JOB) == Walltime()


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
    ],
)
def test_a_squeue_that_cannot_tell_is_quoted(squeue, does: str, why: str) -> None:
    squeue(does)
    found = walltime.ask(IN_JOB)
    assert (found.left, found.whole) == (None, None)
    assert found.trouble.startswith(why)


def test_without_a_squeue_the_end_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert walltime.ask(IN_JOB) == Walltime(trouble="squeue: No such file or directory")


def test_a_squeue_that_does_not_answer_is_left(squeue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walltime, "_PATIENCE", 0.2)
    squeue("exec sleep 600")
    assert walltime.ask(IN_JOB).trouble == "squeue has not answered within 0.2 s"


def test_pbs_tells_how_long_the_whole_job_is() -> None:
    assert walltime.ask({"PBS_JOBID": "12.server", "PBS_WALLTIME": "3600"}) == Walltime(3600.0, 3600.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:00", 0), ("2:00", 120), ("1:02:03", 3723), ("1-00:00:10", 86410), ("12", None), ("", None), ("-1:00", None)],
)
def test_times_are_read_as_slurm_writes_them(text: str, seconds: float | None) -> None:
    assert walltime.slurm_time(text) == seconds
