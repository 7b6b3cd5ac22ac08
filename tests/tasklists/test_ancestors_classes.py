"""Handler classes written for the ancestor: subclasses of ListTaskList that say by `__getitem__` what a command is."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator

import pytest

from taskfarmer.errors import UsageError
from taskfarmer.task import ListTaskList
from taskfarmer.tasks import ListTaskList as ListTaskListByItsOtherName

pytestmark = pytest.mark.quick


class Wrapped(ListTaskList):
    """The documented example: the list is files, and a command is put around each."""

    def __init__(self, path: str, workdir: str, program: str, maxEvents: str = "-1", **kwargs: str) -> None:
        super().__init__(path, workdir)
        self.program = program
        self.options = "".join(f" --{key}={value}" for key, value in kwargs.items())
        self.maxEvents = int(maxEvents)

    def __getitem__(self, taskid: int) -> str:
        return f"{self.program} {self.tasks[taskid]} -n {self.maxEvents}{self.options} -o {self.workdir}/{taskid}"


class Split(ListTaskList):
    """Each line is several tasks."""

    def __getitem__(self, taskid: int) -> str:
        file, part = divmod(taskid, 3)
        return f"{super().__getitem__(file)} --part {part}"

    def __len__(self) -> int:
        return 3 * super().__len__()


class Assigned(ListTaskList):
    """The lines are not those of the list."""

    def __init__(self, path: str, workdir: str) -> None:
        super().__init__(path, workdir)
        self.tasks = [line.upper() for line in self.tasks if "skip" not in line]


class Unread(ListTaskList):
    """Has nothing of ours but the name."""

    tasks = ["one", "two"]  # type: ignore[assignment]

    def __init__(self, path: str, workdir: str) -> None:
        self.path = path


class Streamed(ListTaskList):
    """Reads the list in a way of its own."""

    def __iter__(self) -> Iterator[str]:
        yield from reversed(self.tasks)


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = tmp_path / "files.txt"
    path.write_text("# files\na.root\n\n  b.root\r\nskip.root\n")
    return str(path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda path: Wrapped(path, "W", "prog", maxEvents="5", year="2018"),
            [f"prog {name}.root -n 5 --year=2018 -o W/{id}" for id, name in enumerate(["a", "b", "skip"])],
        ),
        (
            lambda path: Split(path, "W"),
            [f"{name}.root --part {part}" for name in ("a", "b", "skip") for part in range(3)],
        ),
        (lambda path: Assigned(path, "W"), ["A.ROOT", "B.ROOT"]),
        (lambda path: Unread(path, "W"), ["one", "two"]),
    ],
)
def test_the_commands_are_those_that_the_class_gives(
    make: Callable[[str], ListTaskList], expected: list[str], path: str
) -> None:
    tasklist = make(path)
    assert list(tasklist) == list(tasklist) == expected
    assert [tasklist[id] for id in range(len(tasklist))] == expected
    assert not tasklist.appended_lines_are_new


def test_a_class_that_reads_in_a_way_of_its_own_does_not_promise_what_more_lines_mean(path: str) -> None:
    tasklist = Streamed(path, "W")
    assert not tasklist.appended_lines_are_new
    assert list(tasklist) == ["skip.root", "b.root", "a.root"]


def test_the_lines_of_a_plain_list_have_an_index_and_a_number(path: str) -> None:
    tasklist = ListTaskListByItsOtherName(path, "W")
    assert len(tasklist) == 3
    assert tasklist.appended_lines_are_new
    assert tasklist[1] == "b.root"
    assert tasklist.tasks == ["a.root", "b.root", "skip.root"]


def test_a_plain_list_is_never_held(path: str) -> None:
    tasklist = ListTaskList(path, "W")
    assert list(tasklist) == ["a.root", "b.root", "skip.root"]
    assert len(tasklist) == 3
    assert tasklist._tasks is None


class Mistaken(ListTaskList):
    def __getitem__(self, taskid: int) -> str:
        return {"a.root": "prog a.root"}[self.tasks[taskid]]


class Nothing(ListTaskList):
    def __getitem__(self, taskid: int) -> str:
        return None  # type: ignore[return-value]


class Stopping(ListTaskList):
    def __getitem__(self, taskid: int) -> str:
        raise StopIteration


def test_a_mistake_in_a_class_is_told_with_its_place(path: str) -> None:
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "a.root" in text and "{" in text and "prog a" in text)  # fmt: skip
    with pytest.raises(UsageError) as error:
        list(Mistaken(path, "W"))
    assert str(error.value) == f"Mistaken, task 1: {__file__}, line {line}: KeyError('b.root')"
    assert isinstance(error.value.__cause__, KeyError)
    with pytest.raises(UsageError, match="Stopping, task 0: .*StopIteration"):
        list(Stopping(path, "W"))
    with pytest.raises(UsageError, match="^Nothing, task 0: a command is wanted, found None$"):
        list(Nothing(path, "W"))
