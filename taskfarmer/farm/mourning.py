"""What becomes of the claims of a worker that has died.

What it had recorded counts. What it was running is ended first and then tried again, once for nothing: the second time
its worker dies, a task has failed. What it had not begun goes back to its farmer.
"""

from __future__ import annotations

import time
from typing import Callable, NamedTuple

from taskfarmer.farm.pool import Lost
from taskfarmer.model import Attempt, Claim, Outcome
from taskfarmer.stores.base import TaskSource

_MOST_STILLBORN = 20


class Estate(NamedTuple):
    """What a dead worker has left: attempts that have ended, and claims that were not begun."""

    ended: list[Attempt]
    not_begun: list[Claim]


class Mourning:
    """Settles what dead workers leave. `end_leftovers(slot, pid)` ends what one has left running."""

    def __init__(self, store: TaskSource, end_leftovers: Callable[[int, int], object]) -> None:
        self._store = store
        self._end_leftovers = end_leftovers
        self._lost_once: set[int] = set()
        self._stillborn = 0

    def settle(self, lost: Lost, is_stopped: bool) -> Estate:
        """Find out what a worker has left; `is_stopped`: its task was to be ended anyway."""
        self._stillborn = self._stillborn + 1 if lost.stillborn else 0
        if not lost.claims:
            return Estate([], [])
        self._end_leftovers(lost.slot, lost.pid)
        ended = self._store.ended(lost.slot, lost.claims)
        tokens = {attempt.claim.token for attempt in ended}
        rest = [claim for claim in lost.claims if claim.token not in tokens]
        if rest:
            ended.append(self._attempt(rest[0], lost.slot, is_stopped))
        return Estate(ended, rest[1:])

    def _attempt(self, claim: Claim, slot: int, is_stopped: bool) -> Attempt:
        outcome = Outcome.WORKER_LOST
        if is_stopped:
            outcome = Outcome.INTERRUPTED
        elif claim.id in self._lost_once:
            outcome = Outcome.KILLED
        self._lost_once.add(claim.id)
        return Attempt(claim, outcome, 9, time.time(), slot=slot, note="its worker was killed")

    @property
    def is_in_vain(self) -> bool:
        """Whether new workers die, too, before they can say anything."""
        return self._stillborn > _MOST_STILLBORN
