"""What is counted and measured, in words: parts of the sentences of talk.py and status.py."""

from __future__ import annotations

import os
import shlex
from typing import Sequence

from taskfarmer.api import DEFAULT_SLOTS, Start
from taskfarmer.cli import VERBS
from taskfarmer.farm.deadline import TOO_LONG, TOO_SHORT
from taskfarmer.farm.notices import OwnerLost, Progress, Requeue, Summary
from taskfarmer.settings.units import format_time
from taskfarmer.stores.base import Added

_LOG_LINES, _LOG_WIDTH = 5, 200


def slots(start: Start) -> str:
    """How many slots there are, and how many cores for them."""
    usable, machine, slots = start.usable_cores, start.machine_cores, start.slots
    count = "1 slot" if slots == 1 else f"{slots} slots"
    if start.room is not None:
        room = "all that" if slots == start.room else f"{start.room} is what"
        return f"{count}; {room} the job has room for, by runner {start.runner.name}"
    if start.asked_slots == 0:
        cores = "for the only core" if slots == 1 else "one for each core"
        return f"{count}, {cores}" + (f" this job may use (of {machine})" if usable < machine else "")
    if usable < machine:
        allowed = f"this job may use {usable} of {machine} cores"
    else:
        allowed = "1 core is free to use" if usable == 1 else f"{usable} cores are free to use"
    text = f"{count} (default); {allowed}" if start.asked_slots is None else f"{count}; {allowed}"
    if slots > usable:
        return f"{text}, so they share {'it' if usable == 1 else 'them'}"
    return f"{text}, -n alone uses all of them" if start.asked_slots is None and usable > DEFAULT_SLOTS else text


def how_far(progress: Progress) -> str:
    """How far all is, for a line of a log."""
    done = progress.finished + progress.failed
    failed = f" ({progress.failed} failed)" if progress.failed else ""
    return f"{done} done{failed}, {progress.running} running, {progress.left} left; {pace(progress)}"


def pace(progress: Progress) -> str:
    """How fast it goes, and how long it may still take."""
    done = progress.finished + progress.failed - progress.before
    speed = done / max(progress.seconds, 1e-3)
    text = rate(speed, 1.0)
    if speed and progress.left:
        text += f", about {format_time((progress.left + progress.running) / speed)} to go"
    return text


def rate(speed: float, least: float) -> str:
    """Tasks per second; per minute where they are fewer than `least` per second."""
    return f"{speed:.1f} tasks/s" if speed >= least else f"{speed * 60:.1f} tasks/min"


def what_next(summary: Summary) -> str:
    """What to do after a stop, in a sentence; "" if nothing."""
    if (
        not (summary.left or summary.interrupted or summary.in_doubt or summary.gave_up)
        or summary.requeue is Requeue.YES
    ):
        return ""
    if summary.stopped and summary.stopped.startswith("--max-failures"):
        return " Look at what failed, then start the same line again."
    if summary.stopped and summary.stopped.startswith((TOO_LONG, TOO_SHORT)):
        return " Start the same line in a longer job."
    return " Start the same line again."


def busy_percent(summary: Summary) -> int:
    """For how much of the time the slots had a task."""
    return min(100, round(100 * summary.busy_seconds / max(summary.slots * summary.seconds, 1e-6)))


def changes(added: Added) -> str:
    """How a list has changed."""
    parts = [(added.new, "new"), (added.dropped, "dropped")]
    return ", ".join(f"{count} {'line' if count == 1 else 'lines'} {what}" for count, what in parts if count)


def recovered(notice: OwnerLost) -> str:
    """What was found of a dead farmer's tasks."""
    parts = []
    if notice.settled:
        parts.append(f"{tasks(notice.settled)} had ended")
    if notice.requeued:
        is_or_are = "is" if notice.requeued == 1 else "are"
        parts.append(f"{tasks(notice.requeued)} {is_or_are} back, no retry counted")
    return "; ".join(parts) or "what it had left running was ended"


def as_word(path: str) -> str:
    """A path as the word that names it on a command line."""
    return shlex.quote(f"./{path}" if path in VERBS or path.startswith("-") else path)


def tasks(count: int, more: str = "") -> str:
    """`1 task`, `2 tasks`; `more` stands between."""
    return f"1 {more}task" if count == 1 else f"{count} {more}tasks"


def seconds(spent: float) -> str:
    """A time, to a tenth of a second while that matters."""
    return f"{spent:.1f} s" if spent < 600 else format_time(spent)


def some_ids(ids: Sequence[int], count: int, most: int = 20) -> str:
    """`3 5 8 ...`: the first ids, and how many there are if not all are shown."""
    text = " ".join(map(str, ids[:most]))
    return text if count <= most else f"{text} ... ({count} in all)"


def printable(text: str, width: int) -> str:
    """A command as one line of at most `width` characters that cannot upset a terminal."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= width else clean[: width - 3] + "..."


def last_lines_of_log(path: str) -> list[str]:
    """The last lines of a task's log, cut to a readable width."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_LINES * 1000))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [printable(line.expandtabs(), _LOG_WIDTH) for line in lines[-_LOG_LINES:]]
