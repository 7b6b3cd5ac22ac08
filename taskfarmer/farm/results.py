"""What follows when an attempt has ended: it is counted, shown, learned from, and kept to be settled."""

from __future__ import annotations

import time
from typing import Callable

from taskfarmer.farm.deadline import Deadline
from taskfarmer.farm.health import Health
from taskfarmer.farm.notices import Ended, Notice, Trouble
from taskfarmer.farm.policy import Policy
from taskfarmer.farm.stock import Stock
from taskfarmer.farm.stop import Stop, StopRequest
from taskfarmer.farm.tally import Tally
from taskfarmer.farm.timeline import Timeline
from taskfarmer.model import Attempt, Outcome
from taskfarmer.stores.placing import goes_back_behind_the_rest


class Results:
    """Takes one attempt after another."""

    def __init__(
        self,
        policy: Policy,
        stock: Stock,
        tally: Tally,
        timeline: Timeline,
        health: Health,
        deadline: Deadline,
        stop: Stop,
        tell: Callable[[Notice], None],
    ) -> None:
        self._policy = policy
        self._stock = stock
        self._tally = tally
        self._timeline = timeline
        self._health = health
        self._deadline = deadline
        self._stop = stop
        self._tell = tell

    def note(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        again = attempt.outcome is not Outcome.FINISHED and self._will_be_tried_again(attempt)
        self._tally.count(attempt, again)
        self._timeline.attempt(attempt)
        self._health.note(attempt)
        self._deadline.note(attempt)
        self._say(attempt, again)
        pause = self._policy.retry_delay if again else 0.0
        self._stock.keep(attempt, time.monotonic() + pause if pause else None)

    def failures_left(self) -> int | None:
        """How many tasks may still fail before nothing more is started; None: any number."""
        limit = self._policy.max_failures
        return None if limit is None else max(0, limit - self._tally.failed)

    def _will_be_tried_again(self, attempt: Attempt) -> bool:
        return attempt.outcome is Outcome.WORKER_LOST or goes_back_behind_the_rest(
            attempt.outcome, attempt.claim.failures, self._policy.retries
        )

    def _say(self, attempt: Attempt, again: bool) -> None:
        if attempt.outcome is Outcome.FINISHED:
            if self._policy.tell_finished:
                self._tell(Ended(attempt, again))
        elif attempt.outcome is not Outcome.INTERRUPTED:
            self._tell(Ended(attempt, again))
            self._heed_max_failures()
        elif attempt.note:
            self._tell(Trouble(f"task {attempt.claim.id} was ended after {attempt.wall:.0f} s: {attempt.note}"))

    def _heed_max_failures(self) -> None:
        if self.failures_left() == 0:
            self._stop.ask(StopRequest(f"--max-failures {self._policy.max_failures}", drain=True))
