"""Everything that can end a farm early, made into one StopRequest. The only module that installs signal handlers.

A handler sets a flag and wakes the farmer; all else happens in its loop.
"""

import os
import signal
import time
from typing import NamedTuple

from taskfarmer.system import process

_REASONS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGUSR1: "SIGUSR1",
    signal.SIGUSR2: "SIGUSR2",
    signal.SIGHUP: "the terminal is gone",
}
#: What batch systems are asked to send some time before a job ends. TERM is what `scancel` sends.
_WARNINGS = frozenset((signal.SIGUSR1, signal.SIGUSR2))


class StopRequest(NamedTuple):
    """Why to stop. `drain`: what runs is finished, else it is ended.

    `held_back`: so many tasks are not begun because they would not be done before the job ends. `times_up`: only the time
    of this run is over; the same job could go on, were it started again.
    """

    reason: str
    drain: bool = False
    held_back: int = 0
    times_up: bool = False


class Stop:
    """Collects signals, `--timeout` and the farm's own reasons. Used as a context around all that a farmer does.

    `for_good`: the process ends afterwards; signals are ignored from then on, since what is done cannot be stopped.
    """

    def __init__(self, timeout: float | None = None, for_good: bool = False) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._for_good = for_good
        self._signals: list[int] = []
        self._own: StopRequest | None = None
        self._before: dict[int, object] = {}
        self._reader = self._writer = -1
        self._wakeup_before = -1

    def __enter__(self) -> "Stop":
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _REASONS:
            before = signal.getsignal(number)
            if number == signal.SIGHUP and before is signal.SIG_IGN:
                continue  # nohup
            self._before[number] = before
            signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._for_good else before)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, frame: object) -> None:
        self._signals.append(number)

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._reader

    def clear_wakeup(self) -> None:
        """Empty what made `fileno` readable."""
        try:
            while os.read(self._reader, 512):
                pass
        except BlockingIOError:
            pass  # empty, as wanted

    def ask(self, request: StopRequest) -> None:
        """Stop for a reason of the farm's own. The first one counts, but one that ends what runs overrides a drain."""
        if self._own is None or (self._own.drain and not request.drain):
            self._own = request

    @property
    def request(self) -> StopRequest | None:
        """Why to stop, None to go on. A signal overrides a drain."""
        if self._signals:
            return StopRequest(
                _REASONS[signal.Signals(self._signals[0])],
                times_up=all(number in _WARNINGS for number in self._signals),
            )
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return StopRequest(f"--timeout {self._timeout:g}", times_up=True)
        return self._own

    @property
    def hurry(self) -> bool:
        """Whether somebody asked a second time."""
        return len(self._signals) > 1

    def seconds_left(self) -> float:
        """Until the deadline; a long time if there is none."""
        return 3600.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())


def shield_worker() -> None:
    """In a worker: what a batch system or a terminal sends to everybody is the farmer's business."""
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_BLOCK, process.WAKE)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    for quiet in (signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(quiet, signal.SIG_DFL)
