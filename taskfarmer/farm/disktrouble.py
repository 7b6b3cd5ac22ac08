"""A disk that refuses: it is tried again for a while, and then left to a restart. Pure decisions.

Times are seconds of a monotonic clock.
"""

from __future__ import annotations

#: How long a disk that refuses is tried again before the farmer leaves, and how often.
PATIENCE, _PAUSE = 10.0, 0.5


class DiskTrouble:
    """One thing that the disk refuses, and what was said of it."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told: set[str] = set()
        self.try_at = 0.0

    def meet(self, message: str, now: float) -> bool:
        """It refuses, or still does; whether a person should hear of it, which is so once for each message."""
        self.try_at = now + _PAUSE
        if self._since is not None:
            return False
        self._since = now
        is_news = message not in self._told
        self._told.add(message)
        return is_news

    @property
    def is_there(self) -> bool:
        """Whether it refused when it was last tried."""
        return self._since is not None

    def lasts_too_long(self, now: float) -> bool:
        """Whether to leave it to a restart."""
        return self._since is not None and now - self._since > PATIENCE

    def is_over(self) -> None:
        """It was tried, and did what was asked."""
        self._since = None
