"""What `conda activate` would do, read from the files conda keeps, without starting conda for each task.

An environment is a folder (its *prefix*) that holds `conda-meta`. It adds to what tasks see: its `bin` in front of PATH, a few
names, the variables in `etc/conda/env_vars.d/*.json` and `conda-meta/state`, and what `etc/conda/activate.d/*.sh` sets.
Source: conda's activate.py.
"""

from __future__ import annotations

import os
from typing import Any, Iterator, Mapping, NamedTuple

from taskfarmer.errors import UsageError

_UNSET = "***unset***"


class Environment(NamedTuple):
    """A conda environment: its folder, and what CONDA_DEFAULT_ENV calls it."""

    prefix: str
    name: str

    def changes(self, environ: Mapping[str, str]) -> dict[str, str | None]:
        """What is added to the environment, and taken away. Raises UsageError for a file that is not conda's."""
        changes: dict[str, str | None] = {
            "PATH": self._path(environ),
            "CONDA_PREFIX": self.prefix,
            "CONDA_DEFAULT_ENV": self.name,
            "CONDA_SHLVL": "1",
            "CONDA_PROMPT_MODIFIER": f"({self.name}) ",
        }
        for name, value in self._variables():
            changes[name] = None if value == _UNSET else str(value)
        return changes

    def scripts(self) -> list[str]:
        """The scripts its packages want to be sourced, in their order."""
        return _files(os.path.join(self.prefix, "etc", "conda", "activate.d"), ".sh")

    def _path(self, environ: Mapping[str, str]) -> str:
        former = environ.get("CONDA_PREFIX")
        folders = environ.get("PATH", os.defpath).split(":")
        return ":".join([f"{self.prefix}/bin", *(folder for folder in folders if folder != f"{former}/bin")])

    def _variables(self) -> Iterator[tuple[str, object]]:
        for path in _files(os.path.join(self.prefix, "etc", "conda", "env_vars.d"), ".json"):
            yield from _json(path).items()
        state = os.path.join(self.prefix, "conda-meta", "state")
        if os.path.exists(state):
            yield from _json(state).get("env_vars", {}).items()


def find(wanted: str, environ: Mapping[str, str]) -> Environment:
    """The environment of that name or in that folder. Raises UsageError that says where it was looked for."""
    if "/" in wanted:
        prefix = os.path.abspath(os.path.expanduser(wanted))
        if not _is_environment(prefix):
            raise UsageError(f"conda: {wanted}: there is no conda environment in this folder (no conda-meta)")
        return Environment(prefix, prefix)
    roots = list(dict.fromkeys(_roots(environ)))
    if wanted == "base":
        folders = roots
    else:
        folders = [os.path.join(folder, wanted) for folder in _folders_of_environments(environ, roots)]
    for prefix in folders:
        if _is_environment(prefix):
            return Environment(prefix, wanted)
    known = [prefix for prefix in _noted(environ) if os.path.basename(prefix) == wanted and _is_environment(prefix)]
    if len(known) == 1:
        return Environment(known[0], wanted)
    if known:
        raise UsageError(f"conda: {wanted}: which of these? Write its folder: {', '.join(known)}")
    looked = ", ".join([*folders, "~/.conda/environments.txt"])
    raise UsageError(f"conda: {wanted}: there is no such conda environment; looked for in {looked}")


def _is_environment(prefix: str) -> bool:
    return os.path.isdir(os.path.join(prefix, "conda-meta"))


def _roots(environ: Mapping[str, str]) -> Iterator[str]:
    """Where conda itself may be installed."""
    if "CONDA_EXE" in environ:
        yield _above(environ["CONDA_EXE"], 2)
    for name in ("MAMBA_ROOT_PREFIX", "_CONDA_ROOT"):
        if name in environ:
            yield environ[name]
    for folder in environ.get("PATH", "").split(":"):
        if os.access(f"{folder}/conda", os.X_OK):
            yield _above(os.path.realpath(f"{folder}/conda"), 2)
    if "CONDA_PREFIX" in environ:
        active = environ["CONDA_PREFIX"]
        yield _above(active, 2) if os.path.basename(_above(active, 1)) == "envs" else active


def _above(path: str, levels: int) -> str:
    for _ in range(levels):
        path = os.path.dirname(path)
    return path


def _folders_of_environments(environ: Mapping[str, str], roots: list[str]) -> list[str]:
    named = [environ[name].split(":") for name in ("CONDA_ENVS_DIRS", "CONDA_ENVS_PATH") if environ.get(name)]
    return [*sum(named, []), *(f"{root}/envs" for root in roots), f"{_home(environ)}/.conda/envs"]


def _noted(environ: Mapping[str, str]) -> list[str]:
    """The environments conda has made for this user, wherever they are."""
    try:
        with open(f"{_home(environ)}/.conda/environments.txt") as file:
            return list(dict.fromkeys(file.read().split("\n")))
    except OSError:
        return []  # none was made


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")


def _files(folder: str, ending: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(ending)]
    except FileNotFoundError:
        return []


def _json(path: str) -> dict[str, Any]:
    import json

    try:
        with open(path) as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: variables of a conda environment were expected: {error}") from error
    return found if isinstance(found, dict) else {}
