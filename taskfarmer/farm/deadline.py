"""The end of the batch job as a deadline: what is not begun because it would be cut short. Pure decisions.

A task is not begun when the length that was declared for all tasks does not fit into what is left. Without a declaration it
is the length that nine of ten attempts stayed within (farm/lengths.py); but a farmer's first round is always begun, because
what was learned elsewhere may not be true of what is left. So while the batch system has not answered yet when the job
ends, only a declaration must wait for it. Times are seconds of a monotonic clock.
"""

import math
from typing import Mapping, NamedTuple

from taskfarmer.farm.lengths import Lengths
from taskfarmer.farm.stop import StopRequest
from taskfarmer.model import Attempt
from taskfarmer.settings.units import format_length


class JobEnd(NamedTuple):
    """When a farmer must be gone, `margin` before its job ends, and how much time the whole job had, without the margin;
    infinite if that is not known."""

    at: float
    whole: float
    margin: float


#: The end of what has none.
NEVER = JobEnd(math.inf, math.inf, 0.0)


class Deadline:
    """What one farmer may still begin. Without an end, everything. `end` is None while it is not known yet."""

    def __init__(self, end: JobEnd | None, expect: float | None, slots: int) -> None:
        self.end = end
        self._expect = expect
        self._first_round = slots
        self._lengths = Lengths({})

    # Learning

    def note(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        if self.end is not NEVER:
            self._lengths.note(attempt)

    def note_begun(self, tasks: int) -> None:
        """So many tasks were handed to a worker."""
        self._first_round = max(0, self._first_round - tasks)

    @property
    def news(self) -> Mapping[str, int]:
        """What the farm should know of lengths; usually nothing."""
        return {} if self.end in (None, NEVER) else self._lengths.news

    def hear(self, told: Mapping[str, int], news_are_told: bool) -> None:
        """What the farm knows of lengths."""
        self._lengths.hear(told)
        if news_are_told:
            self._lengths.are_told()

    # Deciding

    def request(self, now: float, waiting: int) -> StopRequest | None:
        """Why to stop now, if it is time; `waiting` tasks would still have to be begun."""
        if self.end is None:
            return None
        if self.end.whole <= 0:
            return StopRequest(f"{TOO_SHORT}, with --margin {self.end.margin:g} s")
        if now >= self.end.at:
            return StopRequest(f"the job's time is up, but for the --margin of {self.end.margin:g} s", times_up=True)
        if not waiting or self.may_begin(now):
            return None
        length = self._length or 0.0
        left, takes = format_length(self.end.at - now), format_length(length)
        if length > self.end.whole:
            whole = format_length(self.end.whole)
            return StopRequest(f"{TOO_LONG} {takes}, the whole job has {whole}", drain=True, held_back=waiting)
        return StopRequest(f"{left} left, tasks take up to {takes}", drain=True, times_up=True, held_back=waiting)

    @property
    def must_be_known(self) -> bool:
        """Whether nothing may be begun before somebody says when the job ends."""
        return self.end is None and self._expect is not None

    def may_begin(self, now: float) -> bool:
        """Whether one more task would be done in time, as far as is known."""
        if self.end is None:
            return not self.must_be_known
        return self.end is NEVER or self._length is None or now + self._length <= self.end.at

    @property
    def _length(self) -> float | None:
        if self._expect is not None:
            return self._expect
        return None if self._first_round else self._lengths.usual


#: How the reason for a stop begins when no job of this length can do what is left, or anything at all.
TOO_LONG, TOO_SHORT = "tasks take up to", "the whole job is too short"
