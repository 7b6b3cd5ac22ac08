"""A workdir as one process uses it: entering it alone, its lock and journal, `farm.json`, and who owns claims in it."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from taskfarmer.errors import DiskError, LockError, StateError, UsageError, WorkdirGone
from taskfarmer.model import Owner
from taskfarmer.stores.folder import check_places, check_rights, make_workdir
from taskfarmer.stores.journal import Journal
from taskfarmer.stores.lines import FORMAT, Size, parse_farm
from taskfarmer.stores.owners import DEAD_AFTER, Owners
from taskfarmer.system import files
from taskfarmer.system.lock import ANNOUNCE_AFTER, FarmLock, check_lock_dir, choose_place

_LOOK_AGAIN, _LOOK_AGAIN_AT_MOST = 0.05, 1.0
#: How long one who waits hears nothing of what else happens to him.
_DEAF = 0.1


class Workdir:
    """One farm's folder as one process uses it: its lock, its journal and what `farm.json` says."""

    def __init__(
        self,
        path: str,
        owner: Owner,
        lock_kind: str = "flock",
        lock_dir: str | None = None,
        shared: bool = False,
        on_wait: Callable[[str], None] = lambda holder: None,
        dead_after: float = DEAD_AFTER,
    ) -> None:
        self.path = path
        self.owner = owner
        self.farm: dict[str, Any] | None = None
        self._last_exchange: tuple[Size, bytes] | None = None
        self._farm_read = 0.0
        self._on_wait = on_wait
        self._heed: Callable[[], None] = _nothing
        check_places(path)
        check_rights(path)
        if lock_dir is not None:
            check_lock_dir(lock_dir)
        make_workdir(path, shared)
        self.shared = bool(os.stat(path).st_mode & 0o020)
        self.owners = Owners(path, owner, dead_after)
        self.journal = Journal(path, owner, self.owners.has_left_its_exchange, self.shared)
        self._places: dict[str, str] = {}
        self.farm = self._read_farm()
        if self.farm is None:
            self._wanted_kind, place = lock_kind, choose_place(path, lock_dir, os.environ.get("SCRATCH"))
        else:
            self._wanted_kind, place = self.farm["lock"]["kind"], self._place_of(self.farm["lock"])
        self._lock = self._lock_at(place, self._wanted_kind)

    def close(self) -> None:
        """Let go of the lock file, the folder and those we watch."""
        self._lock.close()
        self.journal.close()
        self.owners.close()

    @property
    def waited(self) -> float:
        """How many seconds the last section waited for the lock."""
        return self._lock.waited

    @contextmanager
    def waiting_with(self, heed: Callable[[], None]) -> Iterator[None]:
        """Have this done again and again while somebody else has the lock, or a journal that must be left alone: that may
        take as long as it takes to find out that he is dead. Never done under the lock.
        """
        self._heed = heed
        try:
            yield
        finally:
            self._heed = _nothing

    @contextmanager
    def entered(self, farm_age: float) -> Iterator[None]:
        """Be alone in the workdir: with its lock, and the journal in our hands. See section.alone_in."""
        try:
            self._enter(farm_age)
            try:
                yield
            finally:
                self._leave()
        except OSError as error:
            if error.errno == errno.ENOENT and not os.path.isdir(self.path):
                raise WorkdirGone(f"{self.path}: the workdir was removed") from error
            if error.errno not in files.DISK_TROUBLE:
                raise
            raise DiskError(f"{error.filename or self.path}: {error.strerror}") from error

    def _enter(self, farm_age: float) -> None:
        waited_since, pause, told = time.monotonic(), _LOOK_AGAIN, False
        while True:
            self._lock.__enter__()
            try:
                if self._enter_journal(farm_age):
                    return
            except BaseException:
                self._leave()
                raise
            self._leave()
            if not told and time.monotonic() - waited_since > ANNOUNCE_AFTER:
                told = True
                self._say_who_holds()
            self._pass(pause)
            pause = min(_LOOK_AGAIN_AT_MOST, pause * 1.5)

    def _enter_journal(self, farm_age: float) -> bool:
        """Be inside, with the farm's lock. False: somebody else is."""
        if not self.journal.enter(lock_is_the_farms=self.farm is not None):
            return False
        try:
            if time.monotonic() - self._farm_read > farm_age:
                self.farm = self._read_farm()
            if self.farm is not None and not self._has_the_right_lock:
                self._change_lock(self._place_of(self.farm["lock"]), self.farm["lock"]["kind"])
        except BaseException:
            self.journal.abandon()
            raise
        return True

    def _change_lock(self, path: str, kind: str) -> None:
        """Somebody founded the farm in the meantime, with the lock elsewhere: use that one.

        It is taken before our journal goes: who holds it must not see a journal come and go.
        """
        lock = self._lock_at(path, kind)
        lock.__enter__()
        self._lock.__exit__()
        self._lock.close()
        self._lock = lock

    def _lock_at(self, path: str, kind: str) -> FarmLock:
        self.owners.locks_exclude = kind != "soft"
        has_died = self.owners.has_died
        return FarmLock(path, kind, self._say_who_holds, self.shared, lambda: self._heed(), has_died)

    @property
    def _has_the_right_lock(self) -> bool:
        lock = (self._lock.path, self._lock.kind)
        return self.farm is None or (self._place_of(self.farm["lock"]), self.farm["lock"]["kind"]) == lock

    def _place_of(self, lock: dict[str, str]) -> str:
        """Where a recorded lock is: one that was made in the workdir goes with it when that is renamed, moved or copied.

        Whatever a farmer sees of the old place: its host may be the only one that does.
        """
        if lock["nonce"] not in self._places:
            recorded, own = lock["path"], os.path.join(os.path.realpath(self.path), "lock")
            is_own = recorded != own and os.path.basename(recorded) == "lock" and _nonce_in(own) == lock["nonce"]
            self._places[lock["nonce"]] = own if is_own else recorded
        return self._places[lock["nonce"]]

    def _pass(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._heed()
            time.sleep(min(left, _DEAF))

    def _leave(self) -> None:
        self.journal.release()
        self._lock.__exit__()

    def _say_who_holds(self) -> None:
        content = files.read_file(os.path.join(self.path, "journal")) or b""
        words = content.partition(b"\n")[0].decode("utf-8", "replace").split()
        self._on_wait(words[-1] if len(words) > 2 else "another process")

    # What is read must not be older than what was read or written before

    def remember_exchange(self, last: Size, sizes: bytes) -> None:
        """Which exchange was the last that we know of (see lines.EXCHANGE), and what it left as `sizes`."""
        self._last_exchange = last, sizes

    def refuse_old_content(self, found: Size, sizes: bytes) -> None:
        """Raise LockError if `sizes`, read under the lock, is older than what we know, or another of the same number."""
        if self._last_exchange is not None:
            (row, number), text = self._last_exchange
            if found.bytes == row and (found.lines < number or (found.lines == number and sizes != text)):
                raise LockError(
                    f"{self.path}/sizes: what exchange {number} left, or a later one, was expected, found that of "
                    f"{'another' if found.lines == number else found.lines}: this filesystem shows old content, or the lock "
                    "does not exclude, so tasks could run twice. Nothing was claimed. "
                    f"Ask `pytaskfarmer.py doctor {os.path.dirname(os.path.abspath(self.path))}`"
                )
        self.remember_exchange(found, sizes)

    # farm.json

    def _read_farm(self) -> dict[str, Any] | None:
        # O_CREAT reaches the server: a name that is "not there" may be a memory 30 s old.
        path = os.path.join(self.path, "farm.json")
        try:
            fd = files.open_or_create(path, self.shared)
        except IsADirectoryError as error:
            raise StateError(f"{path}: a file was expected, found a folder. Use another --workdir") from error
        except OSError as error:
            if error.errno in files.DISK_TROUBLE and (self.farm or error.errno != errno.EROFS):
                raise DiskError(f"{path}: {error.strerror}") from error
            raise UsageError(f"{path}: {error.strerror}. Use a --workdir you can write to") from error
        try:
            self._farm_read = time.monotonic()
            return parse_farm(path, files.read_all(fd))
        finally:
            os.close(fd)

    def read_farm_again(self) -> None:
        """Forget what was remembered of `farm.json`. Call it within a section."""
        self.farm = self._read_farm()

    def found_farm(self) -> dict[str, Any]:
        """What `farm.json` of a new farm says; its nonce is put into the lock file."""
        nonce = os.urandom(8).hex()
        fd = files.open_or_create(self._lock.path, self.shared)
        try:
            files.write_all(fd, nonce.encode() + b"\n", 0)
        finally:
            os.close(fd)
        return {
            "format": FORMAT,
            "lock": {"kind": self._wanted_kind, "path": self._lock.path, "nonce": nonce},
            "next_id": 0,
        }

    def check_lock(self) -> None:
        """Refuse to go on with a lock that is not the farm's. Call it within a section, once, when joining."""
        assert self.farm is not None
        lock, place = self.farm["lock"], self._place_of(self.farm["lock"])
        found = _nonce_in(place)
        if found == lock["nonce"] and self._lock.path == place:
            return
        if not found and not any(map(self.owners.lives, self.owners.others())):
            with open(place, "w", encoding="utf-8") as file:  # the site's clean-up took it; nobody holds it
                file.write(lock["nonce"] + "\n")
            return
        raise LockError(
            f"{place}: this is not the lock that the farm in {self.path} was made with "
            "(recorded in its farm.json). All its farmers must see the same lock file"
        )


def _nonce_in(lock: str) -> str:
    """What a lock file says of whose it is; "" if it says nothing, or is not there."""
    return (files.read_file(lock) or b"").decode("utf-8", "replace").strip()


def _nothing() -> None:
    pass
