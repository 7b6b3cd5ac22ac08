"""What a farmer sees of the others: it takes over from the dead, names the silent, and knows who speaks for its job."""

from __future__ import annotations

from typing import Callable

from taskfarmer.farm.notices import Notice, OwnerLost, Silent
from taskfarmer.farm.timeline import Timeline
from taskfarmer.model import Owner
from taskfarmer.stores.base import Recovered, TaskSource
from taskfarmer.system.vigil import SAMPLES

_EVERY = 4.0


class Lookout:
    """Looks around now and then. `dead_after`: see Policy. Times are seconds of a monotonic clock."""

    def __init__(
        self, store: TaskSource, timeline: Timeline, tell: Callable[[Notice], None], dead_after: float, now: float
    ) -> None:
        self._store = store
        self._timeline = timeline
        self._tell = tell
        self._dead_after = dead_after
        self._looked_at = now
        #: Seconds between two looks, while nobody is silent.
        self.every = _EVERY
        self._told_silent: set[Owner] = set()
        #: Of the farmers of a batch job only the first says how far the whole is. Outside of one, everybody does.
        self.speaks = False

    def is_due(self, now: float) -> bool:
        """Whether it is time to look."""
        every = min(_EVERY, self._dead_after / SAMPLES) if self._store.company.silent else self.every
        return now - self._looked_at >= every

    def look(self, now: float) -> bool:
        """Look around, and say what is to be seen; whether tasks of the dead came back."""
        self._looked_at = now
        found = [recovered for recovered in self._store.recover() if _had_something(recovered)]
        for recovered in found:
            self._say_recovered(recovered)
        self._say_silent()
        self.speaks = self._store.is_first_of_job()
        return bool(found)

    def _say_recovered(self, found: Recovered) -> None:
        self._tell(OwnerLost(*found))
        self._timeline.instant(f"recovered {found.owner.host} {found.owner.pid}: {found.requeued} tasks back")

    def _say_silent(self) -> None:
        for owner in self._store.company.silent:
            if owner not in self._told_silent:
                self._told_silent.add(owner)
                self._tell(Silent(owner))


def _had_something(found: Recovered) -> bool:
    return bool(found.settled or found.requeued or found.killed)
