"""What becomes of the claims of a worker that has died.

What it had recorded counts. What it was running is ended first and then tried again, once for nothing: the second time
its worker dies, a task has failed. What it had not begun goes back to its farmer.

What runs on all the same is not run again meanwhile: the task has failed. Only when we are leaving, and had little time to
end it, our claim on it stays, for whoever recovers us: that one ends it, with more patience.
"""

from __future__ import annotations

import time
from typing import Callable, NamedTuple

from taskfarmer.farm.notices import unended
from taskfarmer.farm.pool import Lost
from taskfarmer.model import Attempt, Claim, Outcome
from taskfarmer.stores.base import TaskSource

_MOST_STILLBORN = 20


class Estate(NamedTuple):
    """What a dead worker has left: attempts that have ended, claims that were not begun, and what runs on, in words."""

    ended: list[Attempt]
    not_begun: list[Claim]
    runs_on: str = ""


class Mourning:
    """Settles what dead workers leave.

    `end_leftovers(slot, pid, patience)` ends what one has left running, within `patience` seconds (None: in its own
    time), and says what runs on.
    """

    def __init__(self, store: TaskSource, end_leftovers: Callable[[int, int, float | None], str]) -> None:
        self._store = store
        self._end_leftovers = end_leftovers
        self._lost_once: set[int] = set()
        self._stillborn = 0

    def settle(self, lost: Lost, patience: float | None) -> Estate:
        """Find out what a worker has left; `patience`: seconds until we leave, None where its task was not to be ended."""
        self._stillborn = self._stillborn + 1 if lost.stillborn else 0
        if not lost.claims:
            return Estate([], [])
        runs_on = self._end_leftovers(lost.slot, lost.pid, patience)
        ended = self._store.ended(lost.slot, lost.claims)
        tokens = {attempt.claim.token for attempt in ended}
        rest = [claim for claim in lost.claims if claim.token not in tokens]
        if not rest:
            return Estate(ended, [])
        if runs_on and patience is not None:
            return Estate(ended, rest[1:], runs_on)
        return Estate([*ended, self._attempt(rest[0], lost.slot, patience is not None, runs_on)], rest[1:])

    def _attempt(self, claim: Claim, slot: int, is_stopped: bool, runs_on: str) -> Attempt:
        outcome, note = Outcome.WORKER_LOST, "its worker was killed"
        if is_stopped:
            outcome = Outcome.INTERRUPTED
        elif runs_on:
            outcome, note = Outcome.NOT_ENDED, f"{note}; {unended(runs_on)}"
        elif claim.id in self._lost_once:
            outcome = Outcome.KILLED
        self._lost_once.add(claim.id)
        return Attempt(claim, outcome, 9, time.time(), slot=slot, note=note)

    @property
    def is_in_vain(self) -> bool:
        """Whether new workers die, too, before they can say anything."""
        return self._stillborn > _MOST_STILLBORN
