"""Loading a list into a farm, and recognising it when it comes again: unchanged, grown, edited, or another one.

An id is bound to its command for the life of the workdir. The list is the one that was loaded if its path, size, time
and handler are; else if its content (SHA-256) is. If it is newer and the old list is its beginning, the rest is new, where
the handler says so. Else lines are matched, each as often as it occurs: new ones get new ids behind the rest, removed
ones that have not run are dropped. What is not newer may be an old copy, and changes nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Iterator

from taskfarmer.errors import UsageError
from taskfarmer.model import Task
from taskfarmer.stores.base import Added
from taskfarmer.stores.lines import (
    STATE_FILES,
    broken_line,
    decode,
    encode,
    number_lines,
    owner_file,
    parse_task,
    read_tasks,
    task_line,
)
from taskfarmer.stores.section import Section
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import files
from taskfarmer.tasklists.base import TaskList


def load(section: Section, tasklist: TaskList, handler: str, replace: bool = False) -> Added:
    """Make the farm's tasks those of the list. Raises UsageError when the workdir belongs to another list."""
    about = os.stat(tasklist.path)
    seen = {
        "path": os.path.abspath(tasklist.path),
        "size": about.st_size,
        "mtime_ns": about.st_mtime_ns,
        "handler": handler,
    }
    if section.workdir.farm is None:
        return _found(section, tasklist, seen)
    section.workdir.check_lock()
    if replace:
        return _replace(section, tasklist, seen)
    before = section.farm.get("list")
    if before is None:
        return _add_first_list(section, tasklist, seen)
    if all(before[key] == seen[key] for key in ("path", "size", "mtime_ns", "handler")):
        return section.added(0)
    return _reload(section, tasklist, seen, before)


def _found(section: Section, tasklist: TaskList, seen: dict[str, Any]) -> Added:
    """A new farm. State files without a `farm.json` are the ancestor's: what it had lost comes back."""
    farm = section.workdir.found_farm()
    for name in STATE_FILES:
        section.journal.file(name)
    # The names in the workdir are synced before the first record; its own name is synced here, or all might be lost.
    try:
        files.sync_folder(os.path.dirname(os.path.abspath(section.workdir.path)))
    except PermissionError:
        pass  # a folder that one may write to and not read: nobody can sync its names
    done = bytearray()
    for name in ("finished", "failed"):
        _cut_torn_line(section, name)
        for id in _ids_in(section, name):
            done.extend(bytes(max(0, id + 1 - len(done))))
            done[id] = 1
    waited = set(_ids_in(section, "toprocess"))
    was_there = bool(done or waited)
    total = lost = 0

    def to_do() -> Iterator[bytes]:
        nonlocal total, lost
        for total, line in enumerate(number_lines(tasklist, 0), 1):
            if total > len(done) or not done[total - 1]:
                lost += total - 1 not in waited
                yield line

    new = section.extend("later", to_do())
    section.cut("toprocess", 0, 0)
    farm["next_id"] = max(total, len(done))
    farm["list"] = _loaded(seen, _digest(tasklist.path, seen["size"]), lines=total, line_ids=total)
    section.set_farm(farm)
    added = section.added(new)
    if was_there:
        back = f": {lost} tasks that stood in none of its files are back" if lost else ""
        section.note = f"{section.workdir.path} was left by PyTaskFarmer 0.1.0 and is taken over{back}"
    if done:
        section.forget_sizes()  # the ancestor may have recorded a task twice: the next section looks
    return added


def _cut_torn_line(section: Section, name: str) -> None:
    """A last line of which not even the id is whole says nothing: its task runs again."""
    last = section.last_lines(name, 1)
    size = section.sizes[name]
    if last and parse_task(last[0]) is None and not section.ends_a_line(name):
        section.cut(name, size.bytes - len(last[0]), size.lines - 1)


