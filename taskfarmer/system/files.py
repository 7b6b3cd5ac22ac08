"""Reading and changing files so that a crash or a full disk leaves them explainable.

Hazards kept here: short writes, a last line without its newline, lists too long for memory, and names
that a network filesystem remembers longer than they are true (so: open and read, never judge by `stat`).
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import Iterator

BLOCK = 1 << 20
DISK_TROUBLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EFBIG, errno.EREMOTEIO)
)


@contextmanager
def named(path: str) -> Iterator[None]:
    """Let an error of a descriptor say which file it is about."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        raise


def open_or_create(path: str, shared: bool = False, extra: int = 0) -> int:
    """Open a file for reading and writing, made if it is not there. `shared`: group-writable whatever the umask."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | extra
    try:
        fd = os.open(path, flags, 0o666)
    except PermissionError:
        if not (shared and os.path.isfile(path) and os.path.getsize(path) == 0):
            raise
        os.unlink(path)  # another user has made it and died before it was open to the group
        fd = os.open(path, flags, 0o666)
    if shared and os.fstat(fd).st_uid == os.geteuid():
        os.fchmod(fd, 0o664)
    return fd


def make_folder(path: str, shared: bool = False) -> None:
    """Make a folder if it is not there. `shared`: writable for the group, which its files inherit."""
    try:
        os.mkdir(path, 0o777)
    except FileExistsError:
        if not shared or os.stat(path).st_uid != os.geteuid():
            return
    if shared:
        os.chmod(path, 0o2775)


def owner_of(path: str) -> str:
    """Whose file it is, by name if the user has one."""
    import pwd

    user = os.stat(path).st_uid
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write `data` at `offset`, however many calls a filesystem needs for it."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes at `offset`. An error says which file could not be read, though only its descriptor is known."""
    try:
        return os.pread(fd, length, offset)
    except OSError as error:
        error.filename = os.readlink(f"/proc/self/fd/{fd}")
        raise


def read_all(fd: int) -> bytes:
    """Everything in an open file, from its start."""
    parts = []
    offset = 0
    while part := read_at(fd, BLOCK, offset):
        parts.append(part)
        offset += len(part)
        if len(part) < BLOCK:
            break  # only the end of a file reads short
    return b"".join(parts)


def read_file(path: str) -> bytes | None:
    """The content of a small file, opened afresh; None when there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return read_all(fd)
    finally:
        os.close(fd)


def size_of(fd: int) -> int:
    """The size of an open file."""
    return os.lseek(fd, 0, os.SEEK_END)


def sync_folder(path: str) -> None:
    """Make names created, renamed or removed in this folder survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def last_lines(fd: int, size: int, count: int) -> list[bytes]:
    """The last `count` lines of a file of `size` bytes, read from its end: costs O(count), not O(size).

    A last line without a newline is a person's and is whole.
    """
    step = max(4096, count * 96)
    start = size
    tail = b""
    while start > 0:
        begin = max(0, start - step)
        tail = _read_exactly(fd, start - begin, begin) + tail
        start = begin
        ends = tail.count(b"\n") - tail.endswith(b"\n")
        if ends >= count:
            break
        step *= 2
    lines = tail.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    return lines[-count:] if count else []


def first_lines(fd: int, count: int) -> list[bytes]:
    """The first `count` lines of a file."""
    lines: list[bytes] = []
    rest = b""
    offset = 0
    while len(lines) < count and (part := read_at(fd, BLOCK, offset)):
        offset += len(part)
        *whole, rest = (rest + part).split(b"\n")
        lines += whole
    if rest and len(lines) < count:
        lines.append(rest)
    return lines[:count]


def write_reversed(source: int, begin: int, target: int) -> int:
    """Write the lines of `source` from offset `begin` on into `target`, last line first; return their number.

    Works backwards in blocks of a megabyte: memory does not depend on the length of the file.
    """
    count = 0
    at = 0
    carry = b""
    end = size_of(source)
    while end > begin:
        start = max(begin, end - BLOCK)
        block = _read_exactly(source, end - start, start) + carry
        end = start
        lines = block.split(b"\n")
        # The first piece may be the second half of a line that starts in the block before.
        carry = lines.pop(0) if end > begin else b""
        lines = [line for line in reversed(lines) if line]
        if lines:
            text = b"\n".join(lines) + b"\n"
            write_all(target, text, at)
            at += len(text)
            count += len(lines)
    return count


def count_lines(fd: int) -> int:
    """How many lines a file has; a last one without newline counts."""
    count = offset = 0
    last = b"\n"
    while part := read_at(fd, BLOCK, offset):
        offset += len(part)
        count += part.count(b"\n")
        last = part[-1:]
    return count + (last != b"\n")


def _read_exactly(fd: int, length: int, offset: int) -> bytes:
    parts = []
    while length and (part := read_at(fd, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
