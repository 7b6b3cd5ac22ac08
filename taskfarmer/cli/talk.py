"""What a run says: notices put into sentences, progress as a bar on a terminal or as lines in a batch log.

A reader that goes away (`| head`) ends the talking, not the farm.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Sequence

from taskfarmer import __version__
from taskfarmer.api import Start
from taskfarmer.cli import PROGRAM, streams, words
from taskfarmer.cli.bar import Bar
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

_IN_FULL, _IN_A_LINE = 10, 90
_FIRST_LINE_AFTER, _LINE_EVERY, _LATER_EVERY, _LATER = 10.0, 10.0, 60.0, 600.0


class Talk:
    """Everything one run prints."""

    def __init__(
        self, tasklist: str, workdir: str | None, progress: str, verbose: int, has_logs: bool, flags: Sequence[str] = ()
    ) -> None:
        """`flags`: those without which the same list would mean something else."""
        place = f" --workdir {shlex.quote(workdir)}" if workdir else ""
        self._farm = f"{words.as_word(tasklist)}{place}"
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
        self._say(f"pytaskfarmer {__version__}  {start.tasklist}: {words.tasks(added.total)} -> {start.workdir}")
        if added.total == 0:
            self._say(f"{self._us}{start.tasklist} holds no command: nothing to do")
            return
        old = added.total - added.new
        if old and (added.new or added.dropped):
            self._say(f"{self._us}the list has changed: {words.changes(added)}")
        if added.left and (added.finished or added.failed):
            were = "was" if added.finished == 1 else "were"
            failed = f", {added.failed} failed" if added.failed else ""
            self._say(
                f"{self._us}again: {added.finished} of {added.total} {were} finished before{failed}; {added.left} to do"
            )
        if added.left:
            self._say(f"{self._host}: {words.slots(start)}")
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
            self._say(f"{self._us}{notice.owner.host} (pid {notice.owner.pid}{how}) is gone: {words.recovered(notice)}")
        elif isinstance(notice, Silent):
            who = f"{notice.owner.host} (pid {notice.owner.pid})"
            self._say(f"{self._host}: {who} is silent: if that lasts, its tasks are taken over")
        elif isinstance(notice, WorkerLost):
            self._say(f"{self._host}: worker {notice.pid} of slot {notice.slot} was killed; a new one takes its place")
        elif isinstance(notice, Staying):
            self._say(
                f"{self._host}: nothing is left to start; staying while others run {words.tasks(notice.running)}, "
                "should one of them be lost"
            )
        elif isinstance(notice, Trouble):
            self._say(f"{self._host}: {notice.message}" if self._host else notice.message)

    def _ended(self, notice: Ended) -> None:
        attempt = notice.attempt
        claim = attempt.claim
        if attempt.outcome is Outcome.FINISHED:
            self._say(
                f"{self._us}finished  task {claim.id}  after {words.seconds(attempt.wall)}  {words.printable(claim.command, 80)}"
            )
            return
        if attempt.outcome is Outcome.WORKER_LOST:
            self._say(
                f"{self._us}lost  task {claim.id}  with its worker  after {words.seconds(attempt.wall)}  (will be tried again)"
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
        how = f"{attempt.ended()}  after {words.seconds(attempt.wall)}{place}{note}{again}"
        lines = [f"{self._us}failed  task {claim.id}  {how}"]
        if self._failures <= _IN_FULL and self._has_logs:
            lines += [f"    | {line}" for line in words.last_lines_of_log(log)]
        self._say("\n".join(lines))  # at once: nobody's lines shall come between them

    def _stopping(self, notice: Stopping) -> None:
        if notice.held_back:
            running = f", {words.tasks(notice.running)} still running" if notice.running else ""
            self._say(f"{self._us}{notice.reason}: {notice.held_back} held back{running}.")
        elif notice.drain:
            self._say(
                f"{self._us}stopping ({notice.reason}): {words.tasks(notice.running)} running, nothing more is started"
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
            self._say(f"{self._host}: {who}{words.how_far(progress)}")

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
                f"{self._us}stopped: {summary.finished} finished, {summary.failed} failed, {summary.left} left.{words.what_next(summary)}"
            )
        else:
            self._say(
                f"{self._us}{summary.finished} finished, {summary.failed} failed in {format_time(summary.seconds)} "
                f"({words.rate(done / max(summary.seconds, 1e-3), 0.1)}, slots busy {words.busy_percent(summary)}%)"
            )
        if summary.slowest and summary.slowest[0][1] >= 1.0:
            slowest = "  ".join(f"{id} ({seconds:.1f} s)" for id, seconds in summary.slowest)
            self._say(f"{self._us}slowest: {slowest}")

    def _still_running(self, summary: Summary) -> None:
        """Who runs what while we leave."""
        unnamed = summary.running_elsewhere
        for owner, ids in summary.holdings:
            unnamed -= len(ids)
            what = f"task {ids[0]} is" if len(ids) == 1 else f"tasks {words.some_ids(ids, len(ids), 5)} are"
            self._say(f"{self._us}{what} still running on {owner.host} (pid {owner.pid})")
        if unnamed > 0:
            more = "more " if summary.holdings else ""
            self._say(f"{self._us}{words.tasks(unnamed, more)} still running elsewhere: {PROGRAM} status {self._farm}")

    def _end_of_job(self, summary: Summary) -> None:
        if summary.requeue is Requeue.YES:
            self._say(f"{self._us}Slurm is asked to start this job again")
        elif summary.requeue is Requeue.IN_VAIN:
            self._say(f"{self._us}the job is not started again: no task has ended since it was started last")

    def _failed(self, summary: Summary) -> None:
        before = summary.farm_failed - summary.failed
        if summary.failed:
            ids = words.some_ids(summary.failed_ids, summary.failed)
            more = f" and {before} before" if before > 0 else ""
            self._say(f"failed: {ids}{more}   {self._again()}")
        elif before > 0 and (summary.finished or summary.stopped or summary.gave_up or summary.left):
            self._say(f"failed before: {before}   {self._again()}")

    def _failed_in_job(self, summary: Summary) -> None:
        """What failed here; and by one farmer of them all, how the whole list stands."""
        if summary.failed:
            self._say(f"{self._us}failed: {words.some_ids(summary.failed_ids, summary.failed)}")
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
