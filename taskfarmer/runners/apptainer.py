"""Runs tasks inside an image with Apptainer, or with Singularity, which takes the same words.

    apptainer exec [--nv] [--bind FROM:TO]... [--env NAME=VALUE]... [--pwd DIR] [OPTIONS] IMAGE /bin/bash -c COMMAND

It passes the environment on, mounts the home and the current directory, and starts the command there.
"""

from __future__ import annotations

import os
from typing import Mapping

from taskfarmer.model import Launch, Slot, Task
from taskfarmer.runners import shell
from taskfarmer.runners.base import Runner, find_or_refuse, words

#: With these it does not pass the environment on.
_WITHOUT_ENVIRONMENT = frozenset(("--cleanenv", "-e", "--containall", "-C"))


class ApptainerRunner(Runner):
    """Runs each command inside an Apptainer (or Singularity) image.

    Options:
        `image`: the image: a file, a folder or docker://NAME
        `binds`: what else to mount, as DIR, FROM:TO or FROM:TO:ro, separated by blanks
        `env`: variables to set in the image, as NAME=VALUE, separated by blanks
        `nv`: whether NVIDIA's driver and devices are to be seen in the image
        `setup`: commands that run in the image before each command; one that fails fails the task
        `workdir`: the directory in the image that tasks start in; else it is the one the farmer was started in
        `shell`: the shell of the image that runs the command
        `program`: apptainer or singularity, by name or path
        `options`: more options for `apptainer exec`, as you would write them
    """

    def __init__(
        self,
        image: str,
        binds: str = "",
        env: str = "",
        nv: bool = False,
        setup: str = "",
        workdir: str = "",
        shell: str = "/bin/bash",
        program: str = "apptainer",
        options: str = "",
    ) -> None:
        self.image = image
        self.binds = binds
        self.env = env
        self.nv = nv
        self.setup = setup.strip()
        self.workdir = workdir
        self.shell = shell
        self.program = program
        self.options = options

    def check(self, environ: Mapping[str, str]) -> None:
        """Raise UsageError where the program is missing, or an option cannot be read."""
        find_or_refuse(self.program, environ)
        self._options(Task(0, ""), Slot(0))

    def launch(self, task: Task, slot: Slot) -> Launch:
        """apptainer, with a shell in it."""
        script = shell.in_image(self.setup, task.command, self.shell)
        return Launch(
            self._programs.find(self.program) or "",
            (
                os.path.basename(self.program),
                "exec",
                *self._options(task, slot),
                os.path.expanduser(self.image),
                self.shell,
                *script,
            ),
            tells=bool(self.setup) and shell.is_bash(self.shell),
        )

    def _options(self, task: Task, slot: Slot) -> list[str]:
        options = ["--nv"] if self.nv else []
        for bind in words("binds", self.binds):
            options += ["--bind", os.path.expanduser(bind)]
        more = words("options", self.options)
        names = {"PROC_NUMBER": task.id, "TASKFARMER_TASK_ID": task.id, "TASKFARMER_SLOT": slot.number}
        if _WITHOUT_ENVIRONMENT & set(more):
            for name, number in names.items():
                options += ["--env", f"{name}={number}"]
        for variable in words("env", self.env):
            options += ["--env", variable]
        if self.workdir:
            options += ["--pwd", self.workdir]
        return [*options, *more]
