"""The batch job a process belongs to: its name, and having it started again by Slurm."""

import os
from typing import Mapping

from taskfarmer.errors import RequeueError, UsageError

#: Seconds; a controller may be slow or away.
_PATIENCE = 60.0


def name(environ: Mapping[str, str]) -> str:
    """The number of the batch job, "" outside of one. Each member of an array has one of its own."""
    job = environ.get("SLURM_JOB_ID") or environ.get("PBS_JOBID", "").partition(".")[0]
    return "".join(letter if letter.isalnum() else "_" for letter in job)


def slurm_name(environ: Mapping[str, str]) -> str:
    """What Slurm calls the job we are in, and no other: a member of an array is ARRAY_MEMBER, for one of them has the number
    of the whole array."""
    if "SLURM_ARRAY_JOB_ID" in environ and "SLURM_ARRAY_TASK_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ["SLURM_JOB_ID"]


def for_slurms_programs(environ: Mapping[str, str]) -> dict[str, str]:
    """What they are to see: nothing that sends them to another cluster, or hides our job from them."""
    return {
        name: value for name, value in environ.items() if name != "SLURM_CLUSTERS" and not name.startswith("SQUEUE_")
    }


def check_requeue(environ: Mapping[str, str]) -> None:
    """Refuse what could not be done in the end. Raises UsageError."""
    if "SLURM_JOB_ID" not in environ:
        raise UsageError(
            "--requeue: a Slurm job is wanted, found none (no SLURM_JOB_ID); use it in a script for sbatch"
        )
    if not any(os.access(f"{folder}/scontrol", os.X_OK) for folder in environ.get("PATH", "").split(":")):
        raise UsageError("--requeue: Slurm's scontrol is wanted, found none on PATH")


def requeue(environ: Mapping[str, str]) -> None:
    """Have Slurm end this job now and start it again. Raises RequeueError with what it said."""
    import subprocess  # here only: a thousand nodes start us at once

    job = slurm_name(environ)
    asked = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(
            asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, env=for_slurms_programs(environ)
        )
    except subprocess.TimeoutExpired as error:
        raise RequeueError(
            f"scontrol requeue {job}: no answer within {_PATIENCE:g} s. If the job is not started again, start the same line again"
        ) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise RequeueError(f"scontrol requeue {job}: exit {done.returncode}: {said}. Start the same line again")
