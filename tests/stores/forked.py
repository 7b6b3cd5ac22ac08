"""Children that die, or whose disk fails, at the n-th change they make to a file."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

CALLS = (
    "open", "pwrite", "write", "ftruncate", "rename", "replace", "unlink", "mkdir", "rmdir", "fsync", "fdatasync",
    "chmod", "fchmod",
)  # fmt: skip
WRITES = ("pwrite", "write")
SURVIVED, BROKEN, DIED, DIED_AT_WRITE = 0, 99, 40, 41


@contextmanager
def folder_in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder where a sync costs nothing: these tests sync a hundred thousand times, and no power is cut."""
    if not os.access("/dev/shm", os.W_OK):
        yield otherwise
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="pytaskfarmer-tests-") as folder:
        yield Path(folder)


def in_child(work: Callable[[], object]) -> int:
    """Do it in a forked process and wait for it; its exit status, or minus the signal that killed it."""
    pid = start_child(work)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start_child(work: Callable[[], object]) -> int:
    """Do it in a forked process; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = BROKEN
    try:
        work()
        status = SURVIVED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def die_now() -> None:
    """As a process dies that the kernel kills: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


class FileCalls:
    """Counts the calls that change files, once installed, and does something else at some of them.

    Only in a forked child: it replaces functions of `os` for the whole process.
    """

    def __init__(self, instead: Callable[[int, str, Callable[..., Any], tuple[Any, ...]], Any]) -> None:
        self._instead = instead
        self.count = 0
        self.armed = False
        self._real = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, self._wrapped(name))

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*args: Any, **options: Any) -> Any:
            changes = name != "open" or args[1] & (os.O_CREAT | os.O_TRUNC)
            if not self.armed or not changes:
                return real(*args, **options)
            self.count += 1
            return self._instead(self.count, name, real, args)

        return call


def dying_at(number: int, torn: bool = False) -> FileCalls:
    """The process ends at the n-th call; `torn`: it has written half of it."""

    def instead(count: int, name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if count < number:
            return real(*args)
        if torn and name in WRITES:
            real(args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
        os._exit(DIED_AT_WRITE if name in WRITES else DIED)

    return FileCalls(instead)


def failing_at(*numbers: int, and_on: bool = False) -> FileCalls:
    """The disk refuses these calls, and all after them if `and_on`; the first write that it refuses is done by half."""

    def instead(count: int, name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if count not in numbers and not (and_on and count > numbers[-1]):
            return real(*args)
        if name == "open" and os.path.exists(args[0]):
            return real(*args)  # a full disk opens what is there
        if name in WRITES and len(args[1]) > 1 and count == numbers[0]:
            real(args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
        why = errno.ENOSPC if name in ("open", "mkdir", "rename", *WRITES) else errno.EIO
        raise OSError(why, os.strerror(why))

    return FileCalls(instead)
