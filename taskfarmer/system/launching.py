"""Carries out what a runner says: makes the folders, starts the program or its fallback, clears away.

Hazards kept here. A scratch folder lies where others may write, under a name they could have guessed. What is there
already is removed only if it is a folder of our own, which a process of our name that is dead has left behind.
A shell whose setup replaces it (`exec true`), or makes it read on without doing anything (`set -n`), ends well, and the
command has never begun. So it tells, on a descriptor that it inherits and closes before the command:

    s   the setup begins       c   it is over: the command begins

Who says `s` and not `c` has not begun it. Who says nothing may have been kept from it (a container that passes no
descriptors on) and is believed.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from taskfarmer.model import Launch
from taskfarmer.system import process

#: The kernel refused the program itself: a shell would say so, or run it as a script.
REFUSED = frozenset((errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EPERM))

#: The descriptor on which shells tell. A large one, which no script of a user's uses by chance.
TOLD_ON = 219
NEVER_BEGAN = "the command did not begin: `setup` has ended the shell, replaced it (exec) or silenced it (set -n)"


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


class Ear:
    """Hears from the shells of launches, one after another, whether they came to their commands."""

    def __init__(self) -> None:
        self._pipe: tuple[int, int] | None = None

    def start(self, launch: Launch, env: dict[bytes, bytes], null: int, output: int) -> int:
        """As `start`, and listen to it if it tells."""
        if not launch.tells or not self._can_hear():
            return start(launch, env, null, output)
        self._hear()  # whatever one that was killed has told
        os.dup2(self._pipe[1], TOLD_ON)  # type: ignore[index]
        try:
            return start(launch, env, null, output)
        finally:
            os.close(TOLD_ON)

    def command_began(self) -> bool:
        """Whether the command of the last launch has begun, as far as was told."""
        said = self._hear()
        return b"s" not in said or b"c" in said

    def close(self) -> None:
        """Listen no more."""
        if self._pipe:
            os.close(self._pipe[0])
            os.close(self._pipe[1])
            self._pipe = None

    def _can_hear(self) -> bool:
        if self._pipe is None and not _is_open(TOLD_ON) and resource.getrlimit(resource.RLIMIT_NOFILE)[0] > TOLD_ON:
            self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        return self._pipe is not None

    def _hear(self) -> bytes:
        try:
            return os.read(self._pipe[0], 64) if self._pipe else b""
        except BlockingIOError:
            return b""


def _is_open(fd: int) -> bool:
    """Whether somebody uses this descriptor: it may be what the farmer was started with, and for its tasks."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def remove(scratch: str) -> None:
    """Remove a scratch folder with all that is in it. Raises OSError."""
    import shutil

    shutil.rmtree(scratch)
