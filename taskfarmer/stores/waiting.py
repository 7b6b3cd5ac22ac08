"""Taking tasks from those that wait: `toprocess` is a stack, whose last line is next; `later` a queue behind it.

A claim reads the tail of `toprocess` and shortens the file: its cost does not depend on the length of the list.
"""

from __future__ import annotations

import os

from taskfarmer.stores.lines import Size, broken_line, parse_task
from taskfarmer.stores.section import Section
from taskfarmer.system import files


def take(section: Section, want: int, later_grows: bool) -> list[tuple[int, bytes]]:
    """Take up to `want` tasks, the next one first: id and command of each. StateError for a line that is no task.

    What this exchange appends to `later` (`later_grows`) is not in the file yet: it is turned round by the next one.
    """
    if section.sizes["toprocess"].lines:
        return _take_from_the_end(section, want)
    if later_grows or not section.sizes["later"].lines:
        return []
    return _turn_later_round(section, want)


def _take_from_the_end(section: Section, want: int) -> list[tuple[int, bytes]]:
    lines = section.last_lines("toprocess", want)
    tasks = _parse(section, "toprocess", lines, from_the_end=True)
    size = section.sizes["toprocess"]
    taken = sum(map(len, lines)) + len(lines)
    section.cut("toprocess", max(0, size.bytes - taken), size.lines - len(lines))
    tasks.reverse()
    return tasks


def _turn_later_round(section: Section, want: int) -> list[tuple[int, bytes]]:
    """Take from the head of `later`; the rest, turned round, becomes `toprocess`."""
    source = section.journal.file("later")
    lines = files.first_lines(source, want)
    tasks = _parse(section, "later", lines)
    begin = sum(map(len, lines)) + len(lines)
    if begin < section.sizes["later"].bytes:
        target = files.open_or_create(section.new_file("toprocess"), section.workdir.shared, os.O_TRUNC)
        try:
            count = files.write_reversed(source, begin, target)
            os.fsync(target)
            section.swap_in("toprocess", Size(files.size_of(target), count))
        finally:
            os.close(target)
    section.cut("later", 0, 0)
    return tasks


def _parse(section: Section, name: str, lines: list[bytes], from_the_end: bool = False) -> list[tuple[int, bytes]]:
    tasks = []
    for index, line in enumerate(lines):
        task = parse_task(line)
        if task is None:
            number = index + 1
            if from_the_end:
                number += files.count_lines(section.journal.file(name)) - len(lines)
            raise broken_line(os.path.join(section.workdir.path, name), number, line)
        tasks.append(task)
    return tasks
