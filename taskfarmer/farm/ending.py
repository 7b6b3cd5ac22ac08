"""How a farmer stops: what was asked of it, and what it does to workers and tasks that do not end by themselves."""

from __future__ import annotations

from taskfarmer.farm.pool import Crew
from taskfarmer.farm.stop import Stop, StopRequest

#: After the grace of a stop: killing takes up to 2 s, writing down and reporting the rest.
_PATIENCE_WITH_WORKERS = 3.0
#: After that: we have killed the workers that did not answer, and end their tasks ourselves.
_PATIENCE_WITH_TASKS = 1.5
_NEVER = float("inf")


class Ending:
    """The stop of one farmer. `grace`: see Policy. Times are seconds of a monotonic clock."""

    def __init__(self, stop: Stop, crew: Crew, grace: float) -> None:
        self._stop = stop
        self._crew = crew
        self._grace = grace
        self._hurried = False
        self._kill_workers_at = self._leave_at = _NEVER
        #: What is being done; None: nobody has asked for a stop.
        self.request: StopRequest | None = None

    @property
    def ends_tasks(self) -> bool:
        """Whether what runs is ended."""
        return self.request is not None and not self.request.drain

    def is_new(self) -> bool:
        """Whether a stop was asked for that is not being done yet; of a second one, only whether it ends what runs."""
        asked = self._stop.request
        return asked is not None and (self.request is None or self.request.drain > asked.drain)

    def begin(self, now: float) -> None:
        """Do what was asked."""
        self.request = self._stop.request
        if self.ends_tasks:
            self._kill_workers_at = now + self._grace + _PATIENCE_WITH_WORKERS
            self._leave_at = self._kill_workers_at + _PATIENCE_WITH_TASKS
            self._crew.halt(self._grace)

    def go_on(self, now: float) -> None:
        """See to it that it comes to an end."""
        if self.request is not None and self._stop.hurry and not self._hurried:
            self._hurried = True
            self._crew.halt(0.0)
        if now > self._kill_workers_at:
            # A worker that is stopped or hangs does not end its task: without it we can.
            self._kill_workers_at = _NEVER
            self._crew.kill_busy()

    def is_overdue(self, now: float) -> bool:
        """Whether to leave all the same: a task that nothing can kill keeps our presence, by its worker, and so its claim."""
        return now > self._leave_at
