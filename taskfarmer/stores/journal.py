"""`journal`: what makes an exchange happen wholly or not at all. Written down first, then done.

It exists only during an exchange and is created with O_EXCL, so that it excludes even where locks lie. A record:

    pytaskfarmer journal 1 n1.4711.8812345.a1b2c3          its writer; alone until the record is whole
    grow finished 120 131
    <11 bytes: the lines to append>
    replace running/n1.4711.8812345.a1b2c3/claims 40 20
    <20 bytes: the whole new content>
    rename toprocess.new toprocess
    remove running/n1.99.77.0f0f0f/claims
    shrink toprocess 4000 3800
    note sizes 76 77
    <77 bytes>
    end 5f3759df                                           CRC-32 of everything before this line, hex

All operations are absolute (sizes before and after), so doing them twice is doing them once. Growing comes first,
shrinking and removing last. Order of writing: fsync the folder, for the names of the journal and of files to be swapped
in; the record, fsync it (that is the commit); each operation, fsync its file; the folder if names changed; then the
journal is removed. Whoever finds a whole record of a dead writer does it; a record that is not whole was never begun.
"""

import os
import time
from enum import Enum
from typing import Callable, NamedTuple
from zlib import crc32

from taskfarmer.errors import DiskError, LockError, StateError, WorkdirGone
from taskfarmer.model import Owner
from taskfarmer.system import files, mounts, process

_TITLE = b"pytaskfarmer journal 1 "
_LOOKS, _BETWEEN_LOOKS = 10, 0.01


class Kind(Enum):
    """What an operation does to its file."""

    GROW = "grow"
    REPLACE = "replace"
    RENAME = "rename"
    REMOVE = "remove"
    SHRINK = "shrink"
    NOTE = "note"


#: Growing first, shrinking and removing last; until the first of the latter, an exchange can be taken back.
_ORDER = list(Kind)
_TAKES_AWAY = frozenset((Kind.RENAME, Kind.REMOVE, Kind.SHRINK))


class Operation(NamedTuple):
    """One absolute change of one file. `target` is only for renames."""

    kind: Kind
    name: str
    before: int = 0
    after: int = 0
    data: bytes = b""
    target: str = ""


