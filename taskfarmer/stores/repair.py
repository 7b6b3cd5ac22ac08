"""After a person has edited the state files: look at every line once, and put each task in exactly one place again.

Where a task stands twice, the first of these wins: finished, running, toprocess, later, failed. (So the ancestor's idiom
`cat failed >> toprocess; rm failed` works, and so does forgetting its second half.) A task that stands nowhere comes
back from the list. Costs O(N), and only when the sizes are not what the last exchange left.
"""

from __future__ import annotations

import os
from typing import Callable, Iterable, Iterator, Sequence

from taskfarmer.stores.section import Section
from taskfarmer.stores.workdir import Held, Size, broken_line, parse_task

_ORDER = ("finished", "toprocess", "later", "failed")


def repair(section: Section, commands: Callable[[], Iterable[str]] | None, held: Sequence[Held]) -> str:
    """Put the files right within this section; return what was found, in a sentence, "" if all was well."""
    seen = bytearray(section.farm["next_id"])
    for name in _ORDER:
        if name == "toprocess":
            for one in held:
                _mark(seen, one.id)
        double = _look_through(section, name, seen)
        if double:
            _drop_doubles(section, name, seen)
    found = []
    lost = seen.count(0)
    if lost and commands is not None and section.farm["list"]["ids_are_lines"]:
        back = section.extend("later", _lost_lines(commands(), seen))
        found.append(f"{back} tasks stood in no file and are back")
    if len(seen) > section.farm["next_id"]:
        section.set_farm({**section.farm, "next_id": len(seen)})
        found.append(f"tasks with new ids, up to {len(seen) - 1}, were added by hand")
    return "; ".join(["the state files were edited by hand", *found]) if found else ""


def _look_through(section: Section, name: str, seen: bytearray) -> bool:
    """Count a file's lines and note its tasks; whether one of them stands in a file before it, or twice in this."""
    path = os.path.join(section.workdir.path, name)
    size = lines = 0
    double = False
    here = bytearray(len(seen))
    with open(path, "rb") as file:
        for line in file:
            lines += 1
            size += len(line)
            task = parse_task(line.rstrip(b"\n"))
            if task is None:
                raise broken_line(path, lines, line)
            _mark(here, task[0])
            double = double or (task[0] < len(seen) and bool(seen[task[0]]))
    double = double or here.count(1) != lines
    if not double:
        both = int.from_bytes(seen, "little") | int.from_bytes(here, "little")
        seen[:] = both.to_bytes(max(len(seen), len(here)), "little")
    section.sizes[name] = Size(size, lines)
    return double


def _drop_doubles(section: Section, name: str, seen: bytearray) -> None:
    path = os.path.join(section.workdir.path, name)

    def kept() -> Iterator[bytes]:
        with open(path, "rb") as file:
            for line in file:
                task = parse_task(line.rstrip(b"\n"))
                if task is not None and not (task[0] < len(seen) and seen[task[0]]):
                    _mark(seen, task[0])
                    yield line.rstrip(b"\n") + b"\n"

    section.rewrite(name, kept())


def _lost_lines(commands: Iterable[str], seen: bytearray) -> Iterator[bytes]:
    for id, command in enumerate(commands):
        if id < len(seen) and not seen[id]:
            yield f"{id} {command}\n".encode("utf-8", "surrogateescape")


def _mark(ids: bytearray, id: int) -> None:
    if id >= len(ids):
        ids.extend(bytes(id + 1 - len(ids)))
    ids[id] = 1
