"""The default tasklist: one shell command per line.

    # a comment: `#` in column 0
    ./simulate --seed 1 > out.1
    ./simulate --seed 2 > out.2

Comments and blank lines are skipped; blanks around a command and the CR of a CRLF line end are not part of it.

Handlers written for the ancestor are subclasses of it. They say what a command is by `__getitem__`, how many there are
by `__len__`, and find the lines in `tasks`.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator

from taskfarmer.errors import FarmError, UsageError
from taskfarmer.system import files

_BLANKS = " \t\r\n\v\f"
_INDEXED = ("__getitem__", "__len__", "tasks")


def read_lines(path: str) -> Iterator[str]:
    """The lines of a list that are tasks."""
    # newline="\n": only a newline ends a line; a lone CR or a Unicode separator is the user's.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for number, line in enumerate(lines):
            if number == 0:
                line = line.removeprefix("\ufeff")  # a byte order mark, as Windows editors write it
            command = line.strip(_BLANKS)
            if command and line[0] != "#":
                yield command


class ListTaskList:
    """One shell command per line."""

    _tasks: list[str] | None = None

    def __init__(self, path: str, workdir: str = "") -> None:
        self.path = path
        self.workdir = workdir

    @property
    def tasks(self) -> list[str]:
        """The lines that are tasks, read when first asked for. A subclass may assign others."""
        if self._tasks is None:
            self._tasks = list(read_lines(self.path))
        return self._tasks

    @tasks.setter
    def tasks(self, tasks: list[str]) -> None:
        self._tasks = tasks

    @property
    def appended_lines_are_new(self) -> bool:
        """See TaskList. What a subclass makes of a longer list is its own affair."""
        return type(self).__iter__ is ListTaskList.__iter__ and not self._is_indexed()

    def __getitem__(self, taskid: int) -> str:
        """The command of a task."""
        return self.tasks[taskid]

    def __len__(self) -> int:
        return len(self.tasks) if self._is_indexed() else sum(1 for _ in read_lines(self.path))

    def __iter__(self) -> Iterator[str]:
        return self._by_index() if self._is_indexed() else read_lines(self.path)

    def _is_indexed(self) -> bool:
        """Whether the commands are those that a subclass gives, one by one, and not just the lines."""
        own = type(self)
        changed = any(getattr(own, name) is not getattr(ListTaskList, name) for name in _INDEXED)
        return changed or self._tasks is not None

    def _by_index(self) -> Iterator[str]:
        for id in range(self._ask("how many tasks there are", lambda: len(self))):
            command = self._ask(f"task {id}", self.__getitem__, id)
            if not isinstance(command, str):
                raise UsageError(f"{type(self).__name__}, task {id}: a command is wanted, found {command!r:.60}")
            yield command

    def _ask(self, what: str, method: Callable[..., Any], *arguments: int) -> Any:
        """Call what a user may have written. Raises UsageError that says where it went wrong."""
        try:
            return method(*arguments)
        except FarmError:
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, OSError) and error.errno in files.DISK_TROUBLE:
                raise
            raise UsageError(f"{type(self).__name__}, {what}: {_place(error)}: {error!r}") from error


def _place(error: BaseException) -> str:
    """`FILE, line N`: where an exception was raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace else "somewhere"
