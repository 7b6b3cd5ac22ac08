"""How a farmer stops: what was asked of it, and what it does to workers and tasks that do not end by themselves."""

from __future__ import annotations

from taskfarmer.farm.pool import Crew
from taskfarmer.farm.stop import Stop, StopRequest

#: After the grace of a stop: killing takes up to 2 s, writing down and reporting the rest.
_PATIENCE_WITH_WORKERS = 3.0
#: After that: we have killed the workers that did not answer, and end their tasks ourselves.
_PATIENCE_WITH_TASKS = 1.5
#: For the last of many.
_LEAST_PATIENCE = 0.3
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
            self._set_times(now + self._grace)
            self._crew.halt(self._grace)

    def _set_times(self, end_of_grace: float) -> None:
        self._kill_workers_at = end_of_grace + _PATIENCE_WITH_WORKERS
        self._leave_at = self._kill_workers_at + _PATIENCE_WITH_TASKS

    def go_on(self, now: float) -> None:
        """See to it that it comes to an end."""
        if self.request is not None and self._stop.hurry and not self._hurried:
            self._hurried = True
            if self._kill_workers_at != _NEVER:
                self._set_times(min(now, self._kill_workers_at - _PATIENCE_WITH_WORKERS))
            self._crew.halt(0.0)
        if now > self._kill_workers_at:
            # A worker that is stopped or hangs does not end its task: without it we can.
            self._kill_workers_at = _NEVER
            self._crew.kill_busy()

    def patience(self, now: float) -> float | None:
        """Seconds until we leave; None as long as nobody wants tasks to end."""
        return max(self._leave_at - now, _LEAST_PATIENCE) if self.ends_tasks else None

    def is_overdue(self, now: float) -> bool:
        """Whether to leave all the same: a task that nothing can kill keeps our presence, by its worker, and so its claim."""
        return now > self._leave_at
