"""A Python function run as a task: in a forked process of its own, with a session, output and environment like any other.

Hazards kept here. A fork inherits every open file of its parent, locks and lines to others among them: all are closed.
What the function leaves open or half printed must not be finished twice: the process leaves by `_exit`.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Callable

_MAX_FD = 1 << 16


class Act:
    """What a hosted process does: `run` returns an exit status (negative: a signal's number), `terminate` ends it early."""

    def run(self) -> object:
        raise NotImplementedError

    def terminate(self) -> None:
        raise NotImplementedError


def start(make: Callable[[], Act], env: dict[bytes, bytes], null: int, log: int) -> int:
    """Fork a process that does what `make` makes; stdin from `null`, stdout and stderr into `log`; return its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _become_a_task(env, null, log)
            code = _run(make)
        finally:
            os._exit(code)
    return pid


def _become_a_task(env: dict[bytes, bytes], null: int, log: int) -> None:
    os.setsid()
    for target, source in enumerate((null, log, log)):
        os.dup2(source, target)
    os.closerange(3, _MAX_FD)
    sys.stdout, sys.stderr = open(1, "w", closefd=False, buffering=1), open(2, "w", closefd=False, buffering=1)
    os.environb.clear()
    os.environb.update(env)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _run(make: Callable[[], Act]) -> int:
    try:
        act = make()

        def end(number: int, frame: FrameType | None) -> None:
            act.terminate()
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, end)
        result = act.run()
        if not isinstance(result, int):
            raise TypeError(f"run() must return an exit status, a whole number; it returned {result!r}")
    except SystemExit as error:
        result = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        result = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if result < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -result)
    return result if 0 <= result < 256 else 1
