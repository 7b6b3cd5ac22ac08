"""Hands claims to workers: how many to whom, and since when they have had them."""

from __future__ import annotations

import sys
import time
from typing import Callable

from taskfarmer.farm.deadline import Deadline
from taskfarmer.farm.health import AT_ONCE, Health
from taskfarmer.farm.pace import Pace
from taskfarmer.farm.pool import Crew, Heard, Lost
from taskfarmer.farm.stock import Stock


class Foreman:
    """Keeps the crew busy. Times are seconds of a monotonic clock."""

    def __init__(
        self,
        crew: Crew,
        slots: int,
        stock: Stock,
        pace: Pace,
        deadline: Deadline,
        health: Health,
        failures_left: Callable[[], int | None],
    ) -> None:
        """`failures_left`: how many tasks may fail from here on; None: any number."""
        self._crew = crew
        self._slots = slots
        self._stock = stock
        self._pace = pace
        self._deadline = deadline
        self._health = health
        self._failures_left = failures_left
        self._given_at: dict[int, float] = {}

    def feed(self, more_to_come: bool) -> None:
        """Hand out what may be begun, as far as workers are idle; `more_to_come`: the store has more."""
        if self._health.is_suspect or not self._deadline.may_begin(time.monotonic()):
            return
        backlog = self._stock.backlog
        if backlog and self.unhired:
            self._crew.hire(self._crew.busy_claims() + len(backlog))
        for slot in self._crew.idle_slots():
            if not backlog:
                return
            count = min(self._pace.batch(len(backlog), more_to_come), self._most_for_one(), len(backlog))
            batch = [backlog.popleft() for _ in range(count)]
            self._given_at[slot] = time.monotonic()
            self._deadline.note_begun(len(batch))
            self._crew.give(slot, batch)

    def _most_for_one(self) -> int:
        """How many tasks one worker may have, so that all together start no more than they should."""
        limits = [most for most in (self._health.most_to_start, self._failures_left()) if most is not None]
        return max(1, min(limits) // self._slots) if limits else sys.maxsize

    def hear(self, event: Heard | Lost) -> None:
        """The quick part of an event: what the next hand-out depends on."""
        if isinstance(event, Lost):
            self._given_at.pop(event.slot, None)
            return
        report = event.report
        now = time.monotonic()
        if report.attempts:
            self._pace.learn(len(report.attempts), now - self._given_at.get(event.slot, now), now)
            self._given_at[event.slot] = now
        if report.idle:
            self._given_at.pop(event.slot, None)
        self._stock.backlog.extendleft(reversed(report.returned))

    @property
    def unhired(self) -> int:
        """How many slots have no worker yet."""
        return self._slots - self._crew.hired

    @property
    def idle(self) -> int:
        """How many slots have nothing to do."""
        return len(self._crew.idle_slots()) + self.unhired

    @property
    def running(self) -> int:
        """How many workers have something to do."""
        return len(self._given_at)

    def lasting(self, now: float) -> int:
        """How many of those run longer than what fails at once. Called from any thread."""
        return sum(now - begun >= AT_ONCE for begun in list(self._given_at.values()))
