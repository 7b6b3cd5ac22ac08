"""The processes of this host, as /proc shows them, and signals to them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Iterable, NamedTuple


class About(NamedTuple):
    """A living process."""

    parent: int
    group: int
    session: int


def processes() -> dict[int, About]:
    """Every living process of this host, zombies not counted."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] not in b"ZX":
                found[int(name)] = About(int(fields[1]), int(fields[2]), int(fields[3]))
    return found


def marked(mark: str) -> dict[int, str]:
    """Every living process of which the environment begins an entry with `mark`, with its command line."""
    found = {}
    for pid in processes():
        try:
            environ = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
            if b"\0" + os.fsencode(mark) in environ:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[pid] = command
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def left_behind(owner: str) -> str:
    """What still runs of the tasks of a farmer that has stopped, "" if nothing; `owner`: how its name begins."""
    mark = f"TASKFARMER_OWNER={owner}"
    left = marked(mark)
    if left:
        time.sleep(0.3)
        left = {pid: command for pid, command in marked(mark).items() if pid in left}
    return f"stopped, and left running: {left}" if left else ""


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in b"TtZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_stopped(pids: Iterable[int]) -> None:
    """After SIGSTOP, until they stand still: what they were doing is certain then."""
    pids = list(pids)
    patience = time.monotonic() + 0.05
    while not all(map(is_stopped, pids)) and time.monotonic() < patience:
        pass


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has this file open."""
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == str(path) for fd in os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return False


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """A signal to each of these; who is gone in the meantime does not matter."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def send_group(group: int, number: signal.Signals) -> None:
    """A signal to a whole group at one instant: nobody can be forked meanwhile."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass
