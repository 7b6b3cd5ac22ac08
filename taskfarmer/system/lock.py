"""The one exclusive lock of a farm: where it is, which kind, and waiting for it.

Hazards kept here. A lock in `$TMPDIR` excludes nobody on another node. A lock that is unlinked splits its
waiters over two files. A lock held by a stopped process stops everybody, so waiting is announced. Contention
is a value, never an error.

`flock` is taken straight from the kernel: filelock's native lock is the same call, but importing filelock takes
longer than everything else a farmer does before its first task. `soft` is filelock's strict soft lock, for
filesystems without working locks. This is the only module that knows filelock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from typing import Callable

from taskfarmer.errors import DiskError, LockError
from taskfarmer.system import files, mounts, process, proctable

KINDS = ("flock", "soft")
ANNOUNCE_AFTER = 10.0
#: Seconds between two tries. The longest: a thousand who wait make some 1300 tries a second.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 1.0
_UNREADABLE_FOR = 5.0
_INITIAL_PID_NAMESPACE = "effffffc"  # PID_NS_INIT_INO of linux/nsfs.h, in which filelock adds nothing to the name


class Pauses:
    """How long one who waits for the lock sleeps between two tries, in seconds."""

    def __init__(self, chance: Callable[[float, float], float] = random.uniform) -> None:
        self._chance = chance
        self._pause = _FIRST_PAUSE

    def next(self) -> float:
        """The next pause."""
        pause = self._pause
        self._pause = min(_LONGEST_PAUSE, pause * 1.5)
        # Jitter: farmers that were woken together must not try together again.
        return pause * self._chance(0.5, 1.0)


def _is_unknown(host: str, pid: int) -> bool:
    return False


class FarmLock:
    """A lock file that is held for file work only: never across a spawn, a sleep or anybody else's code."""

    def __init__(
        self,
        path: str,
        kind: str = "flock",
        on_wait: Callable[[], None] = lambda: None,
        shared: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
        has_died: Callable[[str, int], bool] = _is_unknown,
    ) -> None:
        """`has_died`: whether a process of another host is known to be dead, by host and pid: of a soft lock nothing else tells."""
        self.path = path
        self.kind = kind
        self._shared = shared
        self._on_wait = on_wait
        self._meanwhile = meanwhile
        self._has_died = has_died
        self._held: _Flock | _Soft | None = None
        self.waited = 0.0  # seconds, when it was last taken

    def __enter__(self) -> FarmLock:
        lock = self._held or self._open()
        self.waited = 0.0
        if not lock.try_take():
            started = time.monotonic()
            self._wait_for(lock, started)
            self.waited = time.monotonic() - started
        self._held = lock
        return self

    def _open(self) -> _Flock | _Soft:
        return _Flock(self.path, self._shared) if self.kind == "flock" else _Soft(self.path, self._has_died)

    def _wait_for(self, lock: _Flock | _Soft, started: float) -> None:
        announced, pauses = False, Pauses()
        while True:
            time.sleep(pauses.next())
            if lock.try_take():
                return
            if not announced and time.monotonic() - started >= ANNOUNCE_AFTER:
                announced = True
                self._on_wait()
            self._meanwhile()

    def __exit__(self, *exc: object) -> None:
        if self._held is not None:
            self._held.give()

    def close(self) -> None:
        """Close the descriptor that was kept between two uses."""
        if self._held is not None:
            self._held.close()
            self._held = None


class _Flock:
    def __init__(self, path: str, shared: bool = False) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if shared and os.fstat(self._fd).st_uid == os.geteuid():
                os.fchmod(self._fd, 0o664)
        except OSError as error:
            sentence = f"{path}: the lock file cannot be opened: {error.strerror}"
            if error.errno in files.DISK_TROUBLE and error.errno != errno.EROFS:
                raise DiskError(sentence) from error
            if error.errno == errno.ENOENT:
                sentence += f". Is {os.path.dirname(path)} mounted here? If it was removed, make it again"
            raise LockError(sentence) from error
        self._path = path

    def try_take(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise LockError(
                f"{self._path}: this filesystem has no working file locks ({error.strerror}). "
                "Put the lock elsewhere with --lock-dir DIR, or use --lock soft"
            ) from error
        return True

    def give(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)


class _Soft:
    """filelock's strict soft lock; a claim left by a dead process is removed, on this host at once."""

    def __init__(self, path: str, has_died: Callable[[str, int], bool] = _is_unknown) -> None:
        from filelock import StrictSoftFileLock, Timeout

        self._busy = Timeout
        self._unreadable_since: float | None = None
        self._path = path
        self._has_died = has_died
        self._lock = StrictSoftFileLock(path + ".soft", thread_local=False)

    def try_take(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except self._busy:
            self._unreadable_since = None
            self._break_claims_of_the_dead()
            return False
        except PermissionError as error:
            raise self._not_to_be_had(error) from error
        except OSError as error:
            if error.errno in files.DISK_TROUBLE and error.errno != errno.ESTALE:
                raise
            # A claim without its content, or one that goes while it is read, is another one's who takes or gives the
            # lock: on a network filesystem a name comes before what is in it.
            now = time.monotonic()
            self._unreadable_since = self._unreadable_since or now
            if now - self._unreadable_since > _UNREADABLE_FOR:
                raise self._not_to_be_had(error) from error
            return False
        self._unreadable_since = None
        return True

    def _not_to_be_had(self, error: Exception) -> LockError:
        return LockError(
            f"{self._path}.soft: this lock cannot be taken ({error}). A farm with --lock soft is for one user only"
        )

    def _break_claims_of_the_dead(self) -> None:
        try:
            for claim in self._lock.claims:
                if self._is_of_the_dead(claim.hostname, claim.pid, claim.start):
                    self._lock.force_break(claim.name)
        except OSError:
            pass  # another one is changing it, or who waits with us was quicker: looked at again

    def _is_of_the_dead(self, hostname: str, pid: int, start: int | None) -> bool:
        if _is_of_here(hostname):
            return _is_gone(pid, start)
        host = hostname.partition("?pidns-")[0]
        return host != process.host() and self._has_died(host, pid)

    def give(self) -> None:
        try:
            self._lock.release()
        except OSError as error:
            raise DiskError(f"{self._path}.soft: this lock cannot be given back: {error.strerror}") from error

    def close(self) -> None:
        pass


def _is_of_here(hostname: str) -> bool:
    """Whether a claim was made where we can see its process: on this host, in our pid namespace."""
    name, _, namespace = hostname.partition("?pidns-")
    mine = f"{os.stat('/proc/self/ns/pid').st_ino:x}"
    return name == process.host() and (namespace or _INITIAL_PID_NAMESPACE) == mine


def _is_gone(pid: int, start: int | None) -> bool:
    """Whether the process that made a claim is no more; `start` holds its start time below the id of the boot."""
    now = proctable.start_time(pid)
    return now is None or (start is not None and now != start & (1 << 64) - 1)


def choose_place(workdir: str, lock_dir: str | None, scratch: str | None) -> str:
    """The path of the lock for a new farm: `--lock-dir`, else `$SCRATCH` where it is safe, else the workdir.

    Never `$TMP` or `$TMPDIR`: they differ from node to node, and a lock that differs is none.
    """
    name = _digest(os.path.realpath(workdir)) + "_lock"
    if lock_dir is not None:
        check_lock_dir(lock_dir)
        return os.path.join(os.path.realpath(lock_dir), name)
    if scratch and _scratch_is_safe(workdir, scratch):
        return os.path.join(os.path.realpath(scratch), name)
    return os.path.join(os.path.realpath(workdir), "lock")


def check_lock_dir(lock_dir: str) -> None:
    """Refuse a `--lock-dir` in which no lock can be made."""
    if not os.path.isdir(lock_dir) or not os.access(lock_dir, os.W_OK | os.X_OK):
        raise LockError(f"--lock-dir {lock_dir}: a folder that I can write to is wanted")


def _scratch_is_safe(workdir: str, scratch: str) -> bool:
    if not os.path.isdir(scratch) or not os.access(scratch, os.W_OK | os.X_OK):
        return False
    about = os.stat(workdir)
    if about.st_uid != os.geteuid() or about.st_mode & 0o020:
        return False  # others must find the lock too, and their $SCRATCH is another folder
    return is_local(workdir) or not is_local(scratch)


def is_local(path: str) -> bool:
    """Whether only this host can see what is stored there."""
    return filesystem_of(path) in mounts.LOCAL


def filesystem_of(path: str) -> str:
    """The type of the filesystem that holds `path`; "" if unknown."""
    return mounts.mount_of(path).kind


def _digest(text: str) -> str:
    from hashlib import md5

    return md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
