"""Runs tasks inside an image with Shifter (https://github.com/NERSC/shifter).

    shifter --image IMAGE [--workdir=TMP] [-V FROM:TO]... [-m A,B] [-e NAME=VALUE]... -- /bin/bash -c 'SETUP && COMMAND'

shifter becomes the task: same process, same session; signals and exit status are the task's own. It passes the environment on.
"""

from __future__ import annotations

import os
from typing import Mapping

from taskfarmer.model import Launch, Slot, Task
from taskfarmer.runners import shell
from taskfarmer.runners.base import Runner, find_or_refuse, words
from taskfarmer.system.process import host

_BASH = "/bin/bash"


class ShifterRunner(Runner):
    """Runs each command inside a Shifter image.

    Options:
        `image`: the image as Shifter names it, `docker:ubuntu:22.04` for one
        `setup`: commands of bash that run in the image before each command; when they fail, so does the task
        `volumes`: what else to mount, as FROM:TO or FROM:TO:ro, separated by blanks
        `modules`: modules of Shifter, separated by blanks
        `tempdir`: whether each task starts in a temporary directory of its own, which goes away afterwards
        `env`: variables to set in the image, as NAME=VALUE, separated by blanks
    """

    def __init__(
        self,
        image: str,
        setup: str = "",
        volumes: str = "",
        modules: str = "",
        tempdir: bool = False,
        env: str = "",
    ) -> None:
        self.image = image
        self.setup = setup
        self.volumes = volumes
        self.modules = modules
        self.tempdir = tempdir
        self.env = env

    def check(self, environ: Mapping[str, str]) -> None:
        """Raise UsageError where there is no shifter, or an option cannot be read."""
        find_or_refuse("shifter", environ)
        self._options()

    def launch(self, task: Task, slot: Slot) -> Launch:
        """shifter, with bash in it."""
        # In 0.1.0 this was a string, as INI files have it.
        scratch = _scratch(task) if str(self.tempdir).lower() == "true" else None
        workdir = [] if scratch is None else [f"--workdir={scratch}"]
        return Launch(
            self._programs.find("shifter") or "",
            ("shifter", "--image", self.image, *workdir, *self._options(), "--", _BASH, *self._script(task.command)),
            {"BASH_ENV": None} if "BASH_ENV" in os.environ else {},  # the file it names is not in the image
            scratch=scratch,
            tells=bool(self.setup.strip()),
        )

    def _options(self) -> list[str]:
        options = []
        for volume in words("volumes", self.volumes):
            options += ["-V", volume]
        if modules := words("modules", self.modules):
            options += ["-m", ",".join(modules)]  # said twice, the last one counts
        for variable in words("env", self.env):
            options += ["-e", variable]
        return options

    def _script(self, command: str) -> tuple[str, ...]:
        setup = self.setup.strip()
        if setup:
            # A comment at its end would take the command with it, and `; &&` is no shell.
            is_one_line = "\n" not in setup and "#" not in setup and setup[-1] not in ";&\\"
            command = shell.both(setup, command) if is_one_line else shell.guarded(setup, command)
        return shell.words_of(command)


def _scratch(task: Task) -> str:
    """A name that no other task has at this time on any host."""
    place = os.environ.get("TMPDIR") or "/tmp"
    return os.path.join(place, f"pytaskfarmer-{host()}-{os.getpid()}-{task.id}")
