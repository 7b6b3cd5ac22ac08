"""Runs tasks inside a container of Podman, or of podman-hpc, which takes the same words.

    podman run --rm [--init] --entrypoint '' --log-driver none --label pytaskfarmer --env PROC_NUMBER ...
               [--volume FROM:TO]... [--env NAME=VALUE]... [--workdir DIR] [OPTIONS] IMAGE /bin/bash -c COMMAND

Hazards kept here. The first process of a container ignores TERM unless it handles it: podman's `--init`, where there is its
catatonit, takes that place. The container hangs on conmon, which has left the session of the task; the worker finds it as
its descendant. When both are dead, the container is known by TASKFARMER_OWNER in its environment, which must be passed on
by name. The image's own entrypoint would take the command for its arguments: it is left out.
"""

from __future__ import annotations

import functools
import os
from typing import Mapping

from taskfarmer.model import Launch, Slot, Task
from taskfarmer.runners import shell
from taskfarmer.runners.base import Runner, find_or_refuse, words

_PASSED_ON = ("PROC_NUMBER", *(f"TASKFARMER_{name}" for name in ("TASK_ID", "ATTEMPT", "SLOT", "OWNER", "WORKDIR")))
#: Where podman looks for its init; see helper_binaries_dir in containers.conf(5).
_HELPERS = ("/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman")


class PodmanRunner(Runner):
    """Runs each command in a container of its own with Podman (or podman-hpc).

    In `volumes` and `workdir`, `~` is home, and `.` the directory the farmer was started in.

    Options:
        `image`: the image; pull it before, or each task that finds none does
        `volumes`: folders to mount, as DIR (in the same place), FROM:TO or FROM:TO:ro, separated by blanks
        `env`: variables to set in the container, as NAME=VALUE or NAME (as it is outside), separated by blanks
        `setup`: commands that run in the container before each command; one that fails fails the task
        `workdir`: the directory in the container that tasks start in; else it is what the image says
        `shell`: the shell of the image that runs the command
        `program`: podman or podman-hpc, by name or path
        `options`: more options for `podman run`, as you would write them
        `init`: whether the container gets `--init`, so that it heeds signals; else where podman's catatonit is installed
    """

    def __init__(
        self,
        image: str,
        volumes: str = "",
        env: str = "",
        setup: str = "",
        workdir: str = "",
        shell: str = "/bin/bash",
        program: str = "podman",
        options: str = "",
        init: bool | None = None,
    ) -> None:
        self.image = image
        self.volumes = volumes
        self.env = env
        self.setup = setup.strip()
        self.workdir = workdir
        self.shell = shell
        self.program = program
        self.options = options
        self.init = init

    def check(self, environ: Mapping[str, str]) -> None:
        """Raise UsageError where the program is missing, or an option cannot be read."""
        find_or_refuse(self.program, environ)
        self._options()

    def launch(self, task: Task, slot: Slot) -> Launch:
        """podman, with a shell in it."""
        script = shell.in_image(self.setup, task.command, self.shell)
        return Launch(
            self._programs.find(self.program) or "",
            (os.path.basename(self.program), "run", *self._options(), self.image, self.shell, *script),
        )

    def _options(self) -> list[str]:
        options = ["--rm"]
        if _init_is_here() if self.init is None else self.init:
            options.append("--init")
        options += ["--entrypoint", "", "--log-driver", "none", "--label", "pytaskfarmer"]
        for name in _PASSED_ON:
            options += ["--env", name]
        for volume in words("volumes", self.volumes):
            options += ["--volume", _volume(volume)]
        for variable in words("env", self.env):
            options += ["--env", variable]
        if self.workdir:
            options += ["--workdir", _path(self.workdir)]
        return [*options, *words("options", self.options)]


def _volume(text: str) -> str:
    source, _, rest = text.partition(":")
    return f"{_path(source)}:{rest or _path(source)}"


def _path(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


@functools.lru_cache(maxsize=1)
def _init_is_here() -> bool:
    return any(os.access(f"{folder}/catatonit", os.X_OK) for folder in _HELPERS)
