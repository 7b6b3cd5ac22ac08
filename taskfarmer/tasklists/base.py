"""What a tasklist handler is: an object that reads commands, in order, one at a time."""

from __future__ import annotations

from typing import Iterator, Protocol


class TaskList(Protocol):
    """Reads a tasklist. The id of a task is the index of its command, from 0."""

    @property
    def path(self) -> str:
        """The list: that file's size, time and content tell whether it has changed."""
        ...

    @property
    def appended_lines_are_new(self) -> bool:
        """Whether whole lines that are put at the end of the list leave all commands as they are and add new ones."""
        ...

    def __iter__(self) -> Iterator[str]:
        """Each command in the order of the list. Bytes that are not UTF-8 come as surrogate escapes (PEP 383)."""
        ...
