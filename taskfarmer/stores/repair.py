"""After a person has edited the state files: look at every line once, and put each task in exactly one place again.

Where a task stands twice, the first of these wins: finished, running, toprocess, later, failed. (So the ancestor's idiom
`cat failed >> toprocess; rm failed` works, and so does forgetting its second half.) A task that stands nowhere comes
back from the list: under its id if that is still the index of its line, else as a new line of a list that is matched
again; by the next one who has the list, if this one (`status`, `retry`) has not. Costs O(N), and only when the sizes are
not what the last exchange left.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import Callable, Iterable, Iterator, Sequence

from taskfarmer.errors import StateError
from taskfarmer.stores.lines import Held, Size, broken_line, parse_task
from taskfarmer.stores.lists import with_list_to_match, with_tasks_of_no_list
from taskfarmer.stores.section import Section
from taskfarmer.system import files

_FARTHEST = 1_000_000  # a new id further off than this is a slip of the hand
_ORDER = ("finished", "toprocess", "later", "failed")


def repair(section: Section, commands: Callable[[], Iterable[str]] | None, held: Sequence[Held]) -> str:
    """Put the files right, in a section of its own; return what was found, in a sentence, "" if all was well.

    Lines to be dropped and tasks to be brought back are two sections: after the former, the sizes still call for us.
    """
    seen = bytearray(section.farm["next_id"])
    untidy = False
    for name in _ORDER:
        if name == "toprocess":
            for one in held:
                _mark(seen, one.id)
        if not _look_through(section, name, seen):
            untidy = True
            section.rewrite(name, _tidied(section, name, seen))
    if untidy:
        section.forget_sizes()
        return "tasks that stood twice after an edit by hand stand once again"
    section.measure("attempts")
    found = []
    farm = {**section.farm, "lost": 0}
    lost = seen.count(0, 0, farm["next_id"]) - farm.get("dropped", 0)
    if lost > 0 and commands is None:
        farm["lost"] = lost
    elif lost > 0 and commands is not None:
        line_ids = farm.get("list", {}).get("line_ids", 0)
        back = section.extend("later", _lost_lines(islice(commands(), line_ids), seen))
        if back:
            found.append(f"{back} tasks stood in no file after an edit by hand and are back")
        if lost > back:
            farm = with_list_to_match(farm, lost - back)
            found.append(f"{lost - back} tasks stood in no file after an edit by hand: the list is read again for them")
    if len(seen) > farm["next_id"]:
        found.append(f"tasks with new ids, up to {len(seen) - 1}, were added by hand")
        farm = with_tasks_of_no_list(farm, len(seen))
    if farm != {"lost": 0, **section.farm}:
        section.set_farm(farm)
    return "; ".join(found)


def _look_through(section: Section, name: str, seen: bytearray) -> bool:
    """Count a file's lines and note its tasks; False if one stands here twice or in a file before, or a line is blank."""
    section.journal.file(name)  # a person may have removed it
    path = os.path.join(section.workdir.path, name)
    size = lines = 0
    tidy = True
    here = bytearray(len(seen))
    line = b"\n"
    with open(path, "rb", opener=files.fresh) as file:
        for line in file:
            lines += 1
            size += len(line)
            task = parse_task(line.rstrip(b"\n"))
            if task is None and line.strip():
                raise broken_line(path, lines, line)
            if task is not None and task[0] > len(seen) + _FARTHEST:
                raise StateError(f"{path}, line {lines}: an id near {len(seen)} was expected, found {task[0]}")
            if task is None or (task[0] < len(seen) and seen[task[0]]):
                tidy = False
            else:
                _mark(here, task[0])
    tidy = tidy and here.count(1) == lines and line.endswith(b"\n")
    if tidy:
        both = int.from_bytes(seen, "little") | int.from_bytes(here, "little")
        seen[:] = both.to_bytes(max(len(seen), len(here)), "little")
    section.sizes[name] = Size(size, lines)
    return tidy


def _tidied(section: Section, name: str, seen: bytearray) -> Iterator[bytes]:
    with open(os.path.join(section.workdir.path, name), "rb", opener=files.fresh) as file:
        for line in file:
            task = parse_task(line.rstrip(b"\n"))
            if task is not None and not (task[0] < len(seen) and seen[task[0]]):
                _mark(seen, task[0])
                yield line if line.endswith(b"\n") else line + b"\n"


def _lost_lines(commands: Iterable[str], seen: bytearray) -> Iterator[bytes]:
    for id, command in enumerate(commands):
        if id < len(seen) and not seen[id]:
            yield f"{id} {command}\n".encode("utf-8", "surrogateescape")


def _mark(ids: bytearray, id: int) -> None:
    if id >= len(ids):
        ids.extend(bytes(id + 1 - len(ids)))
    ids[id] = 1