class Journal:
    """The journal of one workdir, as one process uses it."""

    def __init__(
        self, workdir: str, owner: Owner, has_left: Callable[[Owner], bool] = process.is_gone, shared: bool = False
    ) -> None:
        self._workdir = workdir
        self._shared = shared
        self._path = os.path.join(workdir, "journal")
        self._owner = owner
        self._has_left = has_left
        # Kept open: a folder has no content that could be stale, and each exchange syncs it.
        self._folder = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[str, int] = {}
        self._operations: list[Operation] = []
        self._fd = -1
        self._before: dict[str, bytes] = {}
        self._shrinking = False
        self._unreadable_since = 0.0
        self.holder: Owner | None = None

    # Entering and leaving, under the lock

    def enter(self, lock_is_the_farms: bool = True) -> bool:
        """Begin an exchange; do what a dead writer left undone. False: somebody is inside, let go and look again.

        `lock_is_the_farms`: else each may hold a lock of its own, and only the journal excludes. Raises LockError if the
        farm's lock does not exclude.
        """
        self._operations = []
        self._before.clear()
        self._shrinking = False
        while True:
            try:
                self._fd = files.open_or_create(self._path, self._shared, os.O_EXCL)
            except FileExistsError:
                cleared = self._clear_the_way(lock_is_the_farms)
                self._shrinking = False  # doing what another left may have set it
                if not cleared:
                    return False
                continue
            try:
                with files.named(self._path):
                    files.write_all(self._fd, self._title(), 0)
            except OSError:
                os.unlink(self._path)
                raise
            return True

    def abandon(self) -> None:
        """End an exchange in which nothing is to be done."""
        os.unlink(self._path)
        self.release()

    def release(self) -> None:
        """Close every file of this exchange."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._folder)

    def file(self, name: str, create: bool = True) -> int:
        """A file of the workdir, opened once per exchange, after the lock was taken."""
        if name not in self._open:
            path = os.path.join(self._workdir, name)
            if create:
                self._open[name] = files.open_or_create(path, self._shared)
            else:
                self._open[name] = files.fresh(path, os.O_RDWR)
        return self._open[name]

    # Writing down

    def grow(self, name: str, before: int, data: bytes) -> None:
        """FILE, of `before` bytes, grows by these."""
        self._operations.append(Operation(Kind.GROW, name, before, before + len(data), data))

    def replace(self, name: str, before: bytes, data: bytes) -> None:
        """FILE is this; it was `before`."""
        if data != before:
            self._before[name] = before
            self._operations.append(Operation(Kind.REPLACE, name, len(before), len(data), data))

    def shrink(self, name: str, before: int, after: int) -> None:
        """FILE, of `before` bytes, keeps its first `after`."""
        if after != before:
            self._operations.append(Operation(Kind.SHRINK, name, before, after))

    def rename(self, name: str, target: str) -> None:
        """FILE, written and synced beforehand, takes the place of TARGET."""
        self._operations.append(Operation(Kind.RENAME, name, target=target))

    def remove(self, name: str) -> None:
        """FILE goes."""
        self._operations.append(Operation(Kind.REMOVE, name))

    def note(self, name: str, before: bytes, data: bytes) -> None:
        """FILE, which was `before`, is this. It is synced only where other hosts see it: they may outlive a crash of the
        server, and take what is older than they know for a lie."""
        self._before[name] = before
        self._operations.append(Operation(Kind.NOTE, name, len(before), len(data), data))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written down."""
        return not self._operations

    # Doing

    def commit(self) -> None:
        """Write the record, then do it. Raises DiskError when nothing happened, Pending when it is yet to be done."""
        self._operations.sort(key=lambda operation: _ORDER.index(operation.kind))
        self._refuse_give_and_take()
        try:
            self._write_record()
            self._perform(author=True)
            self._remove_record()
        except OSError as error:
            self._take_back(error)

    def _refuse_give_and_take(self) -> None:
        """A file that both grows and loses something in one exchange would lose what it has just been given."""
        grown = {operation.name for operation in self._operations if operation.kind is Kind.GROW}
        taken = {operation.target or operation.name for operation in self._operations if operation.kind in _TAKES_AWAY}
        if grown & taken:
            raise AssertionError(f"an exchange both gives to and takes from {', '.join(sorted(grown & taken))}")

    def _write_record(self) -> None:
        record = self._record()
        with files.named(self._path):
            # Names first: when a record is whole on the disk, it has a name, and so has every file that it swaps in.
            os.fsync(self._folder)
            files.write_all(self._fd, record, 0)
            os.fsync(self._fd)

    def _remove_record(self) -> None:
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # NFS asks again when the answer was lost; or we hung for so long that another did it in our place

    def _take_back(self, error: OSError) -> None:
        """After trouble: as if nothing had happened if that can be had, else the record stays to be done later.

        If it is not ours any more, we hung for so long that another did it in our place, and has gone on from there.
        """
        why = f"{error.filename or self._workdir}: {error.strerror or error}"
        try:
            if self._shrinking or not self._is_mine():
                raise error
            for operation in self._operations:
                self._restore(operation)
            os.unlink(self._path)
            os.fsync(self._folder)  # or a power cut brings back what we have just taken back
        except OSError:
            raise Pending(f"{why}; what was begun is written down and will be done when it can be") from error
        raise DiskError(why) from error

    def _restore(self, operation: Operation) -> None:
        fd = self.file(operation.name) if operation.kind in (Kind.GROW, Kind.REPLACE) else -1
        if operation.kind is Kind.GROW and files.size_of(fd) > operation.before:
            os.ftruncate(fd, operation.before)
            os.fsync(fd)
        elif operation.kind is Kind.REPLACE:
            files.write_all(fd, self._before[operation.name], 0)
            os.ftruncate(fd, operation.before)
            os.fsync(fd)
        elif operation.kind is Kind.NOTE:
            self._write_note(operation.name, self._before[operation.name], operation.after)

    def _perform(self, author: bool) -> None:
        if author:
            self._check_still_mine()
        renamed = set()
        for operation in self._operations:
            if operation.kind in _TAKES_AWAY and not self._shrinking:
                if author:
                    self._check_still_mine()
                self._shrinking = True
            with files.named(os.path.join(self._workdir, operation.name)):
                if not author:
                    self._make_folder_of(operation)
                self._do(operation)
            if operation.kind in (Kind.RENAME, Kind.REMOVE):
                renamed.add(os.path.dirname(operation.name))
        for folder in renamed:
            if folder:
                files.sync_folder(os.path.join(self._workdir, folder))
            else:
                os.fsync(self._folder)

    def _make_folder_of(self, operation: Operation) -> None:
        """An owner that has left since is removed anew: a power cut brought back a journal whose end was not synced."""
        folder = os.path.dirname(operation.name)
        if folder:
            # Made and not looked for: a name that is not there may be a memory.
            files.make_folder(os.path.join(self._workdir, folder), self._shared)

    def _do(self, operation: Operation) -> None:
        kind, name = operation.kind, operation.name
        path = os.path.join(self._workdir, name)
        if kind is Kind.RENAME:
            try:
                os.rename(path, os.path.join(self._workdir, operation.target))
            except FileNotFoundError:
                pass  # done before the crash
            self._forget(operation.target)
        elif kind is Kind.REMOVE:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass  # done before the crash
            self._forget(name)
        elif kind is Kind.NOTE:
            self._write_note(name, operation.data, operation.before)
        else:
            self._resize(operation, self.file(name))

    def _write_note(self, name: str, text: bytes, before: int) -> None:
        fd = self.file(name)
        files.write_all(fd, text, 0)
        if len(text) < before:
            os.ftruncate(fd, len(text))
        if mounts.others_may_see(self._workdir):
            os.fsync(fd)

    def _resize(self, operation: Operation, fd: int) -> None:
        size = files.size_of(fd)
        low, high = sorted((operation.before, operation.after))
        if not low <= size <= high:
            raise StateError(
                f"{self._workdir}/{operation.name}: {operation.before} or {operation.after} bytes were expected, "
                f"found {size}: it was changed by hand while an exchange was under way. "
                f"Compare it with {self._path}, then remove the journal"
            )
        if operation.kind is Kind.SHRINK:
            os.ftruncate(fd, operation.after)
        else:
            files.write_all(fd, operation.data, operation.before if operation.kind is Kind.GROW else 0)
            if operation.after < size:
                os.ftruncate(fd, operation.after)
        os.fsync(fd)

    def _forget(self, name: str) -> None:
        fd = self._open.pop(name, -1)
        if fd >= 0:
            os.close(fd)

    def _check_still_mine(self) -> None:
        same = self._is_mine()
        if not same and not os.path.exists(os.path.join(self._workdir, "farm.json")):
            raise WorkdirGone(f"{self._workdir}: the workdir was removed")
        if not same:
            raise self._a_lie("another process removed it")

    def _is_mine(self) -> bool:
        try:
            return os.stat(self._path).st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False

    # What another left

    def _clear_the_way(self, lock_is_the_farms: bool) -> bool:
        try:
            content = files.read_file(self._path)
        except PermissionError:
            if not self._shared or os.stat(self._path).st_size:
                raise
            content = b""  # another user has made it and died before it was open to the group
        if content is None:
            return True
        writer, operations = parse(content)
        self.holder = writer
        if writer is None:
            # Its writer died before its name was written, or is writing it now (where the lock lies).
            self._unreadable_since = self._unreadable_since or time.monotonic()
            if time.monotonic() - self._unreadable_since < 1.0:
                return False
        elif writer != self._owner and not self._has_left(writer):
            if lock_is_the_farms:
                self._look_whether_it_moves(content)
            return False
        self._unreadable_since = 0.0
        if operations is not None:
            self._operations = operations
            try:
                self._perform(author=False)
            except OSError as error:
                raise DiskError(f"{error.filename or self._workdir}: {error.strerror or error}") from error
            finally:
                self._operations = []
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # one who holds the same lock cannot do this, but we are about to be told by O_EXCL
        self.release()
        return True

    def _look_whether_it_moves(self, content: bytes) -> None:
        """A living writer's journal cannot move while we hold the lock it needs. Raises LockError."""
        for _ in range(_LOOKS):
            time.sleep(_BETWEEN_LOOKS)
            if files.read_file(self._path) != content:
                raise self._a_lie("another process was writing it")

    def _a_lie(self, what: str) -> LockError:
        return LockError(
            f"{self._path}: {what} while this one held the lock: "
            "the lock does not exclude here. Use --lock soft or another --lock-dir"
        )

    # The text

    def _title(self) -> bytes:
        return _TITLE + str(self._owner).encode() + b"\n"

    def _record(self) -> bytes:
        parts = [self._title()]
        for kind, name, before, after, data, target in self._operations:
            if kind is Kind.RENAME:
                parts.append(b"rename %s %s\n" % (name.encode(), target.encode()))
            elif kind is Kind.REMOVE:
                parts.append(b"remove %s\n" % name.encode())
            else:
                parts.append(b"%s %s %d %d\n" % (kind.value.encode(), name.encode(), before, after))
                if kind is not Kind.SHRINK:
                    parts += (data, b"\n")
        body = b"".join(parts)
        return body + b"end %08x\n" % crc32(body)


class Pending(DiskError):
    """The exchange is written down but not done: the disk refused in the middle. It will be done."""


def parse(content: bytes) -> tuple[Owner | None, list[Operation] | None]:
    """The writer of a journal, and its operations if the record is whole."""
    title, newline, _ = content.partition(b"\n")
    if not newline or not title.startswith(_TITLE):
        return None, None
    writer = Owner.parse(title[len(_TITLE) :].decode())
    body, mark, crc = content.rpartition(b"end ")
    if not mark or crc != b"%08x\n" % crc32(body):
        return writer, None
    operations = []
    at = len(title) + 1
    while at < len(body):
        end = body.index(b"\n", at)
        words = body[at:end].decode().split(" ")
        at = end + 1
        kind = Kind(words[0])
        if kind is Kind.RENAME:
            operations.append(Operation(kind, words[1], target=words[2]))
        elif kind is Kind.REMOVE:
            operations.append(Operation(kind, words[1]))
        else:
            before, after = int(words[2]), int(words[3])
            length = {Kind.GROW: after - before, Kind.SHRINK: 0}.get(kind, after)
            operations.append(Operation(kind, words[1], before, after, body[at : at + length]))
            at += length + 1 if kind is not Kind.SHRINK else 0
    return writer, operations
