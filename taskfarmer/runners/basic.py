"""The default runner: the command means what it means in a shell."""

from __future__ import annotations

import functools
import os
import time

from taskfarmer.model import Launch, Slot, Task
from taskfarmer.runners import shell
from taskfarmer.runners.base import Runner
from taskfarmer.system.process import find_program

_REMEMBER = 1.0


class BasicRunner(Runner):
    """Runs the command as a shell would, in the environment and directory the farmer was started in.

    `shell_mode`: `auto` starts plain commands without a shell, `always` uses one for each, `never` for none (the line
    is split at blanks and quotes).
    """

    def __init__(self, shell_mode: str = "auto") -> None:
        self.shell_mode = shell_mode
        self._shells: shell.Shells | None = None
        self._found: dict[str, str | None] = {}
        self._forget_at = 0.0

    def launch(self, task: Task, slot: Slot) -> Launch:
        """The plain start where nothing can differ, else the shell."""
        if self.shell_mode == "never":
            return self._direct(self._split(task.command), None)
        shells = self._known_shells()
        options = ("-c", "--") if task.command[:1] in "-+" else ("-c",)  # or the line would be read as an option
        in_shell = Launch(shells.bash, (os.path.basename(shells.bash), *options, task.command))
        if self.shell_mode == "always":
            return in_shell
        words = shell.direct_words(task.command, shells)
        if words is not None:
            return self._direct(words, in_shell) if self._find(words[0]) else in_shell
        programs = shell.programs_of_plain_list(task.command, shells)
        if programs is not None and all(map(self._runs_alike, programs)):
            return Launch(shells.dash or shells.bash, ("sh", "-c", task.command))
        return in_shell

    def _direct(self, words: list[str], fallback: Launch | None) -> Launch:
        # Not found: no program at all, and never a file of that name in the current directory.
        return Launch(self._find(words[0]) or "", tuple(words), {}, None, fallback)

    def _split(self, command: str) -> list[str]:
        import shlex

        return shlex.split(command)

    def _known_shells(self) -> shell.Shells:
        if self._shells is None:
            self._shells = shell.Shells.here(os.environ)
        return self._shells

    def _find(self, name: str) -> str | None:
        """Where a program is. Remembered for a second: a long PATH on a shared disk costs a look per folder."""
        now = time.monotonic()
        if now >= self._forget_at:
            self._found.clear()
            self._forget_at = now + _REMEMBER
        if name not in self._found:
            self._found[name] = find_program(name, os.environ.get("PATH", ""))
        return self._found[name]

    def _runs_alike(self, name: str) -> bool:
        program = self._find(name)
        return program is not None and _has_own_interpreter(os.path.abspath(program))


@functools.lru_cache(maxsize=256)
def _has_own_interpreter(program: str) -> bool:
    """Whether the kernel knows how to run a file; a script without `#!` is run by whichever shell meets it."""
    try:
        with open(program, "rb") as file:
            head = file.read(4)
    except OSError:
        return False
    return head.startswith((b"#!", b"\x7fELF"))
