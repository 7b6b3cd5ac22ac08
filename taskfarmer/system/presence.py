"""Proof that a farmer is alive: a lock that the kernel gives back when the last of its processes is gone.

The farmer and each of its workers open `alive` themselves and hold a shared `flock` on it; tasks never inherit it.
Dead means: somebody else gets it exclusively. A zombie holds nothing; a stopped or suspended process still holds it.
An inherited or library-made lock will not do: filelock closes its descriptor in forked children.

`alive` also holds a counter that the farmer moves every few seconds, for observers on other hosts.
"""

from __future__ import annotations

import errno
import fcntl
import os

_NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP))


class Presence:
    """One process's share in the presence of its owner, held until `close` or the end of the process."""

    def __init__(self, path: str, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._fd = os.open(path, flags, 0o666)
        self._count = 0
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            # Without locks the process table of this host is the only witness (`--lock soft`).

    def beat(self) -> None:
        """Move the counter."""
        self._count += 1
        os.pwrite(self._fd, b"%020d\n" % self._count, 0)

    def close(self) -> None:
        """Give up this process's share."""
        os.close(self._fd)


def is_held(path: str) -> bool | None:
    """Whether any process holds presence there; None when this filesystem cannot tell."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    finally:
        os.close(fd)
    return False
