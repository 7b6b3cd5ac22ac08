"""recordfs.py BACKING MOUNT LOG: a filesystem that passes everything on to the folder BACKING, and writes down each change.

LOG is a stream of pickled tuples, in the order in which the calls were made; a file or folder is a number, BACKING is 0:

    ("create", FOLDER, NAME, NUMBER, MODE)     also of a folder: "mkdir"
    ("unlink", FOLDER, NAME)                   also of a folder: "rmdir"
    ("rename", FOLDER, NAME, FOLDER, NAME)
    ("write", NUMBER, OFFSET, BYTES)   ("truncate", NUMBER, SIZE)
    ("sync", NUMBER)                           fsync or fdatasync of a file, fsync of a folder

From this tests/farm/powercut.py tells what a power cut after any of them may leave. FUSE by way of mfusepy and libfuse3.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import stat
import sys
import threading
import time
from typing import Any, Iterator

from mfusepy import FUSE, FuseOSError, Operations

_STAT = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino", "st_blocks")
_STATFS = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize", "f_namemax")


class RecordFS(Operations):  # type: ignore[misc]
    """What is done to it is done to the backing folder and then recorded, one call at a time."""

    use_ns = True

    def __init__(self, backing: str, log: str) -> None:
        self._backing = os.path.realpath(backing)
        self._log = open(log, "ab", buffering=0)
        self._one_at_a_time = threading.RLock()
        self._numbers: dict[int, int] = {os.stat(self._backing).st_ino: 0}
        self._last = 0

    def _path(self, path: str) -> str:
        return self._backing + path

    def _note(self, *what: Any) -> None:
        self._log.write(pickle.dumps(what))

    def _number(self, inode: int) -> int:
        return self._numbers[inode]

    def _born(self, inode: int) -> int:
        self._last += 1
        self._numbers[inode] = self._last  # an inode number may have been another file's before
        return self._last

    def _place(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return self._number(os.stat(self._path(folder)).st_ino), name

    # Names

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        about = os.lstat(self._path(path)) if fh is None else os.fstat(fh)
        times = {"st_atime": about.st_atime_ns, "st_mtime": about.st_mtime_ns, "st_ctime": about.st_ctime_ns}
        return {key: getattr(about, key) for key in _STAT} | times

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, Any], int]]:
        yield ".", {"st_mode": stat.S_IFDIR, "st_ino": 1}, 0
        yield "..", {"st_mode": stat.S_IFDIR, "st_ino": 1}, 0
        for entry in os.scandir(self._path(path)):
            yield entry.name, {"st_mode": entry.stat(follow_symlinks=False).st_mode, "st_ino": entry.inode()}, 0

    def access(self, path: str, mode: int) -> int:
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        with self._one_at_a_time:
            os.mkdir(self._path(path), mode)
            self._note("mkdir", *self._place(path), self._born(os.stat(self._path(path)).st_ino), mode)
        return 0

    def rmdir(self, path: str) -> int:
        with self._one_at_a_time:
            os.rmdir(self._path(path))
            self._note("rmdir", *self._place(path))
        return 0

    def unlink(self, path: str) -> int:
        with self._one_at_a_time:
            os.unlink(self._path(path))
            self._note("unlink", *self._place(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        with self._one_at_a_time:
            os.rename(self._path(old), self._path(new))
            self._note("rename", *self._place(old), *self._place(new))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._path(path), mode)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._path(path), ns=times and (int(times[0]), int(times[1])) or (time.time_ns(),) * 2)
        return 0

    def statfs(self, path: str) -> dict[str, Any]:
        about = os.statvfs(self._path(path))
        return {key: getattr(about, key) for key in _STATFS}

    # Content

    def open(self, path: str, flags: int) -> int:
        # The kernel gives offsets also for O_APPEND; it has cut the file already for O_TRUNC.
        return os.open(self._path(path), flags & ~(os.O_APPEND | os.O_TRUNC | os.O_ACCMODE) | os.O_RDWR)

    def create(self, path: str, mode: int, fi: object = None) -> int:
        with self._one_at_a_time:
            fd = os.open(self._path(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            self._note("create", *self._place(path), self._born(os.fstat(fd).st_ino), mode)
        return fd

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._one_at_a_time:
            os.pwrite(fh, data, offset)
            self._note("write", self._number(os.fstat(fh).st_ino), offset, bytes(data))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self._one_at_a_time:
            fd = os.open(self._path(path), os.O_RDWR) if fh is None else fh
            try:
                os.ftruncate(fd, length)
                self._note("truncate", self._number(os.fstat(fd).st_ino), length)
            finally:
                if fh is None:
                    os.close(fd)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._one_at_a_time:
            self._note("sync", self._number(os.fstat(fh).st_ino))
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        with self._one_at_a_time:
            self._note("sync", self._number(os.stat(self._path(path)).st_ino))
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    # Locks: those of the backing file

    def flock(self, path: str, fh: int, operation: int) -> int:
        while True:
            try:
                fcntl.flock(fh, operation | fcntl.LOCK_NB)
                return 0
            except BlockingIOError:
                if operation & fcntl.LOCK_NB:
                    raise FuseOSError(errno.EAGAIN) from None
                time.sleep(0.01)


if __name__ == "__main__":
    backing, mount, log = sys.argv[1:]
    FUSE(
        RecordFS(backing, log), mount, foreground=True, nothreads=False, use_ino=True, fsname="recordfs",
        attr_timeout=0, entry_timeout=0, negative_timeout=0,
        hard_remove=True,  # not a new name for what is removed while it is open
    )  # fmt: skip
