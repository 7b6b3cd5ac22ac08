"""What all tests share: a folder with a tasklist, the real program, and looks at what it left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest

pytest_plugins = "farmhands"

PROGRAM = [sys.executable, "-m", "taskfarmer"]
STATE_FILES = ("toprocess", "later", "finished", "failed")


class Farm:
    """A folder with a tasklist, and the real program run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tasklist = folder / "tasks.txt"
        self.workdir = folder / "tasks.txt_workdir"

    def write(self, *commands: str) -> Farm:
        """Write the tasklist, one command per line."""
        self.tasklist.write_text("".join(f"{command}\n" for command in commands))
        return self

    def run(
        self, *flags: str, check: int | None = None, timeout: float = 60, **options
    ) -> subprocess.CompletedProcess[str]:
        """Run `pytaskfarmer.py FLAGS tasks.txt` to its end; `check` is the exit status that is expected."""
        done = self.call(*flags, "tasks.txt", timeout=timeout, **options)
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def call(self, *words: str, timeout: float = 60, **options) -> subprocess.CompletedProcess[str]:
        """Run `pytaskfarmer.py WORDS` in the folder."""
        return subprocess.run(
            [*PROGRAM, *words],
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            **options,
        )

    def start(self, *flags: str, **options) -> subprocess.Popen[str]:
        """Start `pytaskfarmer.py FLAGS tasks.txt` and return at once. End what you start."""
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.STDOUT)
        return subprocess.Popen([*PROGRAM, *flags, "tasks.txt"], cwd=self.folder, text=True, **options)

    def start_on(self, host: str, *flags: str, **environment: str) -> subprocess.Popen[str]:
        """The same on a host of that name, with these variables. End what you start."""
        return subprocess.Popen(
            [*on_host(host), *PROGRAM, *flags, "tasks.txt"],
            cwd=self.folder,
            env={**os.environ, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def lines(self, name: str) -> list[str]:
        """The lines of a state file; none if it is not there."""
        path = self.workdir / name
        return path.read_text(errors="surrogateescape").splitlines() if path.exists() else []

    def ids(self, name: str) -> list[int]:
        """The ids in a state file, in their order."""
        return [int(line.split(" ", 1)[0]) for line in self.lines(name)]

    def waiting(self) -> list[int]:
        """The ids that wait, in the order in which they will run."""
        return self.ids("toprocess")[::-1] + self.ids("later")

    def log(self, id: int) -> str:
        """The output of a task."""
        return (self.workdir / "logs" / f"log_{id}").read_text(errors="surrogateescape")

    def assert_each_task_stands_once(self, count: int) -> None:
        """P2 at rest: nobody holds a claim, and each id stands in exactly one place."""
        running = self.workdir / "running"
        held = [line for claims in running.glob("*/claims") for line in claims.read_text().splitlines()]
        assert held == [], held
        standing = sorted(id for name in STATE_FILES for id in self.ids(name))
        assert standing == list(range(count))


def on_host(name: str) -> list[str]:
    """What is put before a command to have it run on a host of that name (uts_namespaces(7))."""
    return ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]


def wait_until(condition: Callable[[], object], timeout: float = 30.0, what: str = "the condition") -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout} s"
        time.sleep(0.02)


def processes_with(text: str) -> list[int]:
    """Pids of living processes whose command line holds a text."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if text in command and state not in "ZX":
                found.append(int(name))
    return found


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody_is_left_behind: None) -> Farm:
    """A farm in an empty folder, untouched by the environment of whoever runs the tests."""
    for name in ("SCRATCH", "BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "POSIXLY_CORRECT"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "PMI", "OMPI_", "TASKFARMER_"))]:
        monkeypatch.delenv(name)
    return Farm(tmp_path)
