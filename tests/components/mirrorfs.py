"""A filesystem in which what is done is done to a folder: the ground of flakyfs.py and recordfs.py.

FUSE by way of mfusepy and libfuse3. A mount is undone when its process is terminated.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import Any, Iterator

from mfusepy import FUSE, FuseOSError, Operations

_STAT = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino", "st_blocks")
_STATFS = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize", "f_namemax")


class MirrorFS(Operations):  # type: ignore[misc]
    """Without locks of its own: those that the kernel keeps for this mount."""

    use_ns = True

    def __init__(self, backing: str) -> None:
        self._backing = os.path.realpath(backing)

    def _path(self, path: str) -> str:
        return self._backing + path

    # Names

    def getattr(self, path: str, info: Any = None) -> dict[str, Any]:
        about = os.lstat(self._path(path)) if info is None else os.fstat(info.fh)
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
        os.mkdir(self._path(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._path(path))
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._path(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self._path(old), self._path(new))
        return 0

    def link(self, target: str, source: str) -> int:
        os.link(self._path(source), self._path(target))
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

    def open(self, path: str, info: Any) -> int:
        # The kernel gives offsets also for O_APPEND; it has cut the file already for O_TRUNC.
        info.fh = os.open(self._path(path), info.flags & ~(os.O_APPEND | os.O_TRUNC | os.O_ACCMODE) | os.O_RDWR)
        return 0

    def create(self, path: str, mode: int, info: Any) -> int:
        # Only O_EXCL wants a new file: this mount may not know yet of one that another has made.
        info.fh = os.open(self._path(path), os.O_RDWR | os.O_CREAT | (info.flags & (os.O_EXCL | os.O_TRUNC)), mode)
        return 0

    def read(self, path: str, size: int, offset: int, info: Any) -> bytes:
        return os.pread(info.fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, info: Any) -> int:
        return os.pwrite(info.fh, data, offset)

    def truncate(self, path: str, length: int, info: Any = None) -> int:
        os.truncate(self._path(path) if info is None else info.fh, length)
        return 0

    def fsync(self, path: str, datasync: int, info: Any) -> int:
        os.fsync(info.fh)
        return 0

    def release(self, path: str, info: Any) -> int:
        os.close(info.fh)
        return 0


class LockingMirrorFS(MirrorFS):
    """Its locks are those of the files in the folder."""

    def flock(self, path: str, info: Any, operation: int) -> int:
        while True:
            try:
                fcntl.flock(info.fh, operation | fcntl.LOCK_NB)
                return 0
            except BlockingIOError:
                if operation & fcntl.LOCK_NB:
                    raise FuseOSError(errno.EAGAIN) from None
                time.sleep(0.01)


def mount(filesystem: MirrorFS, point: str, name: str, cache: float = 0) -> None:
    """Serve it until it is unmounted. `cache`: for so many seconds the kernel remembers names and attributes."""
    try:
        FUSE(
            filesystem, point, foreground=True, nothreads=False, use_ino=True, raw_fi=True, fsname=name,
            attr_timeout=cache, entry_timeout=cache, negative_timeout=cache,
            hard_remove=True,  # not a new name for what is removed while it is open
        )  # fmt: skip
    except RuntimeError as error:
        if error.args != (8,):  # terminated by a signal
            raise
