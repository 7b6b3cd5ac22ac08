"""Proof that a farmer is alive: a lock that the kernel gives back when the last of its processes is gone.

The farmer and each of its workers open `alive` themselves and hold a shared `flock` on it; tasks never inherit it.
Dead means: somebody else gets it exclusively. A zombie holds nothing; a stopped or suspended process still holds it.
An inherited or library-made lock will not do: filelock closes its descriptor in forked children.

`alive` also holds what the farmer writes every few seconds, for observers on other hosts: a counter that moves, and how
it fares. One line, `BEATS WELL FAILING WINDOW`, in place:

    00000000000000000042 00000000000000000317 00000000000000000000 30

WELL: attempts that finished or took longer than a second. FAILING: how many in a row, up to now, failed at once. WINDOW:
after how many seconds without contact to its disk it will have ended its tasks, so that others may take them over.

On a filesystem without locks each process leaves its name beside `alive` instead, as an empty file `here_PID.STARTTIME`;
then the process table of its host is the witness.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import NamedTuple

from taskfarmer.system import files, proctable

_NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP))
_HERE = "here_"
#: Seconds between two signs of life.
BEAT = 5.0


class Sign(NamedTuple):
    """A farmer's last sign of life: a counter that moves, and how its tasks fare."""

    beats: int
    well: int
    failing: int
    window: int = 0


class Presence:
    """One process's share in the presence of its owner, held until `close` or the end of the process.

    `window`: see Sign; in seconds.
    """

    def __init__(self, path: str, create: bool = False, shared: bool = False, window: float = 0.0) -> None:
        self._path = path
        # Made aside, and held before it has its name: who found it free would take us for dead, and keep us from having it.
        aside = f"{path}.new"
        self._fd = files.open_or_create(aside, shared) if create else os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._has_lost_lock = False
        self._window = window
        self._beats = 0
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self._sign_in(os.path.dirname(path))
        if create:
            os.rename(aside, path)

    def _sign_in(self, folder: str) -> None:
        pid = os.getpid()
        name = f"{_HERE}{pid}.{proctable.start_time(pid)}"
        os.close(os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))

    def beat(self, well: int = 0, failing: int = 0) -> None:
        """Move the counter, and say how the tasks fare (see Sign). The disk has it when this returns; else OSError."""
        self._beats += 1
        # Always as long as any before: what is read at the same moment is one line, of this beat or the last.
        line = b"%020d %020d %020d %d\n" % (self._beats, well, failing, self._window)
        if self._has_lost_lock:
            self._open_again()
        try:
            self._write(line)
        except OSError as error:
            if error.errno not in files.DISK_TROUBLE:
                raise
            self._open_again()
            self._write(line)

    def _write(self, line: bytes) -> None:
        os.pwrite(self._fd, line, 0)
        os.fdatasync(self._fd)  # else NFS keeps it here for half a minute, and takes it though it is cut off

    def _open_again(self) -> None:
        """Once NFS has lost a lock in a cut, it refuses to write through the same descriptor for ever.

        Raises OSError while an observer has the lock: NFS does not show him what we write, and he may take us for dead.
        """
        self._has_lost_lock = True
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self.close()
        self._fd = fd
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        self._has_lost_lock = False

    def close(self) -> None:
        """Give up this process's share."""
        try:
            os.close(self._fd)
        except OSError as error:
            # It is closed all the same. After a cut NFS says here that a sign of life was lost, which harms nobody.
            if error.errno not in files.DISK_TROUBLE:
                raise


def read_sign(path: str) -> Sign | None:
    """What the farmer last said there; None when it has said nothing, or is gone."""
    try:
        with open(path, "rb", opener=files.fresh) as file, files.named(path):
            words = file.read(100).split()
    except FileNotFoundError:
        return None
    return Sign(*map(int, words)) if len(words) == 4 else None


def is_held(path: str, here: bool = True) -> bool:
    """Whether any process holds presence there.

    Without locks the process table is asked, which knows of this host's processes; where the owner is not `here`, it is
    taken to be alive as long as there is its file.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        seized = seize(fd)
    finally:
        os.close(fd)
    if seized is None:
        return not here or _is_anybody_here(os.path.dirname(path))
    return not seized


def seize(fd: int) -> bool | None:
    """Try to hold a presence alone, through a descriptor of `alive`. None: there are no locks on this filesystem."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_anybody_here(folder: str) -> bool:
    try:
        names = [name[len(_HERE) :] for name in os.listdir(folder) if name.startswith(_HERE)]
    except FileNotFoundError:
        return False
    return any(
        proctable.start_time(int(pid)) == int(start) for pid, _, start in (name.partition(".") for name in names)
    )
