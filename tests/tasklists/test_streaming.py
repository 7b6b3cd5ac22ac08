"""Lists are streamed: what is held does not depend on how long a list is."""

from __future__ import annotations

import os
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable

import pytest

from taskfarmer.tasklists import ListTaskList, SweepTaskList, TableTaskList, TemplateTaskList

pytestmark = pytest.mark.quick

LINES = 20_000
HANDLERS: dict[str, Callable[[str], Iterable[str]]] = {
    "list": lambda path: ListTaskList(path, "w"),
    "template": lambda path: TemplateTaskList(path, "w", "prog {line} {stem} '{id}'"),
    "table": lambda path: TableTaskList(path, "w", "prog {a} {b} {id}"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    path.write_text("a,b\n" + "".join(f"{line},x {line}\n" for line in range(LINES)))
    return str(path)


def peak(commands: Iterable[str], count: int) -> int:
    """Bytes held at most while that many commands are read."""
    tracemalloc.start()
    try:
        for _ in islice(commands, count):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_long_list_is_read_in_the_memory_of_a_short_one(handler: str, path: str) -> None:
    peak(HANDLERS[handler](path), 10)  # what is imported stays
    short = peak(HANDLERS[handler](path), 2_000)
    assert peak(HANDLERS[handler](path), LINES) < short + 65_536


@pytest.mark.parametrize("handler", HANDLERS)
def test_no_more_is_read_than_a_block_ahead(handler: str, tmp_path: Path) -> None:
    """From a pipe whose other end has 100 kB to give: the first commands come before the rest is asked for."""
    pipe = str(tmp_path / "pipe.csv")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(pipe, os.O_WRONLY)
    os.write(writer, b"a,b\n" + b"1,2\n" * 10_000)
    commands = iter(HANDLERS[handler](pipe))
    assert len([next(commands) for _ in range(10)]) == 10
    left = 0
    os.set_blocking(reader, False)
    try:
        while block := os.read(reader, 65_536):
            left += len(block)
    except BlockingIOError:
        pass
    assert left > 20_000
    os.close(writer)
    os.close(reader)


def test_the_values_of_an_axis_are_counted_and_not_kept() -> None:
    def tasklist() -> Iterable[str]:
        return SweepTaskList("study.ini", "w", "prog {x} {y} {z}", x="1..10", y="0..1000000..0.001", z="1..100000000")

    peak(tasklist(), 10)
    short = peak(tasklist(), 2_000)
    assert peak(tasklist(), LINES) < short + 65_536
