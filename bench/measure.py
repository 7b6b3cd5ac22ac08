"""Running and measuring commands: wall time of one, memory of a farmer and its workers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, str(ROOT / "scripts" / "pytaskfarmer.py")]


class BenchError(Exception):
    """A measured command did not do its work: its time would mean nothing."""


class Place:
    """Where the runs work, and in which order. Each gets a fresh folder, and nothing is removed before the end: on ext4, creating files
    soon after a mass delete costs more."""

    def __init__(self, parent: str | None) -> None:
        self._holder = tempfile.TemporaryDirectory(prefix="bench-", dir=parent, ignore_cleanup_errors=True)
        self._count = 0
        self._turn = 0

    @property
    def path(self) -> Path:
        """The folder of all runs."""
        return Path(self._holder.name)

    def fresh(self) -> Path:
        """A new, empty folder."""
        self._count += 1
        folder = self.path / str(self._count)
        folder.mkdir()
        return folder

    def in_turn(self, runs: dict[str, Callable[[], float]]) -> dict[str, float]:
        """Run each once, beginning with another one each time: nobody has the advantage of a place in the row."""
        names = list(runs)
        self._turn += 1
        first = self._turn % len(names)
        return {name: runs[name]() for name in names[first:] + names[:first]}

    def close(self) -> None:
        """Remove everything."""
        self._holder.cleanup()


def environment() -> dict[str, str]:
    """Everybody's environment: ours, where the checkout is importable, and nothing that moves locks or changes shells."""
    env = {name: value for name, value in os.environ.items() if name not in ("SCRATCH", "BASH_ENV", "ENV")}
    env["PYTHONPATH"] = str(ROOT)
    return env


def wall(argv: Sequence[str], folder: Path, stdin: Path | None = None, expect: int = 0) -> float:
    """Seconds a command takes from start to end."""
    with open(folder / "said", "wb") as said, open(stdin or os.devnull, "rb") as source:
        os.sync()  # nobody pays for what the run before has left to be written
        begun = time.perf_counter()
        code = subprocess.run(
            argv, cwd=folder, env=environment(), stdin=source, stdout=said, stderr=subprocess.STDOUT
        ).returncode
        took = time.perf_counter() - begun
    if code != expect:
        raise BenchError(f"{' '.join(argv)}: exit {code}, not {expect}:\n{tail(folder / 'said')}")
    return took


def tail(path: Path, size: int = 2000) -> str:
    """The end of a text file."""
    return path.read_bytes()[-size:].decode(errors="replace")


def write_list(folder: Path, count: int, command: str, first: str | None = None) -> Path:
    """A tasklist of one command many times, perhaps beginning with another; streamed, so that we stay small."""
    path = folder / "tasks.txt"
    with open(path, "w") as file:
        if first is not None:
            file.write(f"{first}\n")
            count -= 1
        for begin in range(0, count, 10_000):
            file.write(f"{command}\n" * min(10_000, count - begin))
    return path


def count_lines(path: Path) -> int:
    """How many lines a file has."""
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def peak_memory(pid: int) -> float:
    """VmHWM of a process, in MB (10^6 bytes). Source: proc(5), /proc/PID/status, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(pid)  # a zombie has none


def proportional_memory(pids: Sequence[int]) -> float:
    """Sum of PSS of processes, in MB (10^6 bytes). Source: proc(5), /proc/PID/smaps_rollup, in KiB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total * 1024 / 1e6


def children(pid: int) -> list[int]:
    """The processes a process has started. A farmer's are its workers; tasks are theirs."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state not in "ZX":
                found.append(int(name))
    return found
