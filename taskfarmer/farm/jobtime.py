"""When a farmer must be gone: what --walltime says, else what the batch system answers, in its own time."""

from __future__ import annotations

import math
import os
import time
from typing import Callable

from taskfarmer.farm.deadline import NEVER, JobEnd
from taskfarmer.farm.notices import Notice, Trouble
from taskfarmer.system.walltime import Asked, Walltime


class JobTime:
    """The end of our job, once it is known. Seconds; `began`: when this run did, by a monotonic clock.

    `margin`: how long before its job a farmer ends.
    """

    def __init__(self, walltime: float | None, margin: float, began: float, tell: Callable[[Notice], None]) -> None:
        self._margin = margin
        self._tell = tell
        self._asked: Asked | None = None
        self._end: JobEnd | None = None
        if walltime is not None:
            self._end = self._end_after(Walltime(walltime, walltime), began)

    def end(self) -> JobEnd | None:
        """When to be gone, `NEVER` if nobody says so; None while that is not known. Asks when first called; never waits."""
        if self._end is None and (found := self._answer()):
            if found.trouble:
                self._tell(Trouble(f"{found.trouble}: when the job ends is not known; --walltime says it"))
            self._end = self._end_after(found, self._asked_at)
        return self._end

    def _answer(self) -> Walltime | None:
        if self._asked is None:
            self._asked_at = time.monotonic()
            self._asked = Asked(os.environ)
        return self._asked.answer()

    def _end_after(self, found: Walltime, since: float) -> JobEnd:
        if found.left is None:
            return NEVER
        whole = math.inf if found.whole is None else found.whole
        return JobEnd(since + found.left - self._margin, whole - self._margin, self._margin)

    def close(self) -> None:
        """Wait for no answer any more."""
        if self._asked is not None:
            self._asked.close()
