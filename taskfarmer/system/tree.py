"""Ending a task with all that it has started.

Hazards kept here. A task may leave its session (`setsid`), so the worker is made a subreaper: what escapes becomes its
child and is found. What was started while we looked is found by looking again.
"""

import os
import signal
import time
from typing import Callable, Iterable, NamedTuple

from taskfarmer.system import handles, process
from taskfarmer.system.proctable import children, exists, start_if_known

_FAR = float("inf")
_AFTER_KILL = 2.0
#: Seconds for what another user must end: it may go by itself once all else is gone.
WITH_STRANGERS = 0.5


class EndedTree(NamedTuple):
    """How a task ended, None if it runs on; and what of it runs on because it is another user's, and not ours to end."""

    task: process.Ended | None
    strangers: list[int]


def end(pid: int, grace: float, hurry: Callable[[], bool]) -> EndedTree:
    """End a task with all its descendants: TERM, `grace` seconds, KILL.

    Works in a subreaper: what left the task's session is a descendant of this process. What earlier tasks of this
    process left behind is spared. `hurry` is asked while waiting; when it says so, grace is over.
    What nothing can kill (state D, its disk hangs) is waited for 2 s and then left, as is what another user must end.
    What stands for processes elsewhere gets longer (system/handles.py).
    """
    ended: process.Ended | None = None

    def is_over() -> bool:
        nonlocal ended
        ended = ended or process.poll(pid)
        return ended is not None and _all_gone(spare, but=pid)

    spare = _older_children(pid)
    strangers = _end(is_over, spare, grace, hurry)
    return EndedTree(ended, strangers)


def end_session(pid: int) -> None:
    """Ask all in the session that a child of ours leads to end (TERM)."""
    try:
        os.killpg(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, which is what we want; or another user must end it, which our worker finds out, too


def kill_descendants() -> None:
    """Kill every descendant of this process, without waiting for them."""
    kill_or_ask(descendants(), 0.0)


def end_all(grace: float, hurry: Callable[[], bool]) -> list[int]:
    """End every descendant of this process, as `end` does. Returns what runs on because another user must end it."""
    return _end(lambda: _all_gone(), frozenset(), grace, hurry)


def _end(is_over: Callable[[], bool], spare: frozenset[int], grace: float, hurry: Callable[[], bool]) -> list[int]:
    begun = time.monotonic()
    left = [pid for pid in descendants(spare) if send(pid, signal.SIGTERM)]
    while left and time.monotonic() < begun + grace and not hurry():
        if is_over():
            return []
        signal.sigtimedwait(process.WAKE, 0.05)
        left = [pid for pid in descendants(spare) if send(pid, 0)]
    killed_at = now = time.monotonic()
    last_moment = _FAR
    while now < last_moment:
        left = kill_or_ask(descendants(spare), now - begun)
        if is_over():
            return []
        slow = any(map(handles.is_handle, left))
        last_moment = begun + handles.longest() if slow else killed_at + (_AFTER_KILL if left else WITH_STRANGERS)
        signal.sigtimedwait(process.WAKE, 0.1 if slow else 0.01)
        now = time.monotonic()
    return [pid for pid in descendants(spare) if not send(pid, 0)]


def _older_children(pid: int) -> frozenset[int]:
    """Our children that were there before the task was: earlier tasks left them behind."""
    begun = start_if_known(pid)
    older = (child for child in children(os.getpid()) if child != pid and 0 < start_if_known(child) < begun)
    return frozenset(older)


def _all_gone(spare: frozenset[int] = frozenset(), but: int = 0) -> bool:
    """Collect every ended child but one, whose status somebody wants; whether no descendant lives."""
    for child in children(os.getpid()):
        if child != but:
            try:
                os.waitpid(child, os.WNOHANG)
            except ChildProcessError:
                pass  # collected already
    return not descendants(spare)


def kill_or_ask(pids: Iterable[int], asked_for: float) -> list[int]:
    """Kill these, but ask what stands for others (system/handles.py). Returns those of them that are ours to end."""
    return [pid for pid in pids if send(pid, handles.how_to_end(pid, asked_for))]


def send(pid: int, number: int) -> bool:
    """Send a signal to a process that must go (0: only try); False if it is another user's, and not ours to end."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # gone in the meantime, which is what we want
    except PermissionError:
        return False  # started by `sudo`, for one
    return True


def descendants(spare: frozenset[int] = frozenset()) -> list[int]:
    """Every living descendant of this process but `spare` and theirs.

    Parents stand before their children, to be killed first: a script whose step is killed would go on to the next one.
    """
    found: dict[int, None] = {}
    todo = [os.getpid()]
    while todo:
        for child in children(todo.pop()):
            if child not in spare and child not in found and exists(child):
                found[child] = None
                todo.append(child)
    return list(found)
