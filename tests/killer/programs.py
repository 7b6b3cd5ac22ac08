"""The program as the killer runs it on its own host, farmers and other verbs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from .moments import now
from .processes import processes
from .sight import Sight, sight_of

STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_UNWANTED = ("TASKFARMER_", "SLURM_", "PMI", "OMPI_", "SCRATCH", "PYTEST_", "BASH_ENV", "ENV")


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
