"""What a farmer holds between the store and its workers: claims that have not begun, attempts that are not settled."""

from __future__ import annotations

from collections import deque

from taskfarmer.model import Attempt, Claim


class Stock:
    """Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.backlog: deque[Claim] = deque()
        #: What the next exchange gives back. No part of the backlog: if the disk gives up in the middle, nobody knows
        #: whether it is still ours.
        self.going_back: list[Claim] = []
        self.done: list[Attempt] = []
        self._delayed: list[tuple[float, Attempt]] = []

    def keep(self, attempt: Attempt, until: float | None = None) -> None:
        """An attempt has ended. It is settled with the next exchange, but not before `until`."""
        if until is None:
            self.done.append(attempt)
        else:
            self._delayed.append((until, attempt))

    def release(self, now: float) -> None:
        """Attempts whose pause is over are settled, so that their tasks can be tried again."""
        waiting, self._delayed = self._delayed, []
        for at, attempt in waiting:
            self.keep(attempt, None if at <= now else at)

    def seconds_until_release(self, now: float) -> float:
        """Until the next pause is over; infinite if there is none."""
        return max(0.0, min((at for at, _ in self._delayed), default=float("inf")) - now)

    def set_aside(self, count: int) -> None:
        """The last of the backlog go back with the next exchange."""
        self.going_back[:0] = reversed([self.backlog.pop() for _ in range(count)])

    def drop_claims(self) -> int:
        """Forget what has not begun; how many claims that were."""
        count = len(self.backlog) + len(self.going_back)
        self.backlog.clear()
        self.going_back.clear()
        return count

    @property
    def not_begun(self) -> int:
        """How many tasks are still to be begun, or begun again."""
        return len(self.backlog) + len(self.going_back) + len(self._delayed)

    def is_empty(self) -> bool:
        """Whether nothing of ours waits for anything."""
        return not (self.backlog or self.going_back or self.done or self._delayed)
