"""The farmers that the killer hunts, the other verbs it runs beside them, and what can be seen of them from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from taskfarmer.stores import journal
from taskfarmer.stores.lines import parse_claims

STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_UNWANTED = ("TASKFARMER_", "SLURM_", "PMI", "OMPI_", "SCRATCH", "PYTEST_", "BASH_ENV", "ENV")


def now() -> float:
    """Seconds of uptime: the clock that tasks read in /proc/uptime."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Sight(NamedTuple):
    """What a process was doing at the moment it was hit."""

    starting: bool = False
    claims: int = 0
    exchange: str = ""  # "", "not yet written down", or what the record says: "settle", "claim", ...


class Program:
    """One run of the program, with all it says in a file."""

    def __init__(self, folder: Path, number: int, words: list[str], program_path: Path) -> None:
        self.words = words
        self.output = folder / "said" / f"{number}_{words[0].strip('-')}"
        env = {name: value for name, value in os.environ.items() if not name.startswith(_UNWANTED)}
        env["PYTHONFAULTHANDLER"] = "1"  # SIGABRT then says where it hangs
        env["PYTHONPATH"] = str(program_path)
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taskfarmer", *words],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.begun = now()
        self.ended: float | None = None
        self.signals: list[signal.Signals] = []
        self.stalled_workers = False
        self.workdir = folder / "tasks.txt_workdir"

    @property
    def said(self) -> str:
        """All it has said."""
        return self.output.read_text(errors="replace")

    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        status = self.process.poll()
        if status is not None and self.ended is None:
            self.ended = now()
        return status

    def workers(self) -> list[int]:
        """Its living workers, in the order of their pids."""
        return sorted(pid for pid, about in processes().items() if about.group == self.pid and pid != self.pid)

    def sight(self) -> Sight:
        """What it is doing now. Stop it first, or it was true a moment ago."""
        folders = list((self.workdir / "running").glob(f"*.{self.pid}.*"))
        return sight_of(self.pid, self.workdir, folders, not folders and not self.said)

    def wrong_counts(self, sizes: list[int]) -> str:
        """What is wrong with what `status --json` said, "" if nothing; `sizes`: how many lines the list has had."""
        status = self.status()
        if status not in (0, 1, 75) or "--json" not in self.words:
            return "" if status in (0, 1, 75) else f"exit {status}"
        said = json.loads(self.said)
        total = sum(said[state] for state in ("toprocess", "running", "finished", "failed"))
        return "" if total in sizes else f"{total} tasks in all, the list has had {sizes}"


def sight_of(pid: int, workdir: Path, folders: list[Path], starting: bool = False) -> Sight:
    """What a process is doing that has these folders in `running/`."""
    claims = sum(len(parse_claims(_content(folder / "claims"))) for folder in folders)
    return Sight(starting, claims, _exchange(pid, workdir / "journal"))


def _exchange(pid: int, path: Path) -> str:
    if not _has_open(pid, path):
        return ""
    _, operations = journal.parse(_content(path))
    return "not yet written down" if operations is None else _what(operations)


def _what(operations: list[journal.Operation]) -> str:
    targets = {operation.target for operation in operations}
    grown = {operation.name for operation in operations if operation.kind is journal.Kind.GROW}
    if "farm.json" in targets:
        return "load"
    if any(o.kind is journal.Kind.REMOVE and o.name.endswith("/claims") for o in operations):
        return "recovery"
    if "failed" in targets or ({"later", "attempts"} <= grown):
        return "retry"
    if grown & {"finished", "failed"}:
        return "settle"
    return "give back" if "toprocess" in grown else "claim"


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


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in b"TtZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _has_open(pid: int, path: Path) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == str(path) for fd in os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return False


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
