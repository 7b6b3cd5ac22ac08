"""What a dead farmer or worker left running on this host: finding it, and ending it before its tasks run again.

It is known by its mark, `TASKFARMER_OWNER=OWNER` in its environment, and by the session of its task as the worker wrote
it down, so that a task which has cleared its environment is found, too. Hazards kept here: a pid is used again, so a
session is its leader's pid and start time; the environment of another user's processes cannot be read, nor can they be
ended, so whatever may be a task of his is told instead.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Collection, NamedTuple

from taskfarmer.model import Owner
from taskfarmer.system.process import shows_everybody

_ENV_LIMIT = 1 << 20
_PATIENCE = 10.0


class Leader(NamedTuple):
    """The first process of a task's session."""

    pid: int
    start: int


class _Process(NamedTuple):
    parent: int
    session: int
    start: int


def kill_marked(*marks: str, leaders: Collection[Leader] = ()) -> int:
    """Kill every process of this host whose environment holds all of `marks` (`NAME=value`), every one of `leaders`,
    and their sessions. Returns how many there were.
    """
    wanted = [b"\0" + os.fsencode(mark) + b"\0" for mark in marks]
    sessions: set[int] = set()
    found: set[int] = set()
    patience = time.monotonic() + _PATIENCE
    while (alive := _ours(wanted, leaders, sessions)) and time.monotonic() < patience:
        found |= alive
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # gone in the meantime, or another user's in a session of ours
        time.sleep(0.01)
    return len(found)


def _ours(marks: list[bytes], leaders: Collection[Leader], sessions: set[int]) -> set[int]:
    """What is to be killed. The sessions found are kept in `sessions`: their leader dies first."""
    everybody = _everybody()
    marked = {pid for pid, start in leaders if pid in everybody and everybody[pid].start == start}
    marked |= {pid for pid in everybody if pid not in marked and _is_marked(pid, marks)}
    sessions |= {everybody[pid].session for pid in marked if everybody[pid].session in marked}
    return marked | {pid for pid, one in everybody.items() if one.session in sessions}


def _is_marked(pid: int, marks: list[bytes]) -> bool:
    """Whether a process's environment holds all marks, in whatever order a shell has put it."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            env = b"\0" + file.read(_ENV_LIMIT) + b"\0"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM):
            raise
        return False  # gone, or another user's
    return all(mark in env for mark in marks)


def _everybody() -> dict[int, _Process]:
    """Every living process but this one, as far as we may see them."""
    everybody = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # gone, or hidden from us
            if fields[0] not in b"ZX":
                everybody[int(name)] = _Process(int(fields[1]), int(fields[3]), int(fields[19]))
    return everybody


def may_run_on(owner: Owner, user: int, *marks: str, leaders: Collection[Leader] = ()) -> str:
    """What may still run of a dead owner's tasks although we have ended what we could, in words; "" if nothing.

    Of our own it is what nothing can kill (state D: its disk hangs). Of another `user`'s we cannot read the mark: it is
    every process of his that was started after his farmer, outside of older sessions, and has no younger parent of
    somebody else's (a login has). That may be too much, and then the tasks wait; it is never too little.
    """
    if os.geteuid() in (0, user):
        found = _ours([b"\0" + os.fsencode(mark) + b"\0" for mark in marks], leaders, set())
    elif shows_everybody():
        found = _strangers(owner, user)
    else:
        return "processes that are hidden from us"
    return f"processes {' '.join(map(str, sorted(found)))}" if found else ""


def _strangers(owner: Owner, user: int) -> set[int]:
    everybody = _everybody()
    young = {pid for pid, one in everybody.items() if one.start > owner.start}  # it loads for more than a tick
    found = set()
    for pid in young:
        session = everybody[pid].session
        if session == owner.pid or (session in everybody and session not in young):
            continue  # a task has a session of its own
        eldest = pid
        while everybody[eldest].parent in young:
            eldest = everybody[eldest].parent
        if _user_of(eldest) == user:
            found.add(pid)
    return found


def _user_of(pid: int) -> int | None:
    """The real user of a process (its folder in /proc may be root's); None if it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"Uid:"))
    except (FileNotFoundError, ProcessLookupError):
        return None
