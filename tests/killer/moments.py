"""The moments that attacks wait for: what has just happened in a farm."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from pathlib import Path
from typing import Iterator, NamedTuple

from taskfarmer.model import Owner
from taskfarmer.stores import journal


def now() -> float:
    """Seconds of uptime: the clock that tasks read in /proc/uptime."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wait_precisely(seconds: float) -> None:
    """Sleep, but for the last two milliseconds."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if left > 0.002:
            time.sleep(left - 0.001)


class Worker(NamedTuple):
    """Who runs a task. `owner`: the name of its farmer; `pid`: as itself sees it."""

    owner: str
    pid: int


class Moments:
    """Sees what happens in a workdir, and to the side effects of tasks, as it happens.

    What comes one after another comes for so many seconds; None in between, every twentieth of a second, for whatever else
    is to be done.
    """

    def __init__(self, workdir: Path, effects: Path) -> None:
        self._journal = workdir / "journal"
        self._effects = effects
        self._watch = _Watch(workdir, effects)

    def exchanges(self, seconds: float) -> Iterator[Owner | None]:
        """Whose exchanges have just begun, from now on."""
        until = now() + seconds
        self._watch.forget()
        while now() < until:
            made = "journal" in self._watch.wait(0.05)
            yield self._author() if made else None

    def _author(self) -> Owner | None:
        """Who has the journal that has just been made: its first line says so, a moment later."""
        for _ in range(20):
            try:
                writer, _ = journal.parse(self._journal.read_bytes())
            except FileNotFoundError:
                return None
            if writer is not None:
                return writer
        return None

    def tasks(self, seconds: float, *events: str) -> Iterator[Worker | None]:
        """Whose tasks have just said such a thing (tasks.py), from now on."""
        until = now() + seconds
        with self._effects.open("rb") as file:
            file.seek(0, os.SEEK_END)
            while now() < until:
                self._watch.wait(0.05)
                for line in file:
                    words = line.decode().split()
                    if len(words) == 7 and words[2] in events:
                        yield Worker(words[3], int(words[4]))
                yield None

    def close(self) -> None:
        """See nothing more."""
        self._watch.close()


class _Watch:
    """inotify(7): what is created in the workdir, and that something was written to the side effects."""

    _CREATE, _MODIFY = 0x100, 0x2

    def __init__(self, workdir: Path, effects: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path, mask in ((workdir, self._CREATE), (effects, self._MODIFY)):
            if libc.inotify_add_watch(self._fd, os.fsencode(path), mask) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path))

    def wait(self, seconds: float) -> list[str]:
        """Names created, "" for a change of the side effects; at most `seconds`."""
        select.select([self._fd], [], [], seconds)
        return list(self._read())

    def forget(self) -> None:
        """What has happened so far is of no interest."""
        while list(self._read()):
            pass

    def _read(self) -> Iterator[str]:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        while data:
            _, _, _, length = struct.unpack_from("iIII", data)
            yield data[16 : 16 + length].rstrip(b"\0").decode()
            data = data[16 + length :]

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)
