"""The default tasklist: one shell command per line.

    # a comment: `#` in column 0
    ./simulate --seed 1 > out.1
    ./simulate --seed 2 > out.2

Comments and blank lines are skipped; blanks around a command and the CR of a CRLF line end are not part of it.
"""

from __future__ import annotations

from typing import Iterator

_BLANKS = " \t\r\n\v\f"


class ListTaskList:
    """One shell command per line."""

    def __init__(self, path: str, workdir: str = "") -> None:
        self.path = path
        self.workdir = workdir

    def __iter__(self) -> Iterator[str]:
        # newline="\n": only a newline ends a line; a lone CR or a Unicode separator is the user's.
        with open(self.path, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            for number, line in enumerate(lines):
                if number == 0:
                    line = line.removeprefix("\ufeff")  # a byte order mark, as Windows editors write it
                command = line.strip(_BLANKS)
                if command and line[0] != "#":
                    yield command
