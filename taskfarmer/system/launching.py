"""Carries out what a runner says: makes the folders, starts the program or its fallback, clears away.

Hazard kept here: a scratch folder lies where others may write, under a name they could have guessed. What is there
already is removed only if it is a folder of our own, which a process of our name that is dead has left behind.
"""

from __future__ import annotations

import errno
import os
import stat

from taskfarmer.model import Launch
from taskfarmer.system import process

#: The kernel refused the program itself: a shell would say so, or run it as a script.
REFUSED = frozenset((errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EPERM))


class NotStarted(Exception):
    """An attempt could not begin; its words say why."""


def make_folders(launch: Launch) -> None:
    """Make the folders a launch wants. Raises NotStarted, also where the one to start in is missing."""
    try:
        if launch.folder is not None:
            os.makedirs(launch.folder, exist_ok=True)
        if launch.cwd not in (None, launch.scratch) and not os.path.isdir(str(launch.cwd)):
            raise NotStarted(f"{launch.cwd}: there is no such directory to start it in")
        if launch.scratch is not None:
            _make_scratch(launch.scratch)
    except OSError as error:
        raise NotStarted(f"{error.filename}: the directory cannot be made: {error.strerror}") from error


def _make_scratch(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise
        remove(path)
        os.mkdir(path, 0o700)


def start(launch: Launch, env: dict[bytes, bytes], null: int, output: int) -> int:
    """Start a launch, or its fallback where the kernel refuses it; return its pid. Raises as `process.start` does."""
    if launch.env:
        env = process.with_changes(env, launch.env)
    try:
        return process.start(launch, env, null, output)
    except OSError as error:
        if launch.fallback is None or error.errno not in REFUSED:
            raise
        return process.start(launch.fallback, env, null, output)


def remove(scratch: str) -> None:
    """Remove a scratch folder with all that is in it. Raises OSError."""
    import shutil

    shutil.rmtree(scratch)
