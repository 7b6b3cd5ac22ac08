"""How long tasks take, learned from attempts that ended: whether one more fits into what is left of a job.

Lengths are counted in steps that grow by a fifth, so what a thousand farmers learn from millions of tasks is a few dozen
numbers. A farmer adds what it has learned to those in `farm.json`, with an exchange that is made anyway, when that tells
the others something new: so a farmer on a new node knows it before its first task has ended.

    "lengths": {"8": 40, "9.514": 7}     40 attempts took up to 8 s, 7 more up to 9.514 s
"""

import math
from typing import Mapping

from taskfarmer.model import Attempt, Outcome, State

#: Nothing is concluded from fewer attempts.
ENOUGH = 20
#: Fewer are told, too, when they took so many seconds together: of long tasks no farmer may ever see twenty end.
_WORTH_TELLING = 600.0
_MOST_TASKS = 0.9
_STEPS = 4  # to the double
_UNTOLD = (Outcome.NOT_STARTED, Outcome.NOT_ENDED, Outcome.CANCELLED)


class Lengths:
    """What one farmer has learned, and what the others have told."""

    def __init__(self, told: Mapping[str, int]) -> None:
        self._told = told
        self._own: dict[str, int] = {}
        self._seen = 0
        self._usual: float | None = None

    def note(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        if attempt.outcome.state is not State.TOPROCESS and attempt.outcome not in _UNTOLD:
            step = _step(attempt.wall)
            self._own[step] = self._own.get(step, 0) + 1

    def hear(self, told: Mapping[str, int]) -> None:
        """What the farm knows now."""
        self._told = told

    @property
    def news(self) -> dict[str, int]:
        """What to tell the farm: nothing, until it is a fifth of what the farm would know then."""
        own = sum(self._own.values())
        is_enough = own >= ENOUGH or self._own_seconds >= _WORTH_TELLING
        return self._own if is_enough and own * 4 >= sum(self._told.values()) else {}

    @property
    def _own_seconds(self) -> float:
        return sum(float(step) * count for step, count in self._own.items())

    def are_told(self) -> None:
        """The news are with the farm."""
        self._own = {}

    @property
    def usual(self) -> float | None:
        """Nine of ten attempts take no longer than so many seconds; None while that is not known."""
        seen = sum(self._own.values()) + sum(self._told.values())
        # Looked at again only when it can have changed by much: this is asked before every start.
        if seen >= ENOUGH and not self._seen <= seen <= 1.05 * self._seen:
            self._seen = seen
            self._usual = self._quantile(seen)
        return self._usual

    def _quantile(self, seen: int) -> float:
        below = 0
        for step in sorted({*self._own, *self._told}, key=float):
            below += self._own.get(step, 0) + self._told.get(step, 0)
            if below >= _MOST_TASKS * seen:
                break
        return float(step)


def _step(seconds: float) -> str:
    """The upper end of the step in which a length falls. Below a second nobody looks closely."""
    return f"{2 ** (math.ceil(_STEPS * math.log2(max(seconds, 1.0))) / _STEPS):.4g}"
