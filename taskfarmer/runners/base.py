"""What a runner is: task and slot in, Launch out.

A runner spells, it does not start: its worker does (farm/starter.py). Only one whose class overrides `run` or `terminate`,
as runners were written before 0.2.0, starts its task itself: in a process of its own, which is what is then waited for and
ended.
"""

from __future__ import annotations

import functools
import os
from typing import IO, Mapping

from taskfarmer.errors import UsageError
from taskfarmer.model import Launch, Slot, Task
from taskfarmer.system import launching, process, tree


class Runner:
    """Says how a command is started. Override `launch`; it must be pure and quick: it runs once per attempt.

    The constructor's keyword arguments are the options of a definition; their annotations (bool, int, float, str,
    list[str], pathlib.Path, each also `| None`) say what an INI file's text becomes.
    """

    _running = 0

    def launch(self, task: Task, slot: Slot) -> Launch:
        """The program and argv, the additions to the environment and the directory for this task."""
        raise NotImplementedError(f"{type(self).__name__} has no launch(task, slot)")

    @functools.cached_property
    def _programs(self) -> process.Programs:
        return process.Programs(os.environ.get("PATH", ""))

    def slots(self, environ: Mapping[str, str]) -> int | None:
        """How many tasks may run at a time, where the runner knows better than the number of cores here. Else None."""
        return None

    def check(self, environ: Mapping[str, str]) -> None:
        """Raise UsageError, before anything is claimed, where tasks could not be started."""

    def run(self, taskid: int, command: str, logfh: IO[str]) -> int:
        """Run a command with its output in `logfh`; return its exit status, negative for a signal's number.

        Subclasses may override this and `terminate`, or call it with another command. Raises OSError.
        """
        launch = self.launch(Task(taskid, command), Slot(int(os.environ.get("TASKFARMER_SLOT", "0"))))
        launching.make_folders(launch)
        ear = launching.Ear()
        try:
            logfh.flush()
            self._running = ear.start(launch, dict(os.environb), 0, logfh.fileno())
            code = process.exit_code(self._running)
            if code == 0 and not ear.command_began():
                logfh.write(f"pytaskfarmer: {launching.NEVER_BEGAN}\n")
                code = 1
            return code
        finally:
            ear.close()
            running, self._running = self._running, 0
            if launch.scratch is not None:
                if running:
                    process.await_end(running)  # `terminate` has asked it to end: it may still be writing there
                launching.remove(launch.scratch)

    def terminate(self) -> None:
        """End what `run` runs: called in the process that is in `run`, when the task shall end."""
        if self._running:
            tree.end_session(self._running)


def runs_itself(runner: Runner) -> bool:
    """Whether a runner starts or ends its tasks itself, because its class overrides `run` or `terminate`."""
    return type(runner).run is not Runner.run or type(runner).terminate is not Runner.terminate


def spell(runner: Runner, task: Task, slot: Slot) -> Launch:
    """What a runner says of a task. Raises whatever a user's class raises, TypeError for what is no Launch."""
    launch = runner.launch(task, slot)
    if not isinstance(launch, Launch):
        raise TypeError(f"launch() must return a taskfarmer.model.Launch; it returned {launch!r:.60}")
    return launch


def words(option: str, text: str) -> list[str]:
    """The words of an option, split at blanks, with a shell's quotes. Raises UsageError, naming the option."""
    if not any(letter in text for letter in "'\"\\"):
        return text.split()
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option}: {text!r}: {error}") from error


def find_or_refuse(program: str, environ: Mapping[str, str]) -> str:
    """Where a program is. Raises UsageError where it is not."""
    found = process.find_program(program, environ.get("PATH", ""))
    if found is None:
        raise UsageError(f"{program} is not on PATH of {process.host()}")
    if not os.access(found, os.X_OK):
        raise UsageError(f"{program}: there is no such program on {process.host()}")
    return found
