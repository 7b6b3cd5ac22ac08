"""What a tasklist handler is: an object that reads commands, in order, one at a time."""

from __future__ import annotations

from typing import Iterator, Protocol


class TaskList(Protocol):
    """Reads a tasklist. The id of a task is the index of its command, from 0."""

    path: str

    def __iter__(self) -> Iterator[str]:
        """Each command in the order of the list. Bytes that are not UTF-8 come as surrogate escapes (PEP 383)."""
        ...
