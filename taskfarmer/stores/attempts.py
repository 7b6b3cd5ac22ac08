"""`attempts`: how often a task that went back at least once was tried.

    ID COUNTED TOTAL

The last line of an id wins. COUNTED tries used up one of `--retries`; TOTAL also counts those that were stopped or lost.
Appended in exchanges; a farmer reads on from where it was. In memory four bytes per id, however often a task went back.
"""

from __future__ import annotations

from array import array

from taskfarmer.system import files

#: Counts beyond this are not told apart; more `--retries` than this are not accepted.
MOST = 65_000


class Attempts:
    """The counts of one farm, as far as one process has read them."""

    def __init__(self) -> None:
        self._counted = array("H")
        self._total = array("H")
        self._read_to = 0

    def is_behind(self, size: int) -> bool:
        """Whether a file of that size holds something that was not read yet."""
        return size != self._read_to

    def catch_up(self, fd: int, size: int) -> None:
        """Read what was appended since the last time."""
        if size < self._read_to:
            self.__init__()  # type: ignore[misc]  # the file was replaced: begin again
        while self._read_to < size:
            text = files.read_at(fd, min(size - self._read_to, 1 << 20), self._read_to)
            whole = text[: text.rfind(b"\n") + 1]
            if not whole:
                break
            self._read_to += len(whole)
            for line in whole.splitlines():
                words = line.split()
                if len(words) == 3 and all(word.isdigit() for word in words):
                    self._set(int(words[0]), int(words[1]), int(words[2]))

    def counted(self, id: int) -> int:
        """Tries that used up a retry."""
        return self._counted[id] if id < len(self._counted) else 0

    def total(self, id: int) -> int:
        """Tries that ended and left the task undone."""
        return self._total[id] if id < len(self._total) else 0

    def line(self, id: int, counted: int, total: int) -> bytes:
        """The line that says so. It counts once it was read back."""
        return b"%d %d %d\n" % (id, min(counted, MOST), min(total, MOST))

    def _set(self, id: int, counted: int, total: int) -> None:
        if id >= len(self._total):
            more = bytes(2 * max(1024, id + 1 - len(self._total)))
            self._counted.frombytes(more)
            self._total.frombytes(more)
        self._counted[id] = min(counted, MOST)
        self._total[id] = min(total, MOST)
