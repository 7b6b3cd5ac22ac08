"""Reading from both ends of a file, whatever its length and wherever its blocks end."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfarmer.system import files

pytestmark = pytest.mark.quick

#: Short and long lines, blank ones, and a last one that may lack its newline.
TEXTS = st.lists(
    st.one_of(st.sampled_from([b"\n", b"a\n", b"bc\n", b"\xff\r\x00\n", b"d"]), st.binary(max_size=40)), max_size=30
).map(b"".join)


#: A file in whose first page nobody can read anything: EIO.
BROKEN = "/proc/self/mem"


@contextmanager
def file_of(content: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    before, files.BLOCK = files.BLOCK, size
    try:
        yield
    finally:
        files.BLOCK = before


def lines_of(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


@given(content=TEXTS, count=st.integers(0, 40))
def test_last_lines_are_the_end_of_all_lines(content: bytes, count: int) -> None:
    with file_of(content) as fd:
        assert files.last_lines(fd, len(content), count) == lines_of(content)[max(0, len(lines_of(content)) - count) :]


@pytest.mark.parametrize("length", [1, 4094, 4095, 4096, 4097, 8191, 200_000])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_last_lines_may_be_longer_than_what_is_read_at_once(length: int, count: int) -> None:
    lines = [bytes([65 + number % 26]) * (length + number) for number in range(6)]
    for end in (b"\n", b""):
        content = b"\n".join(lines) + end
        with file_of(content) as fd:
            assert files.last_lines(fd, len(content), count) == lines[-count:]


@given(content=TEXTS, count=st.integers(0, 40), block=st.integers(1, 50))
def test_first_lines_are_the_beginning_of_all_lines(content: bytes, count: int, block: int) -> None:
    with file_of(content) as fd, blocks_of(block):
        assert files.first_lines(fd, count) == lines_of(content)[:count]


@given(content=TEXTS, block=st.integers(1, 50), skip=st.integers(0, 30))
def test_write_reversed_turns_the_lines_round(content: bytes, block: int, skip: int) -> None:
    lines = lines_of(content)
    begin = sum(len(line) + 1 for line in lines[:skip])
    with file_of(content) as source, file_of(b"") as target, blocks_of(block):
        count = files.write_reversed(source, min(begin, len(content)), target)
        wanted = [line for line in reversed(lines[skip:]) if line]
        assert files.read_all(target) == b"".join(line + b"\n" for line in wanted)
        assert count == len(wanted)


@given(content=TEXTS, block=st.integers(1, 50))
def test_lines_are_counted_with_the_last_unfinished_one(content: bytes, block: int) -> None:
    with file_of(content) as fd, blocks_of(block):
        assert files.count_lines(fd) == len(lines_of(content))


@given(content=TEXTS, block=st.integers(1, 50))
def test_everything_is_read(content: bytes, block: int) -> None:
    with file_of(content) as fd, blocks_of(block):
        assert files.read_all(fd) == content
        assert files.size_of(fd) == len(content)


def test_write_all_survives_short_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, bytes(data)[:3], offset))
    with file_of(b"0123456789") as fd:
        files.write_all(fd, b"abcdefgh", 1)
        assert files.read_all(fd) == b"0abcdefgh9"


def test_a_file_that_is_not_there_is_none(tmp_path: os.PathLike[str]) -> None:
    assert files.read_file(os.path.join(tmp_path, "nowhere")) is None


def test_what_is_shared_can_be_written_by_the_group_whatever_the_umask(tmp_path: os.PathLike[str]) -> None:
    before = os.umask(0o077)
    try:
        files.make_folder(os.path.join(tmp_path, "folder"), shared=True)
        os.close(files.open_or_create(os.path.join(tmp_path, "folder", "file"), shared=True))
        files.make_folder(os.path.join(tmp_path, "own"))
        os.close(files.open_or_create(os.path.join(tmp_path, "own", "file")))
    finally:
        os.umask(before)
    modes = {
        name: os.stat(os.path.join(tmp_path, name)).st_mode & 0o7777
        for name in ("folder", "folder/file", "own", "own/file")
    }
    assert modes == {"folder": 0o2775, "folder/file": 0o664, "own": 0o700, "own/file": 0o600}


@pytest.mark.parametrize(
    "read",
    [files.read_all, files.count_lines, lambda fd: files.first_lines(fd, 1), lambda fd: files.last_lines(fd, 9, 1)],
)
def test_a_file_that_cannot_be_read_is_named(read: Callable[[int], object]) -> None:
    fd = os.open(BROKEN, os.O_RDONLY)
    try:
        with pytest.raises(OSError) as refused:
            read(fd)
    finally:
        os.close(fd)
    assert (refused.value.errno, refused.value.filename) == (errno.EIO, f"/proc/{os.getpid()}/mem")
