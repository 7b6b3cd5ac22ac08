"""Why a task may have run again on the nodes of Slurm.

As on one host (../reasons.py), but whether and when a worker was killed is what the witness saw, by whomever it was done: us,
a power cut, or Slurm, which ends jobs that were cancelled or have lost a node. Its farmer was told to stop if its job was in
trouble before, and it then ended stopped (75), or killed.
"""

from __future__ import annotations

import os
import re

from ..reasons import AT_ONCE, SLACK, SLOW_TO_BEGIN, asked_between
from ..tasks import Execution
from .killer import Killer
from .witness import Process

_STOPPED = 75
#: What a stop may take: the grace, killing, writing down, leaving.
_STOP_TAKES = 10.0


class Reasons:
    """What a witness, and the log of a killer, explain."""

    def __init__(self, killer: Killer) -> None:
        self._killer = killer
        self._witness = killer.witness

    def lost_their_workers(self) -> set[int]:
        """Tasks with which a farmer has lost two workers: they fail, so that they cannot go on for ever."""
        killed = [sum(worker.was_killed for worker in farmer.workers) for farmer in self._witness.farmers]
        if not any(count >= 2 for count in killed):
            return set()
        ids = re.findall(r"failed  task (\d+)  killed .* its worker was killed", self._killer.jobs.said)
        return set(map(int, ids))

    def has_reason(self, first: Execution, second: Execution, starts: list[float]) -> bool:
        """Whether the second of two executions had to be. `starts`: of all that the worker of the first has begun."""
        if first.how == "":
            return any(self._deaths(first, second.start)) or self._was_stopped(first, second.start)
        if first.how == "fail" and asked_between(self._killer.farm.requeues, first, second):
            return True
        at_once = first.end + AT_ONCE + self._stalled(first)
        for death in self._deaths(first, min(second.start, at_once)):
            if not any(first.end + SLACK < start < death - SLACK for start in starts):
                return True
        return self._was_stopped(first, at_once)

    def _deaths(self, execution: Execution, before: float) -> list[float]:
        """When its worker was killed, or may have been: before it a dead one's task may be slow to say that it has begun."""
        earliest = execution.start - SLOW_TO_BEGIN
        return [
            worker.ended
            for worker in self._workers(execution)
            if worker.was_killed and worker.ended is not None and earliest <= worker.ended <= before + SLACK
        ]

    def _workers(self, execution: Execution) -> list[Process]:
        """Its worker; any of its farmer's if that was dead as the task began."""
        worker = self._witness.worker(execution.owner, execution.worker)
        if worker is not None:
            return [worker]
        farmer = self._witness.find(execution.owner)
        return farmer.workers if farmer else []

    def _was_stopped(self, execution: Execution, before: float) -> bool:
        farmer = self._witness.find(execution.owner)
        if farmer is None or farmer.ended is None or (os.WIFEXITED(farmer.status) and farmer.status >> 8 != _STOPPED):
            return False
        in_trouble = any(trouble.time <= before for trouble in self._killer.log.troubles_of(farmer))
        return in_trouble and farmer.ended - _STOP_TAKES - self._stalled(execution) <= before

    def _stalled(self, execution: Execution) -> float:
        """For how many seconds its worker or its farmer may have been stalled after it had begun."""
        farmer = self._witness.find(execution.owner)
        if farmer is None:
            return 0.0
        pids = {farmer.pid, *(worker.pid for worker in farmer.workers)}
        return sum(
            stall.end - stall.begin + AT_ONCE
            for stall in self._killer.log.stalls
            if stall.end >= execution.start and (stall.job == farmer.job or stall.pids & pids)
        )

    def edited_between(self, first: Execution, second: Execution) -> bool:
        """Nobody edits by hand here: there is always a farmer alive."""
        return False

    def about(self, execution: Execution) -> str:
        """What was done to the worker of an execution, to its farmer and to their job."""
        farmer = self._witness.find(execution.owner)
        if farmer is None:
            return f"  (nobody has seen the farmer {execution.owner})"
        worker = self._witness.worker(execution.owner, execution.worker)
        end = "was not seen" if worker is None else f"ended {worker.ended}, status {worker.status:#x}"
        return f"  {farmer}\n  its worker {end}\n  {self._killer.log.about(farmer)}"
