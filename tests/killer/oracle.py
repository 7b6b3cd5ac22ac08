"""What must be true when a round is over: P1 to P5 and P8, told from the side effects of the tasks and the log of the killer.

A second execution is explained only by what the killer did to the very worker or farmer of the first, or by a retry:

    the first did not reach its end   its worker was killed, or its farmer was told to stop (a farmer killed alone, or
                                      anybody stalled, is no reason: workers finish what they run)
    it reached its end, well          its worker was killed before that, or at once after it, and before it started anything
                                      else, so that nobody wrote the outcome; or its farmer was told to stop in that instant
    it reached its end, failing       the same, or a retry that was asked for afterwards
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Iterator

from taskfarmer.stores import lines

from .attacks import Target
from .farmers import STOPS, marked
from .killer import Hit, Killer
from .tasks import LEFT_BEHIND, Execution, read_effects

#: The clock of the tasks ticks in hundredths, and a busy machine is slow.
_SLACK = 0.05
#: So long a task may take, on a busy machine, from its first instant to its first word.
_SLOW_TO_BEGIN = 3.0
#: A worker that lives writes an outcome down at once; this is what "at once" may take on a busy machine.
_AT_ONCE = 5.0

_STATES = ("finished", "failed")


def examine(killer: Killer) -> list[str]:
    """Everything that is not as it must be."""
    executions = read_effects(killer.folder / "effects")
    of_task: dict[int, list[Execution]] = {}
    for execution in executions:
        of_task.setdefault(execution.id, []).append(execution)
    lost = _lost_their_workers(killer)
    return [
        *killer.violations,
        *_twice(killer),
        *_places(killer, of_task, lost),
        *_reasons(killer, executions, of_task),
        *_files(killer, {id: of_task[id] for id in of_task.keys() - lost}),
        *_orphans(killer),
    ]


def outcomes_unwritten(killer: Killer) -> int:
    """How often a worker was killed between the end of its task and the line that says so: then it ran again."""
    executions = read_effects(killer.folder / "effects")
    last = {execution.id: execution for execution in executions}
    return sum(execution.how == "ok" and last[execution.id] is not execution for execution in executions)


def _twice(killer: Killer) -> Iterator[str]:
    twice = killer.folder / "twice"
    if twice.exists():
        yield f"two attempts at once (ID ATTEMPT OWNER WORKER PID):\n{twice.read_text()}"


# Nothing is lost, everything is recorded once, and as what it was


def _places(killer: Killer, of_task: dict[int, list[Execution]], lost: set[int]) -> Iterator[str]:
    stands = Counter()
    for name in ("toprocess", "later", *_STATES):
        for number, line in enumerate(_read(killer.workdir / name).splitlines(keepends=True), 1):
            task = lines.parse_task(line.rstrip(b"\n"))
            if task is None or not line.endswith(b"\n"):
                yield f"{name}, line {number}: {line!r}"
                continue
            id, command = task
            stands[id] += 1
            if name not in _STATES:
                yield f"task {id} is still in {name}"
            elif id >= len(killer.commands) or command.decode() != killer.commands[id]:
                yield f"{name}: task {id} has another command: {command!r}"
            else:
                yield from _recorded_as_it_was(id, name, of_task.get(id, []), id in lost)
    for id in range(len(killer.commands)):
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


def _lost_their_workers(killer: Killer) -> set[int]:
    """Tasks with which a farmer has lost two workers: they fail, so that they cannot go on for ever.

    The second one may have been killed before the task could say that it had begun.
    """
    found = set()
    for program in killer.programs:
        ids = re.findall(r"^failed  task (\d+)  killed .* its worker was killed", program.said, re.MULTILINE)
        kills = [hit for hit in killer.hits if hit.victim == program.pid and set(hit.pids) - {program.pid}]
        if len(kills) >= 2:
            found.update(map(int, ids))
    return found


# Run again only for a reason


def _reasons(killer: Killer, all: list[Execution], of_task: dict[int, list[Execution]]) -> Iterator[str]:
    starts = defaultdict(list)
    for execution in all:
        starts[execution.worker].append(execution.start)
    for id, executions in of_task.items():
        for first, second in zip(executions, executions[1:]):
            if not _has_reason(killer, first, second, starts[first.worker]):
                yield f"task {id} ran again for no reason:\n  {first}\n  {second}\n{_about(killer, first)}"
            if second.attempt <= first.attempt and not _edited_between(killer, first, second):
                yield f"task {id}: attempt {second.attempt} after attempt {first.attempt}:\n  {first}\n  {second}"


def _has_reason(killer: Killer, first: Execution, second: Execution, starts: list[float]) -> bool:
    if first.how == "":
        return _worker_killed(killer, first, before=second.start) or bool(_stops(killer, first, second.start))
    if first.how == "fail" and _asked_again(killer, first, second):
        return True
    at_once = first.end + _AT_ONCE + _stalled(killer, first)
    for hit in _kills_of_worker(killer, first):
        if _earliest(first) <= hit.time <= min(second.start + _SLACK, at_once) and not any(
            first.end + _SLACK < start < hit.time - _SLACK for start in starts
        ):
            return True
    return any(stop.time <= at_once for stop in _stops(killer, first, second.start))


def _stalled(killer: Killer, execution: Execution) -> float:
    """For how many seconds its worker was stalled after it had begun: in these it could not write anything down."""
    return sum(
        hit.attack.pause + _AT_ONCE
        for hit in killer.hits
        if hit.attack.signal is signal.SIGSTOP
        and (execution.worker in hit.pids or (hit.victim == execution.farmer and _may_have_hit(hit, execution)))
        and hit.time >= execution.start - hit.attack.pause - _AT_ONCE
    )


def _kills_of_worker(killer: Killer, execution: Execution) -> list[Hit]:
    return [
        hit
        for hit in killer.hits
        if hit.attack.signal is signal.SIGKILL
        and (execution.worker in hit.pids or (hit.victim == execution.farmer and _may_have_hit(hit, execution)))
    ]


def _may_have_hit(hit: Hit, execution: Execution) -> bool:
    """Whether the worker was hit though its pid is not in the log: it was forked that moment, or dead as the task began."""
    if hit.attack.target in (Target.GROUP, Target.EVERYTHING):
        return True
    return execution.worker == 1 and hit.attack.target is Target.WORKER


def _worker_killed(killer: Killer, execution: Execution, before: float) -> bool:
    return any(_earliest(execution) <= hit.time <= before + _SLACK for hit in _kills_of_worker(killer, execution))


def _earliest(execution: Execution) -> float:
    """When its worker may have been killed at the earliest. A dead worker starts nothing: what it has started may be slow to
    say so, and goes on alone."""
    return execution.start - _SLOW_TO_BEGIN


def _stops(killer: Killer, execution: Execution, before: float) -> list[Hit]:
    return [
        hit
        for hit in killer.hits
        if hit.attack.signal in STOPS
        and hit.what == "farmer"
        and hit.victim == execution.farmer
        and execution.farmer in hit.pids
        and hit.time <= before
    ]


def _asked_again(killer: Killer, first: Execution, second: Execution) -> bool:
    return any(
        first.end - _SLACK <= end and begin <= second.start for begin, end in killer.requeues
    ) or _edited_between(killer, first, second)


def _edited_between(killer: Killer, first: Execution, second: Execution) -> bool:
    return any(first.start <= when <= second.start for when in killer.hand_edits)


def _about(killer: Killer, execution: Execution) -> str:
    concerned = [hit for hit in killer.hits if execution.worker in hit.pids or hit.victim == execution.farmer]
    return "\n".join(f"  {hit}" for hit in concerned) or "  (nothing was done to its worker or its farmer)"


# Files


def _files(killer: Killer, of_task: dict[int, list[Execution]]) -> Iterator[str]:
    workdir = killer.workdir
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
    farm = lines.parse_farm("farm.json", (workdir / "farm.json").read_bytes())
    if farm is None or farm["next_id"] != len(killer.commands):
        yield f"farm.json: {farm}, {len(killer.commands)} tasks were given"
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


def _orphans(killer: Killer) -> Iterator[str]:
    """What a task that ended by itself has left behind is its own business, and over soon."""
    mark = f"TASKFARMER_WORKDIR={killer.workdir}"
    patience = time.monotonic() + LEFT_BEHIND + 10
    while (left := marked(mark)) and time.monotonic() < patience:
        time.sleep(0.05)
    if left:
        yield f"still running: {left}"
