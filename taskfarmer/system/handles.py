"""Processes that are no more than a handle: srun, whose task runs in a step of Slurm's, mostly on other nodes.

Hazards kept here. srun and its helper, a child of the same name, killed together leave the step running, and its cores
taken, until the job ends. Asked (TERM, which the helper ignores), srun has the step killed at once and then waits for it.
Killed alone, its helper has the step killed and ends some seconds later (_shepherd_spawn in Slurm's srun_job.c). So srun is
asked, and killed only when it does not answer, and its helper only long after that.
"""

from __future__ import annotations

import os
import signal

#: Seconds that one who was asked may take (6 were seen where a step was ended while it began), and then its helper.
PATIENCE = 12.0
OF_THE_HELPER = 8.0

_NAMES = frozenset(("srun",))


def is_handle(pid: int) -> bool:
    """Whether a process stands for others elsewhere."""
    return _name(pid) in _NAMES


def how_to_end(pid: int, asked_for: float) -> int:
    """The signal for a process that must go: KILL, but TERM for one that stands for others.

    `asked_for`: seconds since it was first asked.
    """
    if not is_handle(pid):
        return signal.SIGKILL
    patience = PATIENCE if _has_helper(pid) else PATIENCE + OF_THE_HELPER
    return signal.SIGKILL if asked_for >= patience else signal.SIGTERM


def longest() -> float:
    """Seconds after which everybody has been killed who did not answer, and should be gone."""
    return PATIENCE + OF_THE_HELPER + 2.0


def _has_helper(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return any(is_handle(int(child)) for child in file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return False  # gone, or a kernel without CONFIG_PROC_CHILDREN


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return os.fsdecode(file.read().rstrip(b"\n"))
    except (FileNotFoundError, ProcessLookupError):
        return ""  # gone
