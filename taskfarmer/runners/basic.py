"""The default runner: the command means what it means in a shell."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Mapping

from taskfarmer.errors import UsageError
from taskfarmer.model import Launch, Slot, Task
from taskfarmer.runners import shell
from taskfarmer.runners.base import Runner, words
from taskfarmer.system.process import Programs, host

if TYPE_CHECKING:
    from taskfarmer.runners.conda import Environment


class BasicRunner(Runner):
    """Runs the command as a shell would, in the environment and directory the farmer was started in.

    `~` in a folder is home; a relative one is seen from where the farmer was started, `taskdir` from `cwd`. Modules come
    first, then conda, venv and setup.

    Options:
        `setup`: lines of bash that run before each command, in the same shell; one that fails fails the task
        `modules`: environment modules to load, as `module load` does
        `conda`: the name or folder of a conda environment
        `venv`: the folder of a virtual environment of Python
        `prefix`: a command to put in front of each command, `nice -n 5` for one
        `cwd`: the directory tasks start in
        `taskdir`: a directory for each task to start in, made when it is not there; `{id}` in it is the task's
        `shell_mode`: `auto` starts plain commands without a shell, `always` uses one, `never` splits the line at blanks and quotes
    """

    # Of the class, too: subclasses written for 0.1.0 do not call our constructor.
    shell_mode = "auto"
    setup = conda = venv = prefix = cwd = taskdir = ""
    modules: list[str] | None = None

    def __init__(
        self,
        shell_mode: str = "auto",
        setup: str = "",
        modules: list[str] | None = None,
        conda: str = "",
        venv: str = "",
        prefix: str = "",
        cwd: str = "",
        taskdir: str = "",
    ) -> None:
        if shell_mode not in shell.MODES:
            raise UsageError(f"shell_mode: {', '.join(shell.MODES)} is wanted, found {shell_mode!r}")
        self.shell_mode = shell_mode
        self.setup = setup.strip()
        self.modules = modules
        self.conda = conda
        self.venv = os.path.abspath(os.path.expanduser(venv)) if venv else ""
        self.prefix = prefix.strip()
        self.cwd = os.path.abspath(os.path.expanduser(cwd)) if cwd else ""
        self.taskdir = os.path.expanduser(taskdir)
        if "\n" in self.prefix or _has_comment(self.prefix):
            raise UsageError(f"prefix: one line without a comment is wanted, found {self.prefix!r}")
        if taskdir and "{id}" not in taskdir:
            raise UsageError(f"taskdir: {{id}} is wanted in it, or all tasks would share it; found {taskdir!r}")

    def check(self, environ: Mapping[str, str]) -> None:
        """Raise UsageError where what the options name is not here."""
        if self.conda:
            _conda(self.conda, environ)
        if self.venv and not os.access(f"{self.venv}/bin/python", os.X_OK):
            raise UsageError(f"venv: {self.venv}: there is no virtual environment in this folder (no bin/python)")
        if self.cwd and not os.path.isdir(self.cwd):
            raise UsageError(f"cwd: {self.cwd}: there is no such directory")
        if self._before and self.shell_mode == "never":
            raise UsageError("setup, modules, and scripts of conda need a shell: not with --shell never")
        if self._before and os.path.basename(self._shells.bash) != "bash":
            raise UsageError("setup, modules, and scripts of conda need bash, and there is no /bin/bash here")
        if self.prefix and not self._before:
            never = self.shell_mode == "never"
            front = words("prefix", self.prefix) if never else shell.direct_words(self.prefix, self._shells)
            if front and not self._find(front[0]):
                raise UsageError(f"prefix: {front[0]} is not on PATH of {host()}")

    def launch(self, task: Task, slot: Slot) -> Launch:
        """The plain start where nothing can differ, else the shell."""
        if self._is_bare:
            return self._spell(task.command, "")
        place = self._place(task)
        env = {**self._changes, "PWD": place} if place else self._changes
        launch = self._spell(task.command, place)._replace(env=env, cwd=place or None)
        if self.taskdir:
            launch = launch._replace(folder=place)
        if launch.fallback:
            launch = launch._replace(fallback=launch.fallback._replace(env=env, cwd=place or None))
        return launch

    @functools.cached_property
    def _is_bare(self) -> bool:
        return not (self.setup or self.modules or self.conda or self.venv or self.prefix or self.cwd or self.taskdir)

    def _place(self, task: Task) -> str:
        if not self.taskdir:
            return self.cwd
        return os.path.join(self.cwd or os.getcwd(), self.taskdir.replace("{id}", str(task.id)))

    # What the options add

    @functools.cached_property
    def _changes(self) -> dict[str, str | None]:
        changes: dict[str, str | None] = {}
        if self.conda:
            changes |= _conda(self.conda, os.environ).changes(os.environ)
        if self.venv:
            changes["PATH"] = f"{self.venv}/bin:{changes.get('PATH') or os.environ.get('PATH', os.defpath)}"
            changes |= {"VIRTUAL_ENV": self.venv, "PYTHONHOME": None}
        return changes

    @functools.cached_property
    def _environ(self) -> Mapping[str, str]:
        """What tasks see, as far as it decides how they are started."""
        if not self._changes:
            return os.environ
        changed = {**os.environ, **self._changes}
        return {name: value for name, value in changed.items() if value is not None}

    @functools.cached_property
    def _before(self) -> str:
        """The lines a shell must run before the command."""
        lines = []
        if self.modules:
            lines += _load_modules(self.modules, os.environ)
            if self.conda or self.venv:  # modules may have put something in front of them
                lines.append(f'PATH={_quoted(self._own_folders())}:"$PATH"')
        if self.conda:
            lines += [f". {_quoted(script)} || :" for script in _conda(self.conda, os.environ).scripts()]
        return "\n".join([*lines, self.setup] if self.setup else lines)

    def _own_folders(self) -> str:
        folders = [self.venv] if self.venv else []
        if self.conda:
            folders.append(_conda(self.conda, os.environ).prefix)
        return ":".join(f"{folder}/bin" for folder in folders)

    # How it is started

    def _spell(self, command: str, place: str) -> Launch:
        if self.shell_mode == "never":
            return self._direct([*self._split(self.prefix), *self._split(command)], None)
        if self._before:
            return self._in_shell(shell.guarded(self._before, self._prefixed(command)))._replace(tells=True)
        if self.prefix:
            return self._behind_prefix(command, place)
        in_shell = self._in_shell(command)
        if self.shell_mode == "always":
            return in_shell
        shells = self._shells
        plain = shell.direct_words(command, shells)
        if plain is not None:
            return self._direct(plain, in_shell) if self._find(plain[0]) else in_shell
        programs = shell.programs_of_plain_list(command, shells)
        if programs is not None and all(self._runs_alike(program, place) for program in programs):
            return Launch(shells.dash or shells.bash, ("sh", "-c", command))
        return in_shell

    def _behind_prefix(self, command: str, place: str) -> Launch:
        in_shell = self._in_shell(self._prefixed(command))
        front = shell.direct_words(self.prefix, self._shells)
        if front is None or not self._find(front[0]):
            return in_shell
        plain = shell.direct_words(command, self._shells) if self.shell_mode == "auto" else None
        if plain is None or not self._runs_alike(plain[0], place):
            plain = [self._shells.bash, *shell.words_of(command)]
        return self._direct([*front, *plain], in_shell)

    def _prefixed(self, command: str) -> str:
        if not self.prefix:
            return command
        return " ".join([self.prefix, self._shells.bash, *map(_quoted, shell.words_of(command))])

    def _in_shell(self, command: str) -> Launch:
        bash = self._shells.bash
        return Launch(bash, (os.path.basename(bash), *shell.words_of(command)))

    def _direct(self, argv: list[str], fallback: Launch | None) -> Launch:
        # Not found: no program at all, and never a file of that name in the current directory.
        return Launch(self._find(argv[0]) or "", tuple(argv), {}, None, fallback)

    def _split(self, command: str) -> list[str]:
        import shlex

        return shlex.split(command)

    @functools.cached_property
    def _shells(self) -> shell.Shells:
        return shell.Shells.here(self._environ)

    @functools.cached_property
    def _programs(self) -> Programs:
        return Programs(self._path)

    @functools.cached_property
    def _path(self) -> str:
        return self._environ.get("PATH", "")

    @functools.cached_property
    def _path_moves(self) -> bool:
        """Whether what PATH means depends on the directory, and tasks start in another: then it is left to the shell."""
        return bool(self.cwd or self.taskdir) and not all(folder[:1] == "/" for folder in self._path.split(":"))

    def _find(self, name: str) -> str | None:
        if self._path_moves and "/" not in name:
            return None
        return self._programs.find(name)

    def _runs_alike(self, name: str, place: str) -> bool:
        program = self._find(name)
        return program is not None and _has_own_interpreter(os.path.abspath(os.path.join(place, program)))


def _has_comment(line: str) -> bool:
    """Whether a `#` begins a word: what is put behind such a line would not be run, and seem to have succeeded."""
    if "#" not in line:
        return False
    import re

    bare = re.sub(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", "q", line)
    return bool(re.search(r"(^|[\s;&|(])#", bare))


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


def _conda(wanted: str, environ: Mapping[str, str]) -> Environment:
    from taskfarmer.runners import conda

    return conda.find(wanted, environ)


def _load_modules(modules: list[str], environ: Mapping[str, str]) -> list[str]:
    """The lines that load modules. Raises UsageError where there are no modules."""
    lines = []
    if "BASH_FUNC_module%%" not in environ and "BASH_FUNC_module()" not in environ:
        lines.append(f". {_quoted(_file_with_module(environ))}")
    load = f"module load {' '.join(map(_quoted, modules))}"
    return [*lines, shell.checked(load)]


def _file_with_module(environ: Mapping[str, str]) -> str:
    """The file whose sourcing makes `module` known."""
    places = [f"{environ[name]}/init/bash" for name in ("MODULESHOME", "LMOD_PKG") if environ.get(name)]
    places += ["/etc/profile.d/modules.sh", "/etc/profile.d/lmod.sh"]
    for place in places:
        if os.access(place, os.R_OK):
            return place
    raise UsageError(f"modules: there is no `module` here: no such function, and none of {', '.join(places)}")


@functools.lru_cache(maxsize=256)
def _has_own_interpreter(program: str) -> bool:
    """Whether the kernel knows how to run a file; a script without `#!` is run by whichever shell meets it."""
    try:
        with open(program, "rb") as file:
            head = file.read(4)
    except OSError:
        return False
    return head.startswith((b"#!", b"\x7fELF"))