def _ids_in(section: Section, name: str) -> Iterator[int]:
    """The ids in one of the ancestor's files, without a last line that is torn; in `toprocess`, of lines that are whole."""
    path = os.path.join(section.workdir.path, name)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            task = parse_task(line.rstrip(b"\n"))
            if task is not None:
                yield task[0]
            elif name != "toprocess" and number <= section.sizes[name].lines:
                raise broken_line(path, number, line)


def _add_first_list(section: Section, tasklist: TaskList, seen: dict[str, Any]) -> Added:
    farm = dict(section.farm)
    new = section.extend("later", number_lines(tasklist, farm["next_id"]))
    farm["list"] = _loaded(
        seen, _digest(tasklist.path, seen["size"]), lines=new, line_ids=0 if farm["next_id"] else new
    )
    farm["next_id"] += new
    section.set_farm(farm)
    return section.added(new)


def _replace(section: Section, tasklist: TaskList, seen: dict[str, Any]) -> Added:
    alive = [owner for owner in section.workdir.owners.everybody() if section.workdir.owners.lives(owner)]
    if alive:
        raise UsageError(f"--replace: {alive[0].host} (pid {alive[0].pid}) is still working in {section.workdir.path}")
    for owner in section.workdir.owners.everybody():
        section.journal.remove(owner_file(owner, "claims"))
    for name in STATE_FILES:
        if name != "later":
            section.rewrite(name, ())
    new = section.rewrite("later", number_lines(tasklist, 0))
    farm = {
        **section.farm,
        "next_id": new,
        "list": _loaded(seen, _digest(tasklist.path, seen["size"]), lines=new, line_ids=new),
        "of_no_list": [],
        "lengths": {},
        "dropped": 0,
    }
    section.set_farm(farm)
    return section.added(new)


def _reload(section: Section, tasklist: TaskList, seen: dict[str, Any], before: dict[str, Any]) -> Added:
    farm = dict(section.farm)
    digest = _digest(tasklist.path, seen["size"])
    same_handler = before["handler"] == seen["handler"]
    if digest == before["sha256"] and same_handler:
        farm["list"] = {**before, **seen}
        section.set_farm(farm)
        return section.added(0)
    if seen["mtime_ns"] < before["mtime_ns"] or (same_handler and seen["mtime_ns"] == before["mtime_ns"]):
        # A node that still sees an old copy must not undo what a newer one said.
        section.note = _not_newer(section, tasklist, before["path"])
        return section.added(0)
    lines = before["lines"]
    grown = (
        same_handler
        and tasklist.appended_lines_are_new
        and seen["size"] > before["size"]
        and _digest(tasklist.path, before["size"]) == before["sha256"]
    )
    if grown and _ends_a_line(tasklist.path, before["size"]):
        rest = (command for index, command in enumerate(tasklist) if index >= lines)
        new = section.extend("later", number_lines(rest, farm["next_id"]))
        dropped, lines = 0, lines + new
        line_ids = lines if before["line_ids"] == farm["next_id"] else before["line_ids"]
    else:
        new, dropped, lines = _match(section, tasklist, farm["next_id"], _read_otherwise(before, seen))
        line_ids = 0
    farm["list"] = _loaded(seen, digest, lines, line_ids)
    farm["next_id"] += new
    farm["dropped"] = farm.get("dropped", 0) + dropped
    section.set_farm(farm)
    return section.added(new, dropped)


def _not_newer(section: Section, tasklist: TaskList, before: str) -> str:
    """What to say of a list that differs and is no newer. Raises UsageError if it is another file: nobody could tell."""
    path = tasklist.path
    if os.path.abspath(path) == before:
        return (
            f"{path} has changed but is not newer than what was read before: that stays. If this is right: touch {path}"
        )
    raise UsageError(
        f"{section.workdir.path} belongs to another list: {before}, and {path} is not newer. "
        f"Use --workdir NEW, or --replace to forget its tasks; if {path} is an edited copy of it, touch it"
    )


def _loaded(seen: dict[str, Any], digest: str, lines: int, line_ids: int) -> dict[str, Any]:
    """What `farm.json` says of a list: how many lines it has, and below which id each id is its line's index."""
    return {**seen, "sha256": digest, "lines": lines, "line_ids": line_ids}


