"""What is done to somebody for a while only: what undoes it, and when."""

from __future__ import annotations

from typing import Callable, NamedTuple

from .moments import now


class _Item(NamedTuple):
    time: float
    undo: Callable[[], object]
    of: str


class Lasting:
    """What has been done and is not yet undone."""

    def __init__(self) -> None:
        self._items: list[_Item] = []

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, seconds: float, undo: Callable[[], object], of: str = "") -> None:
        """Undo something after so many seconds; `of`: by which name it can be undone before."""
        self._items.append(_Item(now() + seconds, undo, of))

    def undo_due(self) -> None:
        """Undo what has lasted long enough."""
        self._undo([item for item in self._items if item.time <= now()])

    def undo_of(self, name: str) -> None:
        """Undo what was done to this one, now."""
        self._undo([item for item in self._items if item.of == name])

    def undo_all(self) -> None:
        """Undo everything, now."""
        self._undo(self._items)

    def _undo(self, items: list[_Item]) -> None:
        for item in list(items):
            self._items.remove(item)
            item.undo()
