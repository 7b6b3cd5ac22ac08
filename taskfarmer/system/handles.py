"""Processes that are no more than a handle: srun, whose task runs in a step of Slurm's, mostly on other nodes.

Hazards kept here. srun and its helper, a child of the same name, killed together leave the step running, and its cores
taken, until the job ends. Asked (TERM, which the helper ignores), srun has the step killed at once and then waits for it.
Killed alone, its helper has the step killed and ends some seconds later (_shepherd_spawn in Slurm's srun_job.c). So srun is
asked, and killed only when it does not answer, and its helper only long after that.
"""

from __future__ import annotations

import signal

from taskfarmer.system.proctable import listed_children, stat_of

#: Seconds that one who was asked may take (6 were seen where a step was ended while it began), and then its helper.
PATIENCE = 12.0
OF_THE_HELPER = 8.0

_NAMES = frozenset((b"srun",))


def is_handle(pid: int) -> bool:
    """Whether a process stands for others elsewhere."""
    try:
        found = stat_of(pid)
    except PermissionError:
        return False  # another user's
    return found is not None and found.name in _NAMES


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
    return any(map(is_handle, listed_children(pid)))
