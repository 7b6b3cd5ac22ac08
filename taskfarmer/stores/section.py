"""Critical sections of a workdir: enter under the lock, look, write down what is to change, do it, leave.

Under the lock there is file work only. A section that raises before its commit leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Callable, Iterable, Iterator

from taskfarmer.errors import DiskError, Fenced, LockError, StateError, UsageError
from taskfarmer.model import Owner
from taskfarmer.stores.base import Added
from taskfarmer.stores.journal import Journal
from taskfarmer.stores.workdir import (
    FORMAT,
    STATE_FILES,
    Size,
    format_farm,
    format_sizes,
    owners_folder,
    parse_farm,
    parse_sizes,
)
from taskfarmer.system import files, presence, process
from taskfarmer.system.lock import FarmLock, check_lock_dir, choose_place

_LOOK_AGAIN = 0.05
#: What is added goes through the journal when it is fewer lines and bytes than this; more is written aside.
_FEW, _SMALL = 4096, 1 << 18


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
    ) -> None:
        self.path = path
        self.owner = owner
        self.farm: dict[str, Any] | None = None
        self._farm_read = 0.0
        self._on_wait = on_wait
        _check_places(path)
        if lock_dir is not None:
            check_lock_dir(lock_dir)
        _make_workdir(path, shared)
        self.shared = bool(os.stat(path).st_mode & 0o020)
        self.journal = Journal(path, owner, self.shared)
        self.farm = self._read_farm()
        if self.farm is None:
            self._wanted_kind, place = lock_kind, choose_place(path, lock_dir, os.environ.get("SCRATCH"))
        else:
            self._wanted_kind, place = self.farm["lock"]["kind"], self.farm["lock"]["path"]
        self._lock = FarmLock(place, self._wanted_kind, self._say_who_holds)

    def close(self) -> None:
        """Let go of the lock file and the folder."""
        self._lock.close()
        self.journal.close()

    @contextmanager
    def section(self, farm_age: float = 0.0) -> Iterator[Section]:
        """Be alone in the workdir. What is written down is done at the end, wholly or not at all.

        `farm_age`: how many seconds old the content of `farm.json` may be.
        """
        try:
            self._enter(farm_age)
            section = Section(self)
            try:
                try:
                    yield section
                except BaseException:
                    if not section.is_done:
                        self.journal.abandon()
                    raise
                section.commit()
            finally:
                self._leave()
        except OSError as error:
            if error.errno == errno.ENOENT and not os.path.isdir(self.path):
                raise Fenced(f"{self.path}: the workdir was removed") from error
            if error.errno not in files.DISK_TROUBLE:
                raise
            raise DiskError(f"{self.path}: {error.strerror}") from error

    def _enter(self, farm_age: float) -> None:
        while True:
            self._lock.__enter__()
            try:
                if self.journal.enter():
                    if time.monotonic() - self._farm_read > farm_age:
                        self.farm = self._read_farm()
                    if self.farm is None or self.farm["lock"]["path"] == self._lock.path:
                        return
                    # Somebody founded the farm in the meantime, with the lock elsewhere: use that one.
                    self.journal.abandon()
            except BaseException:
                self._leave()
                raise
            self._leave()
            if self.farm is not None and self.farm["lock"]["path"] != self._lock.path:
                self._lock.close()
                self._lock = FarmLock(self.farm["lock"]["path"], self.farm["lock"]["kind"], self._say_who_holds)
            else:
                time.sleep(_LOOK_AGAIN)

    def _leave(self) -> None:
        self.journal.release()
        self._lock.__exit__()

    def _say_who_holds(self) -> None:
        content = files.read_file(os.path.join(self.path, "journal")) or b""
        words = content.partition(b"\n")[0].decode("utf-8", "replace").split()
        self._on_wait(words[-1] if len(words) > 2 else "another process")

    # farm.json

    def _read_farm(self) -> dict[str, Any] | None:
        # O_CREAT reaches the server: a name that is "not there" may be a memory 30 s old.
        path = os.path.join(self.path, "farm.json")
        try:
            fd = files.open_or_create(path, self.shared)
        except IsADirectoryError as error:
            raise StateError(f"{path}: a file was expected, found a folder. Use another --workdir") from error
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}. Use a --workdir you can write to") from error
        try:
            self._farm_read = time.monotonic()
            return parse_farm(path, files.read_all(fd))
        finally:
            os.close(fd)

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
        lock = self.farm["lock"]
        found = (files.read_file(lock["path"]) or b"").decode("utf-8", "replace").strip()
        if found == lock["nonce"] and self._lock.path == lock["path"]:
            return
        if not found and not self._somebody_else_lives():
            with open(lock["path"], "w", encoding="utf-8") as file:  # the site's clean-up took it; nobody holds it
                file.write(lock["nonce"] + "\n")
            return
        raise LockError(
            f"{lock['path']}: this is not the lock that the farm in {self.path} was made with "
            "(recorded in its farm.json). All its farmers must see the same lock file"
        )

    def _somebody_else_lives(self) -> bool:
        return any(self.lives(owner) for owner in self.owners() if owner != self.owner)

    # Owners

    def owners(self) -> list[Owner]:
        """Every owner that has a folder in `running/`."""
        try:
            names = os.listdir(owners_folder(self.path))
        except FileNotFoundError:
            return []
        return [owner for name in sorted(names) if (owner := Owner.parse(name)) is not None]

    def owner_file(self, owner: Owner, name: str) -> str:
        """The path of one of an owner's files, seen from the workdir."""
        return f"running/{owner}/{name}"

    def lives(self, owner: Owner) -> bool:
        """Whether an owner may still be at work. Of one on another host that is assumed."""
        held = presence.is_held(os.path.join(self.path, self.owner_file(owner, "alive")))
        if held is None:
            return not process.is_gone(owner)
        return held or not process.is_gone(owner)


