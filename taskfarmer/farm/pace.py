"""How often a farmer goes to the store, how much it asks for, and how much it hands to a worker. Pure decisions.

A farmer asks for as many tasks as keep its slots busy until the next exchange, and no more: one round of slots when
tasks are long, larger batches when they are short. Near the end it takes smaller shares, so that nobody sits on work
that another could do.
"""

from __future__ import annotations

import math

#: Seconds between two exchanges, on the average; the first few may follow each other at once.
INTERVAL = 0.5
_AT_ONCE = 4.0
#: Seconds of work that a farmer holds, and that it hands to a worker at a time.
_HORIZON = 1.2
_BATCH = 0.15
_HALF_LIFE = 2.0


class Pace:
    """Learns how long tasks take and decides from it. Times are seconds of a monotonic clock."""

    def __init__(self, slots: int, now: float) -> None:
        self._slots = slots
        self._credit = _AT_ONCE
        self._credit_at = now
        self._tasks = 0.0
        self._seconds = 0.0
        self._learned_at = now
        self.others = 0

    # Learning

    def learn(self, tasks: int, seconds: float, now: float) -> None:
        """So many attempts ended; together they kept a slot for so long. Recent ones count more."""
        fade = 0.5 ** ((now - self._learned_at) / _HALF_LIFE)
        self._learned_at = now
        self._tasks = self._tasks * fade + tasks
        self._seconds = self._seconds * fade + seconds

    @property
    def length(self) -> float | None:
        """Seconds a task keeps a slot, None before the first has ended."""
        return self._seconds / self._tasks if self._tasks > 0.01 else None

    # When

    def may_exchange(self, now: float) -> bool:
        """Whether an exchange is allowed now."""
        self._credit = min(_AT_ONCE, self._credit + (now - self._credit_at) / INTERVAL)
        self._credit_at = now
        return self._credit >= 1.0

    def seconds_until_allowed(self, now: float) -> float:
        """How long until an exchange is allowed."""
        return 0.0 if self.may_exchange(now) else (1.0 - self._credit) * INTERVAL

    def exchanged(self) -> None:
        """An exchange was made."""
        self._credit -= 1.0

    # How much

    def runs_low(self, backlog: int, idle: int) -> bool:
        """Whether what is held will not last until the exchange after the next."""
        if self.length is None:
            return backlog < idle
        return backlog < idle + self._slots * INTERVAL / max(self.length, 1e-4) * 1.2

    def want(self, backlog: int, idle: int, left: int | None) -> int:
        """How many tasks to ask for. `left`: how many wait in the store, if known."""
        ahead = 0 if self.length is None else math.ceil(self._slots * _HORIZON / max(self.length, 1e-4))
        if self.length is not None and self.length > 2 * INTERVAL:
            ahead = 0  # so long that each that ends may fetch the next
        want = idle + ahead - backlog
        if left is not None and self.others:
            # Less than what is done until the next exchange gains nobody anything.
            until_next = 0 if self.length is None else int(self._slots * INTERVAL / max(self.length, 1e-4))
            want = min(want, max(idle, until_next, left // (2 * (self.others + 1))))
        return max(0, want)

    def batch(self, backlog: int, more_to_come: bool) -> int:
        """How many tasks to hand to one worker."""
        if self.length is None:
            return 1
        fitting = int(_BATCH / max(self.length, 1e-4))
        share = math.ceil(backlog / (self._slots if more_to_come else 2 * self._slots))
        return max(1, min(fitting, share))