def with_tasks_of_no_list(farm: dict[str, Any], next_id: int) -> dict[str, Any]:
    """`farm.json` after tasks came that stand in no list, by `add` or by hand: ids up to `next_id`."""
    ranges = [*farm.get("of_no_list", []), [farm["next_id"], next_id]]
    return {**farm, "next_id": next_id, "of_no_list": ranges}


def with_list_to_match(farm: dict[str, Any], lost: int) -> dict[str, Any]:
    """`farm.json` after the ids of `lost` tasks were given up: whoever loads the list next matches all its lines."""
    unknown = {"list": {**farm["list"], "size": -1, "mtime_ns": -1, "sha256": ""}} if "list" in farm else {}
    return {**farm, **unknown, "dropped": farm.get("dropped", 0) + lost}


def _read_otherwise(before: dict[str, Any], seen: dict[str, Any]) -> str:
    """What to say of a list that was read by another handler, or with other options of it."""
    was, now = (about["handler"].partition(" ")[0] for about in (before, seen))
    if was != now:
        return f"Before, it was read by {was}, now by {now}: is --tasklist right? If so, use"
    return "Use" if before["handler"] == seen["handler"] else f"Before, {was} had other options. Use"


def _match(section: Section, tasklist: TaskList, next_id: int, use: str) -> tuple[int, int, int]:
    """Match an edited list with the tasks there are, each line as often as it occurs.

    Returns how many are new, how many dropped, and how many lines the list has. `use`: how to begin what to do if none fits.
    """
    workdir = section.workdir
    wanted = Counter(tasklist)
    lines = sum(wanted.values())
    ranges = section.farm.get("of_no_list", [])

    def of_no_list(task: Task) -> bool:
        return any(first <= task.id < end for first, end in ranges)

    def stays(task: Task) -> bool:
        return of_no_list(task) or take(task.command)

    def take(command: str) -> bool:
        if wanted[command] > 0:
            wanted[command] -= 1
            return True
        return False

    done = Counter(take(task.command) for task in _begun_tasks(workdir) if not of_no_list(task))
    waiting = [list(read_tasks(os.path.join(workdir.path, name))) for name in ("toprocess", "later")]
    stay = [{task.id for task in tasks if stays(task)} for tasks in waiting]
    kept = sum(map(len, stay))
    dropped = sum(map(len, waiting)) - kept
    if (dropped and not kept) or (done[False] and not kept and not done[True]):
        raise UsageError(
            f"{workdir.path} belongs to another list: none of its {'unfinished ' if dropped else ''}tasks is in "
            f"{tasklist.path}. {use} --workdir NEW, or --replace to forget them"
        )
    # In the order of the list: an edit that moves lines must not shuffle what is new.
    new = list(number_lines([command for command in tasklist if take(command)], next_id))
    toprocess, later = (
        [task_line(t.id, encode(t.command)) for t in tasks if t.id in ids] for tasks, ids in zip(waiting, stay)
    )
    if dropped:
        section.rewrite("toprocess", toprocess)
        section.rewrite("later", later + new)
    else:
        section.extend("later", new)
    return len(new), dropped, lines


def _begun_tasks(workdir: Workdir) -> Iterator[Task]:
    for name in ("finished", "failed"):
        yield from read_tasks(os.path.join(workdir.path, name))
    for _, held in workdir.owners.all_claims():
        for one in held:
            yield Task(one.id, decode(one.command))


def _digest(path: str, size: int | None = None) -> str:
    from hashlib import sha256

    digest = sha256()
    with open(path, "rb") as file:
        left = size if size is not None else os.fstat(file.fileno()).st_size
        while left > 0 and (block := file.read(min(left, files.BLOCK))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _ends_a_line(path: str, size: int) -> bool:
    """Whether a line ends at this offset: an append to a last line without newline has changed that line."""
    if size == 0:
        return True
    with open(path, "rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
