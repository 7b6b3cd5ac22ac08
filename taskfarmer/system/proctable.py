"""The processes of this host, as the kernel shows them in /proc (proc(5)).

Hazards kept here. Who is looked at may end at that moment. A zombie is dead but still has a pid. A name may hold
brackets and blanks. With `hidepid` the processes of other users cannot be seen.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Stat(NamedTuple):
    """What the kernel says of a process: its name, and the fields behind it in /proc/PID/stat (proc(5)), the state first."""

    name: bytes
    fields: list[bytes]

    @property
    def is_alive(self) -> bool:
        """Whether it runs: a zombie does not."""
        return self.fields[0] not in b"ZX"

    @property
    def parent(self) -> int:
        """The pid of its parent."""
        return int(self.fields[1])

    @property
    def session(self) -> int:
        """The pid of the first process of its session."""
        return int(self.fields[3])

    @property
    def start(self) -> int:
        """When it started, in clock ticks since boot."""
        return int(self.fields[19])


def stat_of(pid: int) -> Stat | None:
    """What the kernel says of a process; None if there is none. Raises PermissionError where it is hidden from us."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            before, _, after = file.read().rpartition(b")")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(before.partition(b"(")[2], after.split())


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none or it is a zombie."""
    found = stat_of(pid)
    return found.start if found is not None and found.is_alive else None


def start_if_known(pid: int) -> int:
    """The same; 0 if there is none, or it is hidden from us."""
    try:
        return start_time(pid) or 0
    except PermissionError:
        return 0


def exists(pid: int) -> bool:
    """Whether a process with this pid is running, zombies not counted."""
    try:
        found = stat_of(pid)
    except PermissionError:
        return True  # another user's, and this /proc hides it
    return is_there(pid) if found is None else found.is_alive


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, or its whole job is suspended)."""
    found = stat_of(pid)
    return found is not None and found.fields[0] in b"Tt"


def shows_everybody() -> bool:
    """Whether this /proc shows the processes of other users; see `hidepid` in proc(5)."""
    return os.access("/proc/1/stat", os.R_OK)


def is_there(pid: int) -> bool:
    """Whether anybody has this pid, hidden or a zombie as it may be."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def user_of(pid: int) -> int | None:
    """The real user of a process (its folder in /proc may be root's); None if it is gone, or hidden from us."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"Uid:"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def children(pid: int) -> list[int]:
    """The children of a process, zombies included."""
    # proc(5): a child that ends while the list is read may hide its siblings.
    return listed_children(pid) or [child for child, parent in _parents().items() if parent == pid]


def listed_children(pid: int) -> list[int]:
    """The same at little cost; of a kernel without CONFIG_PROC_CHILDREN, and of what is hidden from us, none."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []  # it or its thread has ended
    return found


def _parents() -> dict[int, int]:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found = stat_of(int(name))
            except PermissionError:
                continue  # hidden from us
            if found is not None:
                parents[int(name)] = found.parent
    return parents
