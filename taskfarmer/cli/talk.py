"""What a run says: notices put into sentences, progress as a bar on a terminal or as lines in a batch log.

A reader that goes away (`| head`) ends the talking, not the farm.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from typing import Sequence

from taskfarmer import __version__
from taskfarmer.api import DEFAULT_SLOTS, Start
from taskfarmer.cli import streams
from taskfarmer.cli.flags import PROGRAM, VERBS
from taskfarmer.farm.deadline import TOO_LONG, TOO_SHORT
from taskfarmer.farm.notices import (
    Ended,
    Notice,
    OwnerLost,
    Progress,
    Requeue,
    Silent,
    Staying,
    Stopping,
    Summary,
    Trouble,
    WorkerLost,
)
from taskfarmer.model import Outcome
from taskfarmer.settings.units import format_time
from taskfarmer.stores.base import Added

_IN_FULL, _IN_A_LINE = 10, 90
_LOG_LINES, _LOG_WIDTH = 5, 200
_FIRST_LINE_AFTER, _LINE_EVERY, _LATER_EVERY, _LATER = 10.0, 10.0, 60.0, 600.0


class Talk:
    """Everything one run prints."""

    def __init__(
        self, tasklist: str, workdir: str | None, progress: str, verbose: int, has_logs: bool, flags: Sequence[str] = ()
    ) -> None:
        """`flags`: those without which the same list would mean something else."""
        place = f" --workdir {shlex.quote(workdir)}" if workdir else ""
        self._farm = f"{_as_word(tasklist)}{place}"
        self._flags = "".join(f" {shlex.quote(flag)}" for flag in flags)
        self._verbose = verbose
        self._has_logs = has_logs
        if progress == "auto":
            progress = "bar" if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" else "lines"
        self._mode = progress
        self._bar: Bar | None = None
        self._failures = 0
        self._next_line_at = _FIRST_LINE_AFTER
        self._host = ""
        self._us = ""  # what the lines of a farmer begin with where those of several are mixed: in the log of a job
        self._workdir = ""
        self._silent = False

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close_bar()

    # Beginning

    def start(self, start: Start) -> None:
        """What is about to be done."""
        self._host, self._workdir = start.owner.host, start.workdir
        self._us = f"{self._host}: " if start.owner.job else ""
        added = start.added
        self._say(f"pytaskfarmer {__version__}  {start.tasklist}: {_tasks(added.total)} -> {start.workdir}")
        if added.total == 0:
            self._say(f"{self._us}{start.tasklist} holds no command: nothing to do")
            return
        old = added.total - added.new
        if old and (added.new or added.dropped):
            self._say(f"{self._us}the list has changed: {_changes(added)}")
        if added.left and (added.finished or added.failed):
            were = "was" if added.finished == 1 else "were"
            failed = f", {added.failed} failed" if added.failed else ""
            self._say(
                f"{self._us}again: {added.finished} of {added.total} {were} finished before{failed}; {added.left} to do"
            )
        if added.left:
            self._say(f"{self._host}: {_slots(start)}")
        if start.shell:
            self._say(f"{self._host}: {start.shell}")
        for definition in (start.runner, start.tasklist_handler):
            if self._verbose and definition.file:
                self._say(
                    f"{self._us}{definition.kind} {definition.name}: {definition.dotted}, defined in {definition.place}"
                )
        if self._verbose > 1:
            self._say_places(start)

    def _say_places(self, start: Start) -> None:
        folder = os.path.abspath(start.workdir)
        self._say(f"{self._us}this farmer: {start.owner}")
        self._say(f"{self._us}state of the tasks: {folder}/ toprocess, later, running, finished, failed")
        output = f"output of task N: {folder}/logs/log_N" if self._has_logs else "output of the tasks: not kept"
        self._say(f"{self._us}{output}")
        self._say(f"{self._us}what ran when: {folder}/timeline.json, to be opened at https://ui.perfetto.dev")

    # Under way

    def hear(self, notice: Notice) -> None:
        """One thing the farmer has to say."""
        if isinstance(notice, Progress):
            self._progress(notice)
        elif isinstance(notice, Ended):
            self._ended(notice)
        elif isinstance(notice, Stopping):
            self._stopping(notice)
        elif isinstance(notice, OwnerLost):
            how = "" if self._host in ("", notice.owner.host) else ", no sign of life"
            self._say(f"{self._us}{notice.owner.host} (pid {notice.owner.pid}{how}) is gone: {_recovered(notice)}")
        elif isinstance(notice, Silent):
            who = f"{notice.owner.host} (pid {notice.owner.pid})"
            self._say(f"{self._host}: {who} is silent: if that lasts, its tasks are taken over")
        elif isinstance(notice, WorkerLost):
            self._say(f"{self._host}: worker {notice.pid} of slot {notice.slot} was killed; a new one takes its place")
        elif isinstance(notice, Staying):
            self._say(
                f"{self._host}: nothing is left to start; staying while others run {_tasks(notice.running)}, "
                "should one of them be lost"
            )
        elif isinstance(notice, Trouble):
            self._say(f"{self._host}: {notice.message}" if self._host else notice.message)

    def _ended(self, notice: Ended) -> None:
        attempt = notice.attempt
        claim = attempt.claim
        if attempt.outcome is Outcome.FINISHED:
            self._say(
                f"{self._us}finished  task {claim.id}  after {_seconds(attempt.wall)}  {printable(claim.command, 80)}"
            )
            return
        if attempt.outcome is Outcome.WORKER_LOST:
            self._say(
                f"{self._us}lost  task {claim.id}  with its worker  after {_seconds(attempt.wall)}  (will be tried again)"
            )
            return
        self._failures += 1
        if self._failures > _IN_FULL + _IN_A_LINE:
            if self._failures == _IN_FULL + _IN_A_LINE + 1:
                self._say(f"{self._us}more tasks have failed: from here on they are only counted")
            return
        log = os.path.join(self._workdir, "logs", f"log_{claim.id}")
        place = f"   {log}" if self._has_logs else ""
        again = f"  (attempt {claim.attempt}, will be tried again)" if notice.again else ""
        note = f"  {attempt.note}" if attempt.note else ""
        how = f"{attempt.ended()}  after {_seconds(attempt.wall)}{place}{note}{again}"
        lines = [f"{self._us}failed  task {claim.id}  {how}"]
        if self._failures <= _IN_FULL and self._has_logs:
            lines += [f"    | {line}" for line in last_lines_of_log(log)]
        self._say("\n".join(lines))  # at once: nobody's lines shall come between them

    def _stopping(self, notice: Stopping) -> None:
        if notice.held_back:
            running = f", {_tasks(notice.running)} still running" if notice.running else ""
            self._say(f"{self._us}{notice.reason}: {notice.held_back} held back{running}.")
        elif notice.drain:
            self._say(
                f"{self._us}stopping ({notice.reason}): {_tasks(notice.running)} running, nothing more is started"
            )
        elif notice.running:
            running = "1 running task gets" if notice.running == 1 else f"{notice.running} running tasks get"
            self._say(f"{self._us}stopping ({notice.reason}): {running} {notice.grace:g} s; again = now")
        else:
            self._say(f"{self._us}stopping ({notice.reason})")

    def _progress(self, progress: Progress) -> None:
        if self._mode == "bar" and progress.seconds > 1.0:
            if self._bar is None:
                self._bar = Bar()
            self._bar.show(progress)
        elif self._mode == "lines" and progress.seconds >= self._next_line_at:
            every = _LINE_EVERY if progress.seconds < _LATER else _LATER_EVERY
            self._next_line_at = progress.seconds + every
            who = "all farmers: " if progress.company else ""
            self._say(f"{self._host}: {who}{_how_far(progress)}")

    # The end

    def end(self, summary: Summary) -> None:
        """What came of it. In the log of a job each farmer tells of its own tasks, and the one that speaks for all of all."""
        self._close_bar()
        if not (summary.finished or summary.failed or summary.stopped or summary.gave_up or summary.left):
            self._nothing_done(summary)
        else:
            self._own(summary)
        self._still_running(summary)
        self._end_of_job(summary)
        if self._us:
            self._failed_in_job(summary)
        else:
            self._failed(summary)

    def _own(self, summary: Summary) -> None:
        done = summary.finished + summary.failed
        if summary.stopped or summary.gave_up:
            self._say(
                f"{self._us}stopped: {summary.finished} finished, {summary.failed} failed, {summary.left} left.{_what_next(summary)}"
            )
        else:
            self._say(
                f"{self._us}{summary.finished} finished, {summary.failed} failed in {format_time(summary.seconds)} "
                f"({_rate(done / max(summary.seconds, 1e-3), 0.1)}, slots busy {_busy(summary)}%)"
            )
        if summary.slowest and summary.slowest[0][1] >= 1.0:
            slowest = "  ".join(f"{id} ({seconds:.1f} s)" for id, seconds in summary.slowest)
            self._say(f"{self._us}slowest: {slowest}")

    def _still_running(self, summary: Summary) -> None:
        """Who runs what while we leave."""
        unnamed = summary.running_elsewhere
        for owner, ids in summary.holdings:
            unnamed -= len(ids)
            what = f"task {ids[0]} is" if len(ids) == 1 else f"tasks {some_ids(ids, len(ids), 5)} are"
            self._say(f"{self._us}{what} still running on {owner.host} (pid {owner.pid})")
        if unnamed > 0:
            more = "more " if summary.holdings else ""
            self._say(f"{self._us}{_tasks(unnamed, more)} still running elsewhere: {PROGRAM} status {self._farm}")

    def _end_of_job(self, summary: Summary) -> None:
        if summary.requeue is Requeue.YES:
            self._say(f"{self._us}Slurm is asked to start this job again")
        elif summary.requeue is Requeue.IN_VAIN:
            self._say(f"{self._us}the job is not started again: no task has ended since it was started last")

    def _failed(self, summary: Summary) -> None:
        before = summary.farm_failed - summary.failed
        if summary.failed:
            ids = some_ids(summary.failed_ids, summary.failed)
            more = f" and {before} before" if before > 0 else ""
            self._say(f"failed: {ids}{more}   {self._again()}")
        elif before > 0 and (summary.finished or summary.stopped or summary.gave_up or summary.left):
            self._say(f"failed before: {before}   {self._again()}")

    def _failed_in_job(self, summary: Summary) -> None:
        """What failed here; and by one farmer of them all, how the whole list stands."""
        if summary.failed:
            self._say(f"{self._us}failed: {some_ids(summary.failed_ids, summary.failed)}")
        done = summary.finished + summary.failed
        of_others = summary.farm_finished + summary.farm_failed > done
        if summary.speaks and done and (of_others or summary.failed):
            rest = [(summary.running_elsewhere, "running"), (summary.left, "left")]
            more = "".join(f", {count} {what}" for count, what in rest if count)
            again = f"   {self._again()}" if summary.farm_failed else ""
            self._say(
                f"{self._us}the whole list: {summary.farm_finished} finished, {summary.farm_failed} failed{more}{again}"
            )

    def _again(self) -> str:
        return f"again: {PROGRAM} retry {self._farm}{self._flags} --run"

    def _nothing_done(self, summary: Summary) -> None:
        if summary.running_elsewhere:
            self._say(
                f"{self._us}nothing to do here: {summary.farm_finished} finished, {summary.farm_failed} failed, "
                f"{summary.running_elsewhere} running elsewhere"
            )
        elif summary.farm_failed:
            self._say(
                f"{self._us}nothing to do: {summary.farm_finished} finished, {summary.farm_failed} failed   {self._again()}"
            )
        elif summary.farm_finished == 1:
            self._say(f"{self._us}nothing to do: the only task is finished")
        elif summary.farm_finished:
            self._say(f"{self._us}nothing to do: all {summary.farm_finished} tasks are finished")

    # The mouth

    def _say(self, text: str) -> None:
        if self._silent:
            return
        try:
            if self._bar is not None:
                self._bar.print(text)
            else:
                print(streams.showable(text), flush=True)
        except OSError:
            self._silent = True
            self._mode = "none"
            streams.stop_talking()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Bar:
    """A live bar, made by rich; only a run of more than a second on a terminal loads it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._progress = Progress(
            MofNCompleteColumn(), BarColumn(20), TextColumn("{task.fields[more]}"), TextColumn("{task.fields[since]}"),
            console=self._console, transient=True, auto_refresh=False,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, more="", since="")
        self._progress.start()
        self._shown_at = 0.0

    def show(self, progress: Progress) -> None:
        """Redraw, at most five times a second."""
        now = time.monotonic()
        if now - self._shown_at >= 0.2:
            self._shown_at = now
            done = progress.finished + progress.failed
            total = done + progress.running + progress.left
            since = format_time(progress.seconds)
            self._progress.update(
                self._task, completed=done, total=total, more=_more(progress), since=since, refresh=True
            )

    def print(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(streams.showable(text))

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


# Words


def _slots(start: Start) -> str:
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


def _how_far(progress: Progress) -> str:
    done = progress.finished + progress.failed
    failed = f" ({progress.failed} failed)" if progress.failed else ""
    return f"{done} done{failed}, {progress.running} running, {progress.left} left; {_more(progress)}"


def _more(progress: Progress) -> str:
    done = progress.finished + progress.failed - progress.before
    rate = done / max(progress.seconds, 1e-3)
    text = _rate(rate, 1.0)
    if rate and progress.left:
        text += f", about {format_time((progress.left + progress.running) / rate)} to go"
    return text


def _rate(rate: float, least: float) -> str:
    """Tasks per second; per minute where they are fewer than `least` per second."""
    return f"{rate:.1f} tasks/s" if rate >= least else f"{rate * 60:.1f} tasks/min"


def _what_next(summary: Summary) -> str:
    if not (summary.left or summary.interrupted or summary.gave_up) or summary.requeue is Requeue.YES:
        return ""
    if summary.stopped and summary.stopped.startswith("--max-failures"):
        return " Look at what failed, then start the same line again."
    if summary.stopped and summary.stopped.startswith((TOO_LONG, TOO_SHORT)):
        return " Start the same line in a longer job."
    return " Start the same line again."


def _busy(summary: Summary) -> int:
    return min(100, round(100 * summary.busy_seconds / max(summary.slots * summary.seconds, 1e-6)))


def _changes(added: Added) -> str:
    parts = [(added.new, "new"), (added.dropped, "dropped")]
    return ", ".join(f"{count} {'line' if count == 1 else 'lines'} {what}" for count, what in parts if count)


def _recovered(notice: OwnerLost) -> str:
    parts = []
    if notice.settled:
        parts.append(f"{_tasks(notice.settled)} had ended")
    if notice.requeued:
        is_or_are = "is" if notice.requeued == 1 else "are"
        parts.append(f"{_tasks(notice.requeued)} {is_or_are} back, no retry counted")
    return "; ".join(parts) or "what it had left running was ended"


def _as_word(path: str) -> str:
    """A path as the word that names it on a command line."""
    return shlex.quote(f"./{path}" if path in VERBS or path.startswith("-") else path)


def _tasks(count: int, more: str = "") -> str:
    return f"1 {more}task" if count == 1 else f"{count} {more}tasks"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else format_time(seconds)


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