class Section:
    """What one process may do while it is alone in the workdir."""

    def __init__(self, workdir: Workdir) -> None:
        self.workdir = workdir
        self.journal = workdir.journal
        self._sizes: dict[str, Size] | None = None
        self._sizes_text: bytes = b""
        self.is_done = False
        self._sizes_unknown = False

    @property
    def farm(self) -> dict[str, Any]:
        """What `farm.json` says."""
        assert self.workdir.farm is not None
        return self.workdir.farm

    # Looking

    @property
    def sizes(self) -> dict[str, Size]:
        """What the last exchange left, with what this one has written down so far."""
        if self._sizes is None:
            self._sizes_text = files.read_all(self.journal.file("sizes"))
            self._sizes = parse_sizes(self._sizes_text)
            if self._sizes is None:
                self._sizes_unknown = True
                self._sizes = {}
                for name in STATE_FILES:
                    self.measure(name)
        return self._sizes

    def was_edited(self, names: Iterable[str]) -> bool:
        """Whether one of these files is not as the last exchange left it."""
        sizes = self.sizes
        return self._sizes_unknown or any(files.size_of(self.journal.file(name)) != sizes[name].bytes for name in names)

    def measure(self, name: str) -> None:
        """Take a file as it is."""
        fd = self.journal.file(name)
        self.sizes[name] = Size(files.size_of(fd), files.count_lines(fd))

    def forget_sizes(self) -> None:
        """Let the next section find that the files want looking at."""
        self._sizes = None
        self.journal.note("sizes", len(self._sizes_text), b"")

    def last_lines(self, name: str, count: int) -> list[bytes]:
        """The last lines of a state file."""
        fd = self.journal.file(name)
        return files.last_lines(fd, files.size_of(fd), count)

    @property
    def left(self) -> int:
        """How many tasks wait."""
        return self.sizes["toprocess"].lines + self.sizes["later"].lines

    def added(self, new: int, dropped: int = 0) -> Added:
        """What became of a list, once everything is written down."""
        return Added(
            self.farm["next_id"] - self.farm.get("dropped", 0),
            new,
            dropped,
            self.left,
            self.sizes["finished"].lines,
            self.sizes["failed"].lines,
        )

    # Writing down

    def append(self, name: str, lines: list[bytes]) -> None:
        """Whole lines at the end of a state file."""
        if not lines:
            return
        data = b"".join(lines)
        size = self.sizes[name]
        self.journal.grow(name, size.bytes, data)
        self._expect(name, size.bytes + len(data), size.lines + len(lines))

    def extend(self, name: str, lines: Iterable[bytes]) -> int:
        """As many lines as there are at the end of a state file, with bounded memory; return their number."""
        lines = iter(lines)
        head = list(islice(lines, _FEW))
        if len(head) < _FEW and sum(map(len, head)) <= _SMALL:
            self.append(name, head)
            return len(head)
        before = self.sizes[name].lines
        return self.rewrite(name, chain(self._lines_of(name), head, lines)) - before

    def rewrite(self, name: str, lines: Iterable[bytes]) -> int:
        """These lines become the state file: written aside and synced now, swapped in with the exchange."""
        path = os.path.join(self.workdir.path, name + ".new")
        count = 0
        with os.fdopen(files.open_or_create(path, self.workdir.shared, os.O_TRUNC), "wb", files.BLOCK) as out:
            for line in lines:
                out.write(line)
                count += 1
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        self.swap_in(name, Size(size, count))
        return count

    def _lines_of(self, name: str) -> Iterator[bytes]:
        with open(os.path.join(self.workdir.path, name), "rb") as file:
            for line in file:
                yield line if line.endswith(b"\n") else line + b"\n"

    def cut(self, name: str, size: int, lines: int) -> None:
        """Keep the first `size` bytes and `lines` lines of a state file."""
        self.journal.shrink(name, self.sizes[name].bytes, size)
        self._expect(name, size, lines)

    def swap_in(self, name: str, size: Size) -> None:
        """`NAME.new`, written and synced, takes the place of NAME."""
        self.journal.rename(name + ".new", name)
        self._expect(name, size.bytes, size.lines)

    def set_farm(self, farm: dict[str, Any]) -> None:
        """`farm.json` is this."""
        path = os.path.join(self.workdir.path, "farm.json.new")
        fd = files.open_or_create(path, self.workdir.shared, os.O_TRUNC)
        try:
            files.write_all(fd, format_farm(farm), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.journal.rename("farm.json.new", "farm.json")
        self.workdir.farm = farm

    def _expect(self, name: str, size: int, lines: int) -> None:
        self.sizes[name] = Size(size, lines)

    def new_file(self, name: str) -> str:
        """The path of `NAME.new`, in which a large change is written aside."""
        return os.path.join(self.workdir.path, name + ".new")

    # Doing

    def commit(self) -> None:
        """Do what was written down. Happens by itself at the end of the section."""
        if self.is_done:
            return
        self.is_done = True
        if self._sizes is not None and (text := format_sizes(self._sizes)) != self._sizes_text:
            self.journal.note("sizes", len(self._sizes_text), text)
        if self.journal.is_empty:
            self.journal.abandon()
        else:
            self.journal.commit()


def _check_places(path: str) -> None:
    """Refuse a folder that holds somebody else's things, before anything is made in it."""
    for name in (*STATE_FILES, "sizes", "journal", "farm.json", "lock"):
        if os.path.isdir(os.path.join(path, name)):
            raise StateError(f"{path}/{name}: a file is wanted, found a folder. Use another --workdir")
    for name in ("running", "logs"):
        place = os.path.join(path, name)
        if os.path.lexists(place) and not os.path.isdir(place):
            raise StateError(f"{path}/{name}: a folder is wanted, found a file. Use another --workdir")
    try:
        parse_farm(os.path.join(path, "farm.json"), files.read_file(os.path.join(path, "farm.json")) or b"")
    except OSError:
        pass  # not there, or not ours to read: whoever opens it for writing says so


def _make_workdir(path: str, shared: bool) -> None:
    try:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise UsageError(f"{path}: a folder is wanted for the workdir, found a file. Use another --workdir")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        shared = shared or bool(os.stat(os.path.dirname(os.path.abspath(path))).st_mode & 0o2000)
        files.make_folder(path, shared)
        files.make_folder(os.path.join(path, "running"), shared)
        files.make_folder(os.path.join(path, "logs"), shared)
    except OSError as error:
        raise UsageError(f"{path}: the workdir cannot be made here: {error.strerror}. Use --workdir DIR") from error
