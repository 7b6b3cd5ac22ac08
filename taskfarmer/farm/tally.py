"""What one farmer has got done: counts, busy time, the slowest tasks, the failed ones."""

from __future__ import annotations

import time
from heapq import heappush, heappushpop

from taskfarmer.farm.notices import Progress, Summary
from taskfarmer.model import Attempt, Outcome, State
from taskfarmer.stores.base import Added, Exchange, Glance

_SHOWN_SLOWEST = 3
_MOST_FAILED_IDS = 1000


class Tally:
    """Counts attempts as they end. Its size does not depend on how many there are."""

    def __init__(self, slots: int, before: Added) -> None:
        self._slots = slots
        self._began = time.monotonic()
        self.finished = self.failed = self.interrupted = 0
        self._total = before.total
        self._done_before = before.finished + before.failed
        self._farm_finished, self._farm_failed, self._farm_left = before.finished, before.failed, before.left
        self.running_elsewhere = 0
        #: Whether others have worked beside us.
        self.has_company = False
        self._failed_ids: list[int] = []
        self._busy_seconds = 0.0
        self._slowest: list[tuple[float, int]] = []

    def count(self, attempt: Attempt, again: bool) -> None:
        """One attempt has ended; `again` if its task will be tried again."""
        self._busy_seconds += attempt.wall
        state = attempt.outcome.state
        if state is not State.TOPROCESS:
            self._remember_slow(attempt)
        if state is State.FINISHED:
            self.finished += 1
        elif attempt.outcome is Outcome.INTERRUPTED:
            self.interrupted += 1
        elif not again:
            self.failed += 1
            if len(self._failed_ids) < _MOST_FAILED_IDS:
                self._failed_ids.append(attempt.claim.id)

    def _remember_slow(self, attempt: Attempt) -> None:
        entry = (attempt.wall, attempt.claim.id)
        if len(self._slowest) < _SHOWN_SLOWEST:
            heappush(self._slowest, entry)
        elif entry > self._slowest[0]:
            heappushpop(self._slowest, entry)

    def see_farm(self, seen: Exchange | Glance) -> None:
        """What the store said of the whole farm."""
        self._farm_finished, self._farm_failed, self._farm_left = seen.finished, seen.failed, seen.left
        self.running_elsewhere = seen.running_elsewhere

    def progress(self, running: int, waiting: int, left: int) -> Progress:
        """How far we are. Here `running` tasks are with workers and `waiting` have not begun; `left` are in the store."""
        seconds = time.monotonic() - self._began
        if not self.has_company:
            return Progress(self.finished, self.failed, running, waiting + left, seconds, self._busy_seconds)
        held = self._total - self._farm_finished - self._farm_failed - self._farm_left
        return Progress(
            self._farm_finished, self._farm_failed, max(running, held), self._farm_left, seconds, self._busy_seconds,
            self._done_before, company=True,
        )  # fmt: skip

    def summary(self, left: int, stopped: str | None, gave_up: str | None, times_up: bool = False) -> Summary:
        """What came of it."""
        return Summary(
            self.finished,
            self.failed,
            self._farm_finished,
            self._farm_failed,
            sorted(self._failed_ids),
            self.interrupted,
            left,
            self.running_elsewhere,
            time.monotonic() - self._began,
            self._busy_seconds,
            self._slots,
            [(id, wall) for wall, id in sorted(self._slowest, reverse=True)],
            stopped,
            gave_up,
            times_up,
        )
