"""One critical section of a workdir: look, write down what is to change, do it wholly or not at all.

Under the lock there is file work only. A section that raises before its commit leaves nothing behind.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Iterable, Iterator

from taskfarmer.stores.base import Added
from taskfarmer.stores.lines import EXCHANGE, STATE_FILES, Size, format_farm, format_sizes, parse_sizes, tasks_of
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import files

#: What is added goes through the journal when it is fewer lines and bytes than this; more is written aside.
_FEW, _SMALL = 4096, 1 << 18


@contextmanager
def alone_in(workdir: Workdir, farm_age: float = 0.0) -> Iterator[Section]:
    """Be alone in the workdir. What is written down is done at the end, wholly or not at all.

    `farm_age`: how many seconds old the content of `farm.json` may be.
    """
    with workdir.entered(farm_age):
        section = Section(workdir)
        try:
            yield section
        except BaseException:
            if not section.is_done:
                workdir.journal.abandon()
            raise
        section.commit()


class Section:
    """What one process may do while it is alone in the workdir."""

    def __init__(self, workdir: Workdir) -> None:
        self.workdir = workdir
        self.journal = workdir.journal
        self._sizes: dict[str, Size] | None = None
        self._sizes_text: bytes = b""
        self.is_done = False
        self.note = ""  # what a person should hear of it, once it is over
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
            if EXCHANGE in self._sizes:
                self.workdir.refuse_old_content(self._sizes[EXCHANGE], self._sizes_text)
            else:
                self._sizes[EXCHANGE] = Size(int.from_bytes(os.urandom(4), "big"), 0)
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
        self.journal.note("sizes", self._sizes_text, b"")

    def last_lines(self, name: str, count: int) -> list[bytes]:
        """The last lines of a state file."""
        fd = self.journal.file(name)
        return files.last_lines(fd, files.size_of(fd), count)

    def ends_a_line(self, name: str) -> bool:
        """Whether a state file ends with a newline, or is empty."""
        fd = self.journal.file(name)
        size = files.size_of(fd)
        return size == 0 or os.pread(fd, 1, size - 1) == b"\n"

    @property
    def left(self) -> int:
        """How many tasks wait."""
        return self.sizes["toprocess"].lines + self.sizes["later"].lines

    def added(self, new: int, dropped: int = 0) -> Added:
        """What became of a list, once everything is written down."""
        return Added(
            tasks_of(self.farm),
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
        aside = files.open_or_create(path, self.workdir.shared, os.O_TRUNC)
        with files.named(path), os.fdopen(aside, "wb", files.BLOCK) as out:
            for line in lines:
                out.write(line)
                count += 1
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        self.swap_in(name, Size(size, count))
        return count

    def _lines_of(self, name: str) -> Iterator[bytes]:
        with open(os.path.join(self.workdir.path, name), "rb", opener=files.fresh) as file:
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
            with files.named(path):
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
        text = self._count_this_one()
        if self.journal.is_empty:
            self.journal.abandon()
            return
        self.journal.commit()
        if self._sizes is not None and text:
            self.workdir.remember_exchange(self._sizes[EXCHANGE], text)

    def _count_this_one(self) -> bytes:
        """What `sizes` is to be, if anything changes."""
        if self._sizes is None or (self.journal.is_empty and format_sizes(self._sizes) == self._sizes_text):
            return b""
        row, number = self._sizes[EXCHANGE]
        self._sizes[EXCHANGE] = Size(row, number + 1)
        text = format_sizes(self._sizes)
        self.journal.note("sizes", self._sizes_text, text)
        return text
