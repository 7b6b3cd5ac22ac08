"""Why a task of the killer's farms may have run again, on one host.

A second execution is explained only by what the killer did to the very worker or farmer of the first, or by a retry:

    the first did not reach its end   its worker was killed, or its farmer was told to stop (a farmer killed alone, or
                                      anybody stalled, is no reason: workers finish what they run)
    it reached its end, well          its worker was killed before that, or at once after it, and before it started anything
                                      else, so that nobody wrote the outcome; or its farmer was told to stop in that instant
    it reached its end, failing       the same, or a retry that was asked for afterwards
"""

from __future__ import annotations

import re
import signal

from .attacks import Target
from .hit import Hit
from .killer import Killer
from .programs import STOPS
from .tasks import Execution

#: The clock of the tasks ticks in hundredths, and a busy machine is slow.
SLACK = 0.05
#: So long a task may take, on a busy machine, from its first instant to its first word.
SLOW_TO_BEGIN = 3.0
#: A worker that lives writes an outcome down at once; this is what "at once" may take on a busy machine.
AT_ONCE = 5.0


class Reasons:
    """What the log of a killer explains."""

    def __init__(self, killer: Killer) -> None:
        self._killer = killer

    def lost_their_workers(self) -> set[int]:
        """Tasks with which a farmer has lost two workers: they fail, so that they cannot go on for ever.

        The second one may have been killed before the task could say that it had begun.
        """
        found = set()
        for program in self._killer.farm.programs:
            ids = re.findall(r"^failed  task (\d+)  killed .* its worker was killed", program.said, re.MULTILINE)
            kills = [hit for hit in self._killer.hits if hit.victim == program.pid and set(hit.pids) - {program.pid}]
            if len(kills) >= 2:
                found.update(map(int, ids))
        return found

    def has_reason(self, first: Execution, second: Execution, starts: list[float]) -> bool:
        """Whether the second of two executions had to be. `starts`: of all that the worker of the first has begun."""
        if first.how == "":
            return self._worker_killed(first, before=second.start) or bool(self._stops(first, second.start))
        if first.how == "fail" and self._asked_again(first, second):
            return True
        at_once = first.end + AT_ONCE + self._stalled(first)
        for hit in self._kills_of_worker(first):
            if _earliest(first) <= hit.time <= min(second.start + SLACK, at_once) and not any(
                first.end + SLACK < start < hit.time - SLACK for start in starts
            ):
                return True
        return any(stop.time <= at_once for stop in self._stops(first, second.start))

    def _stalled(self, execution: Execution) -> float:
        """For how many seconds its worker was stalled after it had begun: in these it could not write anything down."""
        return sum(
            hit.attack.pause + AT_ONCE
            for hit in self._killer.hits
            if hit.attack.signal is signal.SIGSTOP
            and (execution.worker in hit.pids or (hit.victim == execution.farmer and _may_have_hit(hit, execution)))
            and hit.time >= execution.start - hit.attack.pause - AT_ONCE
        )

    def _kills_of_worker(self, execution: Execution) -> list[Hit]:
        return [
            hit
            for hit in self._killer.hits
            if hit.attack.signal is signal.SIGKILL
            and (execution.worker in hit.pids or (hit.victim == execution.farmer and _may_have_hit(hit, execution)))
        ]

    def _worker_killed(self, execution: Execution, before: float) -> bool:
        return any(_earliest(execution) <= hit.time <= before + SLACK for hit in self._kills_of_worker(execution))

    def _stops(self, execution: Execution, before: float) -> list[Hit]:
        return [
            hit
            for hit in self._killer.hits
            if hit.attack.signal in STOPS
            and hit.what == "farmer"
            and hit.victim == execution.farmer
            and execution.farmer in hit.pids
            and hit.time <= before
        ]

    def _asked_again(self, first: Execution, second: Execution) -> bool:
        return asked_between(self._killer.farm.requeues, first, second) or self.edited_between(first, second)

    def edited_between(self, first: Execution, second: Execution) -> bool:
        """Whether somebody has moved tasks by hand meanwhile."""
        return any(first.start <= when <= second.start for when in self._killer.hand_edits)

    def about(self, execution: Execution) -> str:
        """What was done to the worker of an execution, and to its farmer."""
        concerned = [hit for hit in self._killer.hits if execution.worker in hit.pids or hit.victim == execution.farmer]
        return "\n".join(f"  {hit}" for hit in concerned) or "  (nothing was done to its worker or its farmer)"


def asked_between(requeues: list[tuple[float, float]], first: Execution, second: Execution) -> bool:
    """Whether a retry, which took from then to then, may have put back what the first execution left failed."""
    return any(first.end - SLACK <= end and begin <= second.start for begin, end in requeues)


def _may_have_hit(hit: Hit, execution: Execution) -> bool:
    """Whether the worker was hit though its pid is not in the log: it was forked that moment, or dead as the task began."""
    if hit.attack.target in (Target.GROUP, Target.EVERYTHING):
        return True
    return execution.worker == 1 and hit.attack.target is Target.WORKER


def _earliest(execution: Execution) -> float:
    """When its worker may have been killed at the earliest. A dead worker starts nothing: what it has started may be slow to
    say so, and goes on alone."""
    return execution.start - SLOW_TO_BEGIN
