"""recordfs.py BACKING MOUNT LOG: a filesystem that passes everything on to the folder BACKING, and writes down each change.

LOG is a stream of pickled tuples, in the order in which the calls were made; a file or folder is a number, BACKING is 0:

    ("create", FOLDER, NAME, NUMBER, MODE)     also of a folder: "mkdir"
    ("unlink", FOLDER, NAME)                   also of a folder: "rmdir"
    ("rename", FOLDER, NAME, FOLDER, NAME)
    ("write", NUMBER, OFFSET, BYTES)   ("truncate", NUMBER, SIZE)
    ("sync", NUMBER)                           fsync or fdatasync of a file, fsync of a folder

From this tests/farm/powercut.py tells what a power cut after any of them may leave.
"""

from __future__ import annotations

import errno
import os
import pickle
import sys
import threading
from typing import Any

from mfusepy import FuseOSError
from mirrorfs import LockingMirrorFS, mount


class RecordFS(LockingMirrorFS):
    """What is done to it is done to the backing folder and then recorded, one call at a time."""

    def __init__(self, backing: str, log: str) -> None:
        super().__init__(backing)
        self._log = open(log, "ab", buffering=0)
        self._one_at_a_time = threading.RLock()
        self._numbers: dict[int, int] = {os.stat(self._backing).st_ino: 0}
        self._last = 0

    def _note(self, *what: Any) -> None:
        self._log.write(pickle.dumps(what))

    def _number(self, path: str, info: Any = None) -> int:
        """Of a file that is open, or that has this name."""
        return self._numbers[(os.stat(self._path(path)) if info is None else os.fstat(info.fh)).st_ino]

    def _born(self, path: str) -> int:
        self._last += 1
        self._numbers[os.stat(self._path(path)).st_ino] = self._last  # the number may have been another file's before
        return self._last

    def _place(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return self._number(folder), name

    # Names

    def mkdir(self, path: str, mode: int) -> int:
        with self._one_at_a_time:
            super().mkdir(path, mode)
            self._note("mkdir", *self._place(path), self._born(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        with self._one_at_a_time:
            super().rmdir(path)
            self._note("rmdir", *self._place(path))
        return 0

    def unlink(self, path: str) -> int:
        with self._one_at_a_time:
            super().unlink(path)
            self._note("unlink", *self._place(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        with self._one_at_a_time:
            super().rename(old, new)
            self._note("rename", *self._place(old), *self._place(new))
        return 0

    def link(self, target: str, source: str) -> int:
        raise FuseOSError(errno.EPERM)  # a second name of a file has no place in the record

    # Content

    def create(self, path: str, mode: int, info: Any) -> int:
        with self._one_at_a_time:
            info.flags |= os.O_EXCL  # what is there already is not born again
            super().create(path, mode, info)
            self._note("create", *self._place(path), self._born(path), mode)
        return 0

    def write(self, path: str, data: bytes, offset: int, info: Any) -> int:
        with self._one_at_a_time:
            written = super().write(path, data, offset, info)
            self._note("write", self._number(path, info), offset, bytes(data[:written]))
        return written

    def truncate(self, path: str, length: int, info: Any = None) -> int:
        with self._one_at_a_time:
            super().truncate(path, length, info)
            self._note("truncate", self._number(path, info), length)
        return 0

    def fsync(self, path: str, datasync: int, info: Any) -> int:
        with self._one_at_a_time:
            self._note("sync", self._number(path, info))
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        with self._one_at_a_time:
            self._note("sync", self._number(path))
        return 0


if __name__ == "__main__":
    backing, point, log = sys.argv[1:]
    mount(RecordFS(backing, log), point, "recordfs")
