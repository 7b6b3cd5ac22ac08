"""A worker: one process of the Pool that runs one attempt after another in its slot.

It records each outcome in its own file before it tells anybody, without any lock, so that neither the farmer's death
nor a lock that cannot be had loses finished work. It starts nothing once its farmer is gone.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from resource import RUSAGE_SELF, getrusage
from typing import Protocol

from taskfarmer.farm.environment import set_task, task_environment
from taskfarmer.farm.heartbeat import Leash
from taskfarmer.farm.notices import unended
from taskfarmer.farm.orders import Halt, Report, Setup, Work
from taskfarmer.farm.starter import Starter
from taskfarmer.farm.tasklog import TaskLog
from taskfarmer.model import Attempt, Claim, Outcome, Slot, State
from taskfarmer.stores import slotfile
from taskfarmer.stores.lines import owner_folder
from taskfarmer.system import files, process, proctable, tree
from taskfarmer.system.launching import NEVER_BEGAN, REFUSED, NotStarted
from taskfarmer.system.leftovers import Leader, in_words
from taskfarmer.system.presence import Presence

#: Seconds of a batch after which the worker reports, and gives back what it has not started.
REPORT_AFTER = 0.2
#: An attempt that takes this many seconds leaves a `start` line, and its outcome is synced to disk.
LONG = 1.0
_LOOK_AT_LOG = 0.25
_SLOT_FILE_LIMIT = 1 << 16
#: Signals that a batch system sends to tasks and farmer alike; then the farmer is asked what was meant.
_SENT_TO_ALL = frozenset((1, 2, 9, 10, 12, 15))
_FAR = float("inf")
_LONGEST_WAIT = 3600.0


class Line(Protocol):
    """The worker's end of its line to the farmer (multiprocessing's Connection)."""

    def send(self, message: object) -> None: ...
    def recv(self) -> object: ...
    def poll(self, timeout: float = 0.0) -> bool: ...


class Worker:
    """Runs what its farmer hands it, until the line goes dead."""

    def __init__(self, setup: Setup, slot: int, line: Line, farmer: int) -> None:
        self._setup = setup
        self._line = line
        self._farmer = farmer
        self._slot = Slot(slot)
        folder = owner_folder(setup.workdir, setup.owner)
        self._presence = Presence(os.path.join(folder, "alive"))
        # Without O_CREAT: a slot file that is gone says that we were taken over.
        self._record_fd = os.open(os.path.join(folder, f"slot_{slot}"), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._log = TaskLog(setup, slot)
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._env = task_environment(os.environb, setup.owner, setup.workdir, slot, setup.keep_mpi_env)
        self._starter = Starter(setup.runner, self._slot, self._null)
        self._timeout = _FAR if setup.task_timeout is None else setup.task_timeout
        self._leash = Leash(setup.contact, farmer, tree.kill_descendants) if setup.contact else None
        self._look_at_log_every = _LOOK_AT_LOG if setup.log_limit else _FAR
        # Before it execs, a task is a copy of us: a peak no larger than ours says nothing about the task.
        self._own_memory = getrusage(RUSAGE_SELF).ru_maxrss + 1024
        # Monotonic time told as an epoch: attempts of one slot never overlap, whatever the clock does.
        self._epoch = time.time() - time.monotonic()
        self._todo: deque[Claim] = deque()
        self._done: list[Attempt] = []
        self._halt: Halt | None = None
        self._hurry = False
        self._trouble = ""
        self._told: set[int] = set()  # what we could not end
        process.become_subreaper()
        process.take_name(process.worker_name(os.getpid()))
        if self._leash is not None:
            self._leash.start()

    def serve(self) -> None:
        """Work until the farmer hangs up or dies."""
        self._report(idle=True)
        while (order := self._hear()) is not None:
            if isinstance(order, Work):
                self._work(order)
            elif isinstance(order, Halt):
                self._end_leftovers(order)

    def _work(self, order: Work) -> None:
        if order.settled:
            self._shorten_record()
        self._todo.extend(order.claims)
        self._report_at = time.monotonic() + REPORT_AFTER
        while self._todo and self._may_start():
            self._run(self._todo.popleft())
        if self._halt is not None:
            self._end_leftovers(self._halt)
        else:
            process.reap_strays()
            self._report(idle=True)

    def _may_start(self) -> bool:
        return self._halt is None and not self._trouble and os.getppid() == self._farmer

    # One attempt

    def _run(self, claim: Claim) -> None:
        """Run one claim and record how it ended."""
        begun = time.monotonic()
        try:
            self._output = self._log.open(claim.id)
        except OSError as error:
            why = f"logs/log_{claim.id}: {error.strerror}"
            if error.errno in files.DISK_TROUBLE or not self._log.is_there(claim.id):
                # The task has not begun and is given back.
                self._trouble = why
                self._todo.appendleft(claim)
            else:
                # This one file is not ours, or no file: every farmer would stop here again.
                self._record(attempt := self._attempt(claim, Outcome.NOT_STARTED, 0, begun, note=why))
                self._done.append(attempt)
            return
        set_task(self._env, claim)
        try:
            pid = self._starter.start(claim, self._env, self._output)
        except (OSError, ValueError, TypeError, NotStarted) as error:
            attempt = self._not_started(claim, begun, error)
        else:
            attempt = self._attend(claim, pid, begun)
        try:
            self._starter.clear()
        except OSError as error:
            self._log.write(f"pytaskfarmer: {error.filename}: cannot be removed: {error.strerror}\n")
        try:
            self._log.close(attempt.outcome.state is State.FAILED, claim.attempt)
        except OSError as error:
            self._trouble = f"logs/log_{claim.id}: {error.strerror}"
        self._record(attempt)
        self._done.append(attempt)

    def _not_started(self, claim: Claim, begun: float, error: OSError | ValueError | TypeError | NotStarted) -> Attempt:
        number = error.errno if isinstance(error, OSError) else None
        why = (error.strerror if isinstance(error, OSError) else str(error)) or "unknown"
        if number == errno.E2BIG:
            why = f"{why}: the line has {len(claim.command)} bytes"
        self._log.write(f"pytaskfarmer: {claim.command[:200]}: {why}\n")
        if number in REFUSED:
            status = 127 if number == errno.ENOENT else 126
            return self._attempt(claim, Outcome.FAILED, status, begun, note=why)
        return self._attempt(claim, Outcome.NOT_STARTED, 0, begun, note=why)

    def _attend(self, claim: Claim, pid: int, begun: float) -> Attempt:
        """Wait for a running task; end it when its time is up or the farmer says so."""
        if self._leash is not None:
            self._leash.was_torn = False  # while we had nothing to run that was no matter
        deadline = begun + self._timeout
        start_line_at = begun + LONG
        look_at_log_at = begun + self._look_at_log_every
        wake = min(self._report_at, deadline, start_line_at, look_at_log_at)
        while (ended := process.wait(pid, wake - time.monotonic())) is None:
            if self._hears_halt():
                return self._end(claim, pid, begun, Outcome.INTERRUPTED)
            now = time.monotonic()
            if now >= deadline:
                return self._end(claim, pid, begun, Outcome.TIMED_OUT)
            if now >= self._report_at:
                self._report(idle=False)
            if now >= start_line_at:
                start_line_at = _FAR
                self._write_record(slotfile.start_line(claim.token, Leader(pid, proctable.start_if_known(pid))))
            if now >= look_at_log_at:
                look_at_log_at = now + self._look_at_log_every
                self._log.trim()
            wake = min(self._report_at, deadline, start_line_at, look_at_log_at, now + _LONGEST_WAIT)
        return self._ended(claim, begun, ended)

    def _ended(self, claim: Claim, begun: float, ended: process.Ended) -> Attempt:
        if self._leash is not None and self._leash.was_torn:
            return self._attempt(
                claim,
                Outcome.INTERRUPTED,
                ended.signal,
                begun,
                ended,
                "we were cut off from the workdir. It is run again",
            )
        if ended.raw == 0:
            if not self._starter.command_began():
                self._log.write(f"pytaskfarmer: {NEVER_BEGAN}\n")
                return self._attempt(claim, Outcome.NOT_STARTED, 0, begun, ended, NEVER_BEGAN)
            return self._attempt(claim, Outcome.FINISHED, 0, begun, ended)
        if ended.signal:
            attempt = self._attempt(claim, Outcome.KILLED, ended.signal, begun, ended)
        else:
            attempt = self._attempt(claim, Outcome.FAILED, ended.status, begun, ended)
        number = ended.signal or ended.status - 128
        if number in _SENT_TO_ALL and self._hears_halt(within=1.0):
            return attempt._replace(outcome=Outcome.INTERRUPTED, status=number)
        return attempt

    def _end(self, claim: Claim, pid: int, begun: float, outcome: Outcome) -> Attempt:
        ended, strangers = tree.end(pid, self._grace(), self._hears_hurry)
        note = ""
        if strangers:  # run again, it might run twice at once
            self._told.update(strangers)
            outcome, note = Outcome.NOT_ENDED, unended(in_words(strangers))
        elif ended is None:
            note = "it could not be killed (its disk may hang)"
        return self._attempt(claim, outcome, ended.signal if ended else 0, begun, ended, note)

    def _grace(self) -> float:
        return self._setup.grace if self._halt is None else self._halt.grace

    def _attempt(
        self,
        claim: Claim,
        outcome: Outcome,
        status: int,
        begun: float,
        ended: process.Ended | None = None,
        note: str = "",
    ) -> Attempt:
        wall = time.monotonic() - begun
        cpu, memory = (ended.cpu, ended.memory) if ended else (0.0, 0)
        if memory <= self._own_memory:
            memory = 0
        return Attempt(claim, outcome, status, begun + self._epoch, wall, cpu, memory, self._slot.number, note)

    # Recording

    def _record(self, attempt: Attempt) -> None:
        self._write_record(slotfile.end_line(attempt))
        if attempt.wall >= LONG:
            try:
                os.fdatasync(self._record_fd)
            except OSError as error:
                self._trouble = f"slot_{self._slot.number}: {error.strerror}"

    def _write_record(self, line: bytes) -> None:
        """One append. What cannot be written is tried again, then told to the farmer only."""
        for pause in (0.1, 0.3, 0.0):
            try:
                if os.write(self._record_fd, line) == len(line):
                    return
                why = "short write"
            except OSError as error:
                why = error.strerror or str(error)
            time.sleep(pause)
        self._trouble = f"slot_{self._slot.number}: {why}"

    def _shorten_record(self) -> None:
        if os.fstat(self._record_fd).st_size > _SLOT_FILE_LIMIT:
            os.ftruncate(self._record_fd, len(slotfile.FIRST))

    # Talking

    def _report(self, idle: bool, runs_on: str = "") -> None:
        returned = list(self._todo)
        self._todo.clear()
        report = Report(self._done, returned, idle, self._trouble, runs_on)
        self._done = []
        self._trouble = ""  # with the next order it is tried again
        self._report_at = _FAR
        try:
            self._line.send(report)
        except OSError:
            pass  # the farmer is gone; what it should have heard is in our file

    _report_at = _FAR

    def _hear(self) -> object | None:
        try:
            return self._line.recv()
        except (EOFError, OSError):
            return None

    def _hears_halt(self, within: float = 0.0) -> bool:
        """Whether the farmer wants us to end what runs, or is dead and cannot want anything else of a killed task."""
        deadline = time.monotonic() + within
        while self._halt is None and self._line.poll(max(0.0, deadline - time.monotonic())):
            order = self._hear()
            if isinstance(order, Halt):
                self._halt = order
            elif order is None:
                return within > 0
        return self._halt is not None

    def _hears_hurry(self) -> bool:
        if not self._hurry and self._halt is not None and self._line.poll():
            self._hurry = isinstance(self._hear(), Halt)
        return self._hurry

    def _end_leftovers(self, order: Halt) -> None:
        """Nothing runs here, but a task that ended may have left something behind."""
        self._halt = order
        process.reap_strays()
        strangers = tree.end_all(order.grace, self._hears_hurry)
        self._report(idle=True, runs_on=in_words(set(strangers) - self._told))
