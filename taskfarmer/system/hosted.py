"""A Python function run as a task: in a forked process of its own, with a session, output and environment like any other.

Hazards kept here. A fork inherits every open file of its parent, locks and lines to others among them: all are closed.
A process that executes nothing keeps the environment its parent was started with, as far as others can see: it is not
found by its mark when the worker is dead, so it dies with the worker. TERM is blocked until it is heeded: the worker
ignores it, and what was ignored once is not said again. What the function leaves open or half printed must not be
finished twice: the process leaves by `_exit`.
"""

from __future__ import annotations

import operator
import os
import resource
import signal
import sys
import traceback
from types import FrameType
from typing import Callable

from taskfarmer.system import process

_MAX_FD = 1 << 16


class Act:
    """What a hosted process does: `run` returns an exit status (negative: a signal's number), `terminate` ends it early."""

    def run(self) -> object:
        raise NotImplementedError

    def terminate(self) -> None:
        raise NotImplementedError


def start(make: Callable[[], Act], env: dict[bytes, bytes], null: int, log: int) -> int:
    """Fork a process that does what `make` makes; stdin from `null`, stdout and stderr into `log`; return its pid."""
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            process.die_with_parent(parent)
            _become_a_task(env, null, log)
            code = _run(make)
        finally:
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become_a_task(env: dict[bytes, bytes], null: int, log: int) -> None:
    os.setsid()
    for target, source in enumerate((null, log, log)):
        os.dup2(source, target)
    os.closerange(3, _MAX_FD)
    sys.stdout, sys.stderr = (
        open(fd, "w", closefd=False, buffering=1, errors="backslashreplace") for fd in (1, 2)
    )  # fmt: skip
    os.environb.clear()
    os.environb.update(env)
    for number in process.RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _run(make: Callable[[], Act]) -> int:
    try:
        act = make()

        def end(number: int, frame: FrameType | None) -> None:
            signal.signal(number, signal.SIG_IGN)  # once is enough: what ends us must not be cut short itself
            act.terminate()
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, end)
        result = _exit_status(act.run())
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        result = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        result = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if result < 0:
        _die_of(-result)
    return result if 0 <= result < 256 else 1


def _exit_status(result: object) -> int:
    try:
        return operator.index(result)  # type: ignore[arg-type]  # that is the question
    except TypeError as error:
        raise TypeError(f"run() must return an exit status, a whole number; it returned {result!r}") from error


def _die_of(number: int) -> None:
    """End as the task did, so that whoever waits for us sees what ended it. Returns if there is no dying of it."""
    if number not in signal.valid_signals() or number in (
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
    ):
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would be the picture of us, and not of what crashed
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
