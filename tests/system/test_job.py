"""The batch job a process belongs to. `scontrol` is a small program of our own here; tests/components has a real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskfarmer.errors import RequeueError, UsageError
from taskfarmer.model import Owner
from taskfarmer.system import job, process

pytestmark = pytest.mark.quick


def scontrol(folder: Path, does: str) -> str:
    """Make a program of that name, and the PATH on which it is found."""
    program = folder / "scontrol"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_an_owner_carries_the_number_of_its_job_and_its_name_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    owner = process.new_owner()
    assert owner.job == "4711"
    assert str(owner).endswith("-4711")
    assert Owner.parse(str(owner)) == owner


def test_an_owner_outside_of_a_job_carries_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("PBS_JOBID", raising=False)
    assert process.new_owner().job == ""


@pytest.mark.parametrize(
    ("environ", "name"),
    [({"SLURM_JOB_ID": "12"}, "12"), ({"PBS_JOBID": "12[3].server.example"}, "12_3_"), ({}, "")],
)
def test_a_job_has_a_name_that_can_stand_in_the_name_of_a_folder(environ: dict[str, str], name: str) -> None:
    assert job.name(environ) == name


@pytest.mark.parametrize(
    ("array", "name"), [({}, "12"), ({"SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": "3"}, "10_3")]
)
def test_slurm_is_asked_to_start_this_job_or_this_member_of_an_array_again(
    tmp_path: Path, array: dict[str, str], name: str
) -> None:
    path = scontrol(tmp_path, f'echo "$@" > {tmp_path}/asked')
    job.requeue({"SLURM_JOB_ID": "12", "PATH": path, **array})
    assert (tmp_path / "asked").read_text() == f"requeue {name}\n"


def test_no_job_of_another_cluster_is_started_again(tmp_path: Path) -> None:
    path = scontrol(tmp_path, '[ -z "$SLURM_CLUSTERS" ]')
    job.requeue({"SLURM_JOB_ID": "12", "SLURM_CLUSTERS": "other", "PATH": path})


def test_what_slurm_has_against_it_is_said(tmp_path: Path) -> None:
    path = scontrol(tmp_path, "echo Requested operation is presently disabled >&2; exit 1")
    with pytest.raises(RequeueError, match="scontrol requeue 12: exit 1: Requested operation is presently disabled"):
        job.requeue({"SLURM_JOB_ID": "12", "PATH": path})


def test_a_scontrol_that_does_not_answer_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_PATIENCE", 0.2)
    path = scontrol(tmp_path, "exec sleep 600")
    with pytest.raises(RequeueError, match=r"scontrol requeue 12: no answer within 0\.2 s"):
        job.requeue({"SLURM_JOB_ID": "12", "PATH": path})


def test_what_could_not_be_done_at_the_end_is_refused_at_the_beginning(tmp_path: Path) -> None:
    path = scontrol(tmp_path, "exit 98")
    job.check_requeue({"SLURM_JOB_ID": "12", "PATH": path})
    with pytest.raises(UsageError, match="a Slurm job is wanted"):
        job.check_requeue({"PATH": path})
    with pytest.raises(UsageError, match="scontrol is wanted"):
        job.check_requeue({"SLURM_JOB_ID": "12", "PATH": os.devnull})
