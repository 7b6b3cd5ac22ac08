"""Reading and changing files so that a crash or a full disk leaves them explainable.

Hazards kept here: short writes, a last line without its newline, lists too long for memory, and names
that a network filesystem remembers longer than they are true (so: open and read, never judge by `stat`).

Not even that is enough. NFS shows a host nothing new of what is in a file while any of its processes has it open for
writing, be it for a moment. On FUSE how long a file is may be a memory of a second, its content one for ever. So where
other hosts may see a file, what this one remembers of it is dropped when it is opened (`fresh`), and a FUSE server is
asked anew.
"""

from __future__ import annotations

import errno
import functools
import os
from contextlib import contextmanager
from typing import Callable, Iterator, Sequence

from taskfarmer.system import mounts

BLOCK = 1 << 20
_AT_EMPTY_PATH, _AT_STATX_FORCE_SYNC, _STATX_BASIC_STATS = 0x1000, 0x2000, 0x7FF
#: EBADF is what NFS 4 says, in reading, of a file that it could not open again after a cut: another has removed it.
DISK_TROUBLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EBADF, errno.EFBIG, errno.EREMOTEIO)
)


@contextmanager
def named(path: str) -> Iterator[None]:
    """Let an error of a descriptor say which file it is about."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        raise


def fresh(path: str, flags: int) -> int:
    """Open a file so that it is seen as it is now, whatever this host remembers of it. Also an `opener` for `open`."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
    if not flags & (os.O_EXCL | os.O_TRUNC):
        try:
            _look_afresh(path, fd)
        except OSError:
            os.close(fd)
            raise
    return fd


def _look_afresh(path: str, fd: int) -> None:
    folder = os.path.dirname(path)
    if not mounts.others_may_see(folder):
        return
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # what has the same size and time may still be another content
    if mounts.kind_of(folder).partition(".")[0] == "fuse" and (code := _ask_the_server()(fd)):
        raise OSError(code, os.strerror(code), path)


@functools.lru_cache(maxsize=1)
def _ask_the_server() -> Callable[[int], int]:
    """statx(2) as Python has it not yet: the only call by which a host asks its server whatever it remembers."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    space = ctypes.create_string_buffer(256)

    def ask(fd: int) -> int:
        failed = libc.statx(fd, b"", _AT_EMPTY_PATH | _AT_STATX_FORCE_SYNC, _STATX_BASIC_STATS, space)
        return ctypes.get_errno() if failed else 0

    def read_and_ask(fd: int) -> int:
        """After a read its time is not known any more. (Of a file that was empty nothing is read.)"""
        os.pread(fd, 1, 0)
        os.fstat(fd)
        return 0

    return ask if hasattr(libc, "statx") else read_and_ask


def open_or_create(path: str, shared: bool = False, extra: int = 0) -> int:
    """Open a file for reading and writing, made if it is not there. `shared`: group-writable whatever the umask."""
    flags = os.O_RDWR | os.O_CREAT | extra
    try:
        fd = fresh(path, flags)
    except PermissionError:
        if not (shared and os.path.isfile(path) and os.path.getsize(path) == 0):
            raise
        os.unlink(path)  # another user has made it and died before it was open to the group
        fd = fresh(path, flags)
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


def make_folder_with(path: str, names: Sequence[str], shared: bool = False) -> None:
    """Make a folder with these folders in it, in one step, if there is none; of two who do so at once, one does.

    Were it made step by step by two hosts, GlusterFS would now and then give them a folder in which nothing can be.
    """
    aside = f"{path.rstrip('/')}.{os.urandom(4).hex()}"
    make_folder(aside, shared)
    for name in names:
        make_folder(os.path.join(aside, name), shared)
    try:
        os.rename(aside, path)
    except OSError as error:
        for name in names:
            os.rmdir(os.path.join(aside, name))
        os.rmdir(aside)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def owner_of(path: str) -> str:
    """Whose file it is, as `user_name` says it."""
    return user_name(os.stat(path).st_uid)


def user_name(user: int) -> str:
    """A user's name, `user 1000` if there is none."""
    import pwd

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
        fd = fresh(path, os.O_RDONLY)
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
