"""What a dead farmer or worker left running on this host: finding it, and ending it before its tasks run again.

It is known by its mark, `TASKFARMER_OWNER=OWNER` in its environment, and by the session of its task as the worker wrote
it down, so that a task which has cleared its environment is found, too. Hazards kept here: a pid is used again, so a
session is its leader's pid and start time; a process that is just executing a program has no environment for a moment, so
it is looked at again; one that a dying worker has just forked is still a copy of it, and known by the worker's name; the
environment of another user's processes cannot be read, nor can they be ended, so whatever may be a task of his, or has
become somebody else in a task of ours (`sudo`), is told instead. What it ends may be no more than a handle (system/handles.py), which is asked.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Collection, NamedTuple

from taskfarmer.model import Owner
from taskfarmer.system import files, handles
from taskfarmer.system.proctable import Stat, shows_everybody, stat_of, user_of
from taskfarmer.system.tree import WITH_STRANGERS, kill_or_ask, send

_ENV_LIMIT = 1 << 20
_FAR = float("inf")
_PATIENCE = 10.0
_ROUNDS = 5
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD in linux/sched.h


class Leader(NamedTuple):
    """The first process of a task's session."""

    pid: int
    start: int


def kill_marked(
    *marks: str, leaders: Collection[Leader] = (), name: str | None = None, patience: float | None = None
) -> int:
    """Kill every process of this host whose environment holds all of `marks` (`NAME=value`), every one of `leaders`,
    and their sessions. Returns how many there were.

    `name`: that of a dead worker (comm in proc(5)), and so of what it had forked and not yet turned into its task.
    `patience`: seconds after which what still runs is left; then what stands for others is not asked before it is killed,
    and ends what it stands for in its own time (see system/handles.py).
    """
    asked_before = 0.0 if patience is None else handles.PATIENCE
    longest = _FAR if patience is None else patience
    sessions: set[int] = set()
    found: set[int] = set()
    slow = False
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < min(handles.longest() if slow else _PATIENCE, longest):
        alive, undecided = _ours(marks, leaders, sessions, name)
        # Parents first, as a rule: a script whose step is killed would go on to the next one.
        ours = kill_or_ask(sorted(alive), asked_before + waited)
        if not ours and not undecided and (not alive or waited > WITH_STRANGERS):
            break
        found.update(ours)
        slow = any(map(handles.is_handle, ours))
        time.sleep(0.1 if slow else 0.01)
    return len(found)


def _ours(
    marks: Collection[str], leaders: Collection[Leader], sessions: set[int], name: str | None = None
) -> tuple[set[int], set[int]]:
    """What is to be killed, and what must be looked at again. Sessions are kept in `sessions`: their leader dies first."""
    everybody: dict[int, Stat] = {}
    called = None if name is None else os.fsencode(name)
    wanted = [b"\0" + os.fsencode(mark) + b"\0" for mark in marks]
    marked: set[int] = set()
    undecided: set[int] = set()
    seen: set[int] = set()
    for _ in range(_ROUNDS):
        new = _pids() - seen
        if not new:
            break
        seen |= new
        # One of these may fork and end before we come to it: its child is among the new ones of the next round.
        everybody |= _look_at(new)
        for pid in new & everybody.keys():
            one = everybody[pid]
            look: bool | None = Leader(pid, one.start) in leaders or one.name == called
            look = look or _is_marked(pid, wanted)
            (undecided if look is None else marked if look else set()).add(pid)
    sessions |= {everybody[pid].session for pid in marked if everybody[pid].session in marked}
    return marked | {pid for pid, one in everybody.items() if one.session in sessions}, undecided


def _is_marked(pid: int, marks: list[bytes]) -> bool | None:
    """Whether a process's environment holds all marks, in whatever order a shell has put it; None: it has none yet."""
    try:
        env = _environment_of(pid)
        if not env:
            if _is_between_programs(pid):
                return None
            env = _environment_of(pid)  # what was empty may have been that of the program before
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM):
            raise
        return False  # gone, or another user's
    return all(mark in b"\0" + env + b"\0" for mark in marks)


def _environment_of(pid: int) -> bytes:
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read(_ENV_LIMIT)


def _is_between_programs(pid: int) -> bool:
    """Whether execve(2) is under way: there is an address space, and in it no place for an environment yet."""
    found = stat_of(pid)
    if found is None or not found.is_alive:
        return False
    return not int(found.fields[6]) & _KERNEL_THREAD and int(found.fields[48]) == 0


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}


def _look_at(pids: Collection[int]) -> dict[int, Stat]:
    """Those of these processes that live, as far as we may see them."""
    found = {}
    for pid in pids:
        try:
            one = stat_of(pid)
        except PermissionError:
            continue  # hidden from us
        if one is not None and one.is_alive:
            found[pid] = one
    return found


def may_run_on(owner: Owner, user: int, *marks: str, leaders: Collection[Leader] = ()) -> str:
    """What may still run of a dead owner's tasks although we have ended what we could, in words; "" if nothing.

    Of another `user`'s we cannot read the mark: it is every process of his that was started after his farmer, outside of
    older sessions, and has no younger parent of somebody else's (a login has). That may be too much, and then the tasks
    wait; it is never too little.
    """
    if os.geteuid() in (0, user):
        return runs_on(*marks, leaders=leaders)
    if not shows_everybody():
        return "processes that are hidden from us"
    return in_words(_strangers(owner, user))


def runs_on(*marks: str, leaders: Collection[Leader] = ()) -> str:
    """What runs on although `kill_marked` was to end it, in words; "" if nothing.

    It is what nothing can kill (state D: its disk hangs), and what has become another user's in a session of `leaders`.
    """
    found, _ = _ours(marks, leaders, set())
    return in_words(found | _strangers_in_sessions(leaders))


def _strangers_in_sessions(leaders: Collection[Leader]) -> set[int]:
    """Also where the leader is gone: its pid is not used again as long as its session has members."""
    everybody = _look_at(_pids())
    sessions = {pid for pid, start in leaders if pid not in everybody or everybody[pid].start == start}
    return {pid for pid, one in everybody.items() if one.session in sessions and not send(pid, 0)}


def in_words(pids: Collection[int]) -> str:
    """`process 7 of anna`, `processes 7 8 of root, process 9 of bert`; "" for none."""
    of_user: dict[str, list[str]] = {}
    for pid in sorted(pids):
        user = user_of(pid)
        whose = "" if user is None else f" of {files.user_name(user)}"
        of_user.setdefault(whose, []).append(str(pid))
    return ", ".join(
        f"{'process' if len(group) == 1 else 'processes'} {' '.join(group)}{whose}" for whose, group in of_user.items()
    )


def _strangers(owner: Owner, user: int) -> set[int]:
    everybody = _look_at(_pids())
    young = {pid for pid, one in everybody.items() if one.start > owner.start}  # it loads for more than a tick
    found = set()
    for pid in young:
        session = everybody[pid].session
        if session == owner.pid or (session in everybody and session not in young):
            continue  # a task has a session of its own
        eldest = pid
        while everybody[eldest].parent in young:
            eldest = everybody[eldest].parent
        if user_of(eldest) == user:
            found.add(pid)
    return found
