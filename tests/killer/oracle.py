"""What must be true when a round is over: P1 to P5 and P8, told from the side effects of the tasks and the log of the killer.

Why a task may have run again is judged by reasons.py, on the nodes of Slurm by nodes/reasons.py.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Iterator, Protocol

from taskfarmer.stores import lines

from .farm import Farm
from .processes import marked
from .tasks import LEFT_BEHIND, Execution, read_effects

_STATES = ("finished", "failed")


class Judge(Protocol):
    """Who knows what was done to the farmers of a round."""

    def lost_their_workers(self) -> set[int]: ...
    def has_reason(self, first: Execution, second: Execution, starts: list[float]) -> bool: ...
    def edited_between(self, first: Execution, second: Execution) -> bool: ...
    def about(self, execution: Execution) -> str: ...


def examine(farm: Farm, judge: Judge) -> list[str]:
    """Everything that is not as it must be."""
    executions = read_effects(farm.effects)
    of_task: dict[int, list[Execution]] = {}
    for execution in executions:
        of_task.setdefault(execution.id, []).append(execution)
    lost = judge.lost_their_workers()
    return [
        *farm.violations,
        *_twice(farm),
        *_places(farm, of_task, lost),
        *_reasons(judge, executions, of_task),
        *_files(farm, {id: of_task[id] for id in of_task.keys() - lost}),
        *_orphans(farm),
    ]


def outcomes_unwritten(farm: Farm) -> int:
    """How often a worker was killed between the end of its task and the line that says so: then it ran again."""
    executions = read_effects(farm.effects)
    last = {execution.id: execution for execution in executions}
    return sum(execution.how == "ok" and last[execution.id] is not execution for execution in executions)


def _twice(farm: Farm) -> Iterator[str]:
    twice = farm.folder / "twice"
    if twice.exists():
        yield f"two attempts at once (ID ATTEMPT OWNER WORKER PID):\n{twice.read_text()}"


# Nothing is lost, everything is recorded once, and as what it was


def _places(farm: Farm, of_task: dict[int, list[Execution]], lost: set[int]) -> Iterator[str]:
    stands = Counter()
    for name in ("toprocess", "later", *_STATES):
        for number, line in enumerate(_read(farm.workdir / name).splitlines(keepends=True), 1):
            task = lines.parse_task(line.rstrip(b"\n"))
            if task is None or not line.endswith(b"\n"):
                yield f"{name}, line {number}: {line!r}"
                continue
            id, command = task
            stands[id] += 1
            if name not in _STATES:
                yield f"task {id} is still in {name}"
            elif id >= len(farm.commands) or command.decode() != farm.commands[id]:
                yield f"{name}: task {id} has another command: {command!r}"
            else:
                yield from _recorded_as_it_was(id, name, of_task.get(id, []), id in lost)
    for id in range(len(farm.commands)):
        if stands[id] != 1:
            yield f"task {id} stands in {stands[id]} places"


def _recorded_as_it_was(id: int, name: str, executions: list[Execution], lost: bool) -> Iterator[str]:
    if name == "failed" and lost:
        return
    if not executions:
        yield f"task {id} stands in {name} and was never run"
        return
    last = executions[-1]
    if (name, last.how) in (("finished", "ok"), ("failed", "fail")):
        return
    yield f"task {id} stands in {name}, but its last execution {last.how or 'did not end'}: {executions}"


# Run again only for a reason


def _reasons(judge: Judge, all: list[Execution], of_task: dict[int, list[Execution]]) -> Iterator[str]:
    starts = defaultdict(list)
    for execution in all:
        starts[execution.owner, execution.worker].append(execution.start)
    for id, executions in of_task.items():
        for first, second in zip(executions, executions[1:]):
            if not judge.has_reason(first, second, starts[first.owner, first.worker]):
                yield f"task {id} ran again for no reason:\n  {first}\n  {second}\n{judge.about(first)}"
            if second.attempt <= first.attempt and not judge.edited_between(first, second):
                yield f"task {id}: attempt {second.attempt} after attempt {first.attempt}:\n  {first}\n  {second}"


# Files


def _files(farm: Farm, of_task: dict[int, list[Execution]]) -> Iterator[str]:
    workdir = farm.workdir
    if left := [path.name for path in (workdir / "running").iterdir()]:
        yield f"running/ still holds {left}"
    known = {"toprocess", "later", "finished", "failed", "attempts", "sizes", "farm.json", "running", "logs"}
    for path in workdir.iterdir():
        if path.name not in known | {"timeline.json"} and not path.name.startswith("lock") and path.suffix != ".new":
            yield f"a strange file: {path.name}"
    try:
        events = json.loads((workdir / "timeline.json").read_text())
        if not all({"ph", "pid", "tid", "name"} <= event.keys() for event in events):
            yield "timeline.json: an event is not whole"
    except ValueError as error:
        yield f"timeline.json: {error}"
    about = lines.parse_farm("farm.json", (workdir / "farm.json").read_bytes())
    if about is None or about["next_id"] != len(farm.commands):
        yield f"farm.json: {about}, {len(farm.commands)} tasks were given"
    sizes = lines.parse_sizes((workdir / "sizes").read_bytes())
    for name in lines.STATE_FILES:
        content = _read(workdir / name)
        found = lines.Size(len(content), content.count(b"\n"))
        if sizes is None or sizes[name] != found:
            yield f"sizes says {sizes}, {name} has {found}"
    yield from _counts(workdir, of_task)
    yield from _logs(workdir, of_task)


def _counts(workdir: Path, of_task: dict[int, list[Execution]]) -> Iterator[str]:
    total: dict[int, int] = {}
    for number, line in enumerate((workdir / "attempts").read_text().splitlines(), 1):
        words = line.split()
        if len(words) != 3 or not all(map(str.isdigit, words)):
            yield f"attempts, line {number}: {line!r}"
        else:
            total[int(words[0])] = int(words[2])
    for id, executions in of_task.items():
        if executions[-1].attempt != total.get(id, 0) + 1:
            yield f"attempts counts {total.get(id, 0)} tries of task {id} that left it undone: {executions}"


def _logs(workdir: Path, of_task: dict[int, list[Execution]]) -> Iterator[str]:
    for id, executions in of_task.items():
        path = workdir / "logs" / f"log_{id}"
        expected = f"{id} {executions[-1].attempt}\n"
        # A shell may say of a child that it was "Killed" before it is killed itself.
        if not path.exists() or not path.read_text().startswith(expected):
            found = path.read_text() if path.exists() else "no file"
            yield f"logs/log_{id}: expected {expected!r}, found {found!r}"


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


# Processes


def _orphans(farm: Farm) -> Iterator[str]:
    """What a task that ended by itself has left behind is its own business, and over soon."""
    mark = f"TASKFARMER_WORKDIR={farm.workdir}"
    patience = time.monotonic() + LEFT_BEHIND + 10
    while (left := marked(mark)) and time.monotonic() < patience:
        time.sleep(0.05)
    if left:
        yield f"still running: {left}"
