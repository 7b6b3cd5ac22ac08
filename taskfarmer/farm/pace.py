"""How often a farmer goes to the store, how much it asks for, and how much it hands to a worker. Pure decisions.

A farmer asks for as many tasks as keep its slots busy until the next exchange, and no more: one round of slots when
tasks are long, larger batches when they are short. Near the end it takes smaller shares, so that nobody sits on work
that another could do; what it claimed too much of goes back.

Exchanges of all farmers happen one after another. So the more farmers there are, and the longer an exchange takes or
waits for the lock, the more seldom each goes there, and the further it claims ahead: the lock is taken for less
than half of the time, and waiting for it stays below a hundredth of a farmer's time. Among a few farmers this changes nothing.
`bench/scale.py` tries it with a thousand.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

#: Seconds between two exchanges, on the average; the first few may follow each other at once.
INTERVAL = 0.5
_AT_ONCE = 4.0
#: They are never further apart than that, whatever the lock is like.
_LONGEST = 600.0
#: All farmers together keep the lock taken for this share of the time; each waits for it for less than that one.
_LOCK_TAKEN, _WAITING = 0.4, 1 / 150
#: Some ten farmers keep it taken for less: for this times the root of how many others there are. Who comes finds it taken
#: for that share of the time, and waits about as long as an exchange takes: less than a hundredth of the time until the next.
_TAKEN_BY_FEW = 0.08
#: How many exchanges one remembers: when all farmers start at once the first few wait for long. And how much more seldom
#: one comes than would be fair if the lock is busy all the same.
_REMEMBERED, _MOST_PATIENT = 9, 2.0
#: What an exchange is thought to take before there was one: much, for where it takes less the first one tells. Where a thousand
#: start at once, those who thought it short come too soon for a third one, before others have had their first.
_FIRST_HOLD = 0.03
#: Seconds of work that a farmer holds, at least, and that it hands to a worker at a time.
_HORIZON = 1.2
_BATCH = 0.15
#: So many tasks are claimed ahead only if slots would wait else: under the lock each costs some ten microseconds.
_MOST_AHEAD = 5_000
_HALF_LIFE = 2.0
#: All slots are busy and none has ended anything for so long: what runs now is longer than what was learned from.
_QUIET = 2.0
#: Attempts that have ended are settled after so long, and the store is looked at by one that has nothing to do.
SETTLE, _LOOK = 1.0, 4.0


class Holding(NamedTuple):
    """What a farmer has: claims that wait, slots that wait, claims with workers, attempts that are not settled yet."""

    backlog: int
    idle: int
    busy: int
    done: int


class Pace:
    """Learns how long tasks and exchanges take and decides from it. Times are seconds of a monotonic clock."""

    def __init__(self, slots: int, now: float) -> None:
        self._slots = slots
        self._credit = _AT_ONCE
        self._credit_at = now
        self._exchanged_at = -math.inf
        self._tasks = 0.0
        self._seconds = 0.0
        self._learned_at = now
        self._stirred_at = now
        self._holds = deque([_FIRST_HOLD], _REMEMBERED)
        self._waits = deque([0.0] * _REMEMBERED, _REMEMBERED)
        self._usual_hold, self._usual_wait = _FIRST_HOLD, 0.0
        self.others = 0

    # Learning

    def learn(self, tasks: int, seconds: float, now: float) -> None:
        """So many attempts ended; together they kept a slot for so long. Recent ones count more."""
        fade = 0.5 ** ((now - self._learned_at) / _HALF_LIFE)
        self._learned_at = self._stirred_at = now
        self._tasks = self._tasks * fade + tasks
        self._seconds = self._seconds * fade + seconds

    @property
    def length(self) -> float | None:
        """Seconds a task keeps a slot, None before the first has ended."""
        return self._seconds / self._tasks if self._tasks > 0.01 else None

    def _notice_quiet(self, now: float, idle: int) -> None:
        """While all slots are busy and nothing ends, what runs is at least as long as that lasts."""
        if idle:
            self._stirred_at = now
        quiet = now - self._stirred_at
        if quiet >= _QUIET and self.length is not None and self.length < quiet:
            self._tasks, self._seconds, self._learned_at = 1.0, quiet, now

    def exchanged(self, now: float) -> None:
        """An exchange is being made."""
        self._credit -= 1.0
        self._exchanged_at = now

    def since_exchange(self, now: float) -> float:
        """Seconds since the last one was made; infinite before the first."""
        return now - self._exchanged_at

    def learn_exchange(self, waited: float, took: float) -> None:
        """An exchange took so long, of which it waited for the lock."""
        self._waits.append(waited)
        self._usual_wait = sorted(self._waits)[_REMEMBERED // 2]
        self._holds.append(took - waited)
        # Two of three are shorter: near the mean where a few take very long, and no single one counts.
        self._usual_hold = sorted(self._holds)[(len(self._holds) - 1) * 2 // 3]

    # When

    @property
    def interval(self) -> float:
        """Seconds between two exchanges, on the average."""
        apart = max((self.others + 1) / _LOCK_TAKEN, math.sqrt(self.others) / _TAKEN_BY_FEW) * self._usual_hold
        # Rounded: what arithmetic leaves over half a second must not pass for another interval.
        fair = max(INTERVAL, round(apart, 9))
        patient = self._usual_wait / _WAITING
        return min(_LONGEST, max(fair, min(patient, _MOST_PATIENT * fair)))

    def may_exchange(self, now: float) -> bool:
        """Whether an exchange is allowed now."""
        self._credit = min(_AT_ONCE, self._credit + (now - self._credit_at) / self.interval)
        self._credit_at = now
        return self._credit >= 1.0

    def seconds_until_allowed(self, now: float) -> float:
        """How long until an exchange is allowed."""
        return 0.0 if self.may_exchange(now) else (1.0 - self._credit) * self.interval

    def is_due(self, now: float, held: Holding, left: int | None) -> bool:
        """Whether there is a reason for an exchange. `left`: how many wait in the store, if known."""
        self._notice_quiet(now, held.idle)
        since = self.since_exchange(now)
        if left != 0:
            if self.runs_low(held.backlog, held.idle):
                return True
            if self._holds_on(now, held) and since >= self.look_every:
                return True  # are others without work while ours waits?
        elif self.surplus(now, held, left):
            return True
        elif held.idle and since >= self.look_every:
            return True  # somebody may have added tasks, or given some back
        if not held.done:
            return False
        if held.backlog or held.busy:
            return since >= max(SETTLE, self.interval)
        if left == 0 and since >= INTERVAL:
            self._credit = max(1.0, self._credit)  # most likely the last one, so it comes at once
        return True

    @property
    def look_every(self) -> float:
        """Seconds between two looks at what others do."""
        return max(_LOOK, self.interval)

    # How much

    def runs_low(self, backlog: int, idle: int) -> bool:
        """Whether what is held will not last until the exchange after the next."""
        if self.length is None:
            return backlog < idle
        reserve = self._tasks_in(0.5 + 0.2 * self.interval, self.length)
        return backlog < idle + min(reserve, self._ahead(self.length))

    def want(self, backlog: int, idle: int, left: int | None) -> int:
        """How many tasks to ask for."""
        want = idle + (0 if self.length is None else self._ahead(self.length)) - backlog
        if left is not None and self.others:
            want = min(want, max(idle, self._share(left)))
        return max(0, want)

    def surplus(self, now: float, held: Holding, left: int | None) -> int:
        """How many claims to give back: they would wait here, the store has nothing, and there are others."""
        if left != 0 or not self._holds_on(now, held):
            return 0
        return max(0, held.backlog - self._ahead(max(self.length or 0.0, now - self._stirred_at)))

    def _holds_on(self, now: float, held: Holding) -> bool:
        """Whether claims have been waiting for busy slots for a while, and others might run them."""
        return bool(self.others and held.backlog and not held.idle) and now - self._stirred_at >= _QUIET

    def _ahead(self, length: float) -> int:
        """How many tasks of this length to have beyond those that can begin at once."""
        if self.interval == INTERVAL:
            until_next = self._tasks_in(INTERVAL, length)
            if length > 2 * INTERVAL:
                # Where they end so seldom that each may fetch the next, none is needed.
                return math.ceil(until_next) if until_next > 1 else 0
            return math.ceil(self._tasks_in(_HORIZON, length))
        ahead = min(_MOST_AHEAD, self._tasks_in(0.5 + 1.4 * self.interval, length))
        return int(max(ahead, self._tasks_in(_HORIZON, length)))

    def _share(self, left: int) -> int:
        """Of what is left, what one may claim among others."""
        equal = left / (self.others + 1)
        if self.length is None:
            return int(equal / 2)
        # Less than what is done until the next exchange gains nobody anything.
        until_next = self._tasks_in(INTERVAL, self.length)
        return int(max(equal / 2, until_next, min(equal, self._tasks_in(self.interval, self.length))))

    def _tasks_in(self, seconds: float, length: float) -> float:
        """How many tasks all slots do in this time."""
        return self._slots * seconds / max(length, 1e-4)

    def batch(self, backlog: int, more_to_come: bool) -> int:
        """How many tasks to hand to one worker."""
        if self.length is None:
            return 1
        fitting = int(_BATCH / max(self.length, 1e-4))
        share = math.ceil(backlog / (self._slots if more_to_come else 2 * self._slots))
        return max(1, min(fitting, share))
