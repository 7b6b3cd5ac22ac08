"""Looks at the processes of a farm, for the tests of the farm at work."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest
from conftest import Farm, wait_until


def processes_in(folder: Path, text: str = "") -> list[int]:
    """Pids of living processes that are at work in `folder` or below it, if their command line holds `text`."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(os.readlink(f"/proc/{name}/cwd")).is_relative_to(folder):
                command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if text in command and int(name) != os.getpid():
                    found.append(int(name))
        except OSError:
            continue  # it has ended, or is a zombie
    return found


def children_of(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] not in "ZX":
            found.append(int(name))
    return found


def parent_of(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    """Signal these processes; those that are gone already do not matter."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def ended(farmer: subprocess.Popen[str], timeout: float = 20) -> tuple[int, str]:
    """Wait for a farmer; its exit status and what it said."""
    said, _ = farmer.communicate(timeout=timeout)
    return farmer.returncode, said


def assert_nothing_runs_in(folder: Path) -> None:
    """No process that was started in this folder is left."""
    left = []
    for pid in processes_in(folder):
        try:
            left.append((pid, Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")))
        except OSError:
            continue  # it has just ended
    assert left == [], f"left running: {left}"


def all_exist(farm: Farm, *names: str) -> bool:
    """Whether these files are in the farm's folder."""
    return all((farm.folder / name).exists() for name in names)


def wait_for(farm: Farm, *names: str) -> None:
    """Wait until these files are in the farm's folder."""
    wait_until(lambda: all_exist(farm, *names), what=f"files {names}")


@pytest.fixture
def nobody_is_left_behind(tmp_path: Path) -> Iterator[None]:
    """Whatever a failed test has left running ends with it. Every `farm` has it; who has none asks for it."""
    yield
    for _ in range(3):
        kill(processes_in(tmp_path))
