"""The farm of a round: a list that grows, verbs that are run while farmers work, and what was found wrong on the way."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import taskfarmer

from .programs import Program
from .tasks import SCRIPT, lines


class Violation(Exception):
    """A promise is broken; the text is the evidence."""


class Farm:
    """A new folder with its tasklist and its workdir. `brisk`: many tasks that take no time."""

    def __init__(self, folder: Path, rng: random.Random, brisk: bool, program_path: Path | None) -> None:
        self.folder = folder.resolve()
        self.workdir = self.folder / "tasks.txt_workdir"
        self.effects = self.folder / "effects"
        self.commands: list[str] = []
        self.programs: list[Program] = []
        self.verbs: list[Program] = []  # those that may still run
        self.requeues: list[tuple[float, float]] = []
        self.violations: list[str] = []
        self.program_path = program_path or Path(taskfarmer.__file__).parents[1]
        self._rng = rng
        self._brisk = brisk
        self._sizes: list[int] = []  # how many lines the list has had
        for name in ("locks", "said"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "task.sh").write_text(SCRIPT)
        self.effects.touch()
        self.workdir.mkdir()  # so that it can be watched from the first moment on

    # The list

    def grow(self, least: int, most: int | None = None) -> None:
        """Add so many lines to the list, or so many and more, but fewer than `most`."""
        count = least if most is None else self._rng.randrange(least, most)
        new = lines(self._rng, count * 10 if self._brisk else count, self._brisk)
        with (self.folder / "tasks.txt").open("a") as file:
            file.write("".join(f"{line}\n" for line in new))
        self.commands += new
        self._sizes.append(len(self.commands))

    def left(self) -> int:
        """How many tasks have not ended."""
        ended = (self.workdir / name for name in ("finished", "failed"))
        return len(self.commands) - sum(path.read_bytes().count(b"\n") for path in ended if path.exists())

    def is_loaded(self) -> bool:
        """Whether there is something to ask about."""
        path = self.workdir / "farm.json"
        return path.exists() and bool(path.read_bytes())

    # What is run on it

    def start(self, *words: str) -> Program:
        """Start the program on this host."""
        program = Program(self.folder, len(self.programs), [*words, "tasks.txt"], self.program_path)
        self.programs.append(program)
        return program

    def ask(self, verb: str) -> None:
        """Start `status` or `retry`."""
        self.verbs.append(self.start(verb, "--json"))

    def judge_verbs(self) -> None:
        """Look at how those have ended that are over."""
        for verb in [verb for verb in self.verbs if verb.status() is not None]:
            self.verbs.remove(verb)
            self._judge(verb)

    def _judge(self, verb: Program) -> None:
        assert verb.ended is not None
        if verb.words[0] == "retry":
            self.requeues.append((verb.begun, verb.ended))
        if wrong := self._wrong_end(verb):
            self.violations.append(f"{verb.words} (pid {verb.pid}): {wrong}; it said:\n{verb.said}")

    def _wrong_end(self, verb: Program) -> str:
        status = verb.status()
        if "Traceback" in verb.said:
            return "a traceback"
        if status == -signal.SIGKILL and signal.SIGKILL in verb.signals:
            return ""
        if status not in ((0,) if verb.words[0] == "retry" else (0, 1, 75)):
            return f"exit {status}"
        return self._wrong_counts(verb) if verb.words[0] == "status" else ""

    def _wrong_counts(self, status: Program) -> str:
        said = json.loads(status.said)
        total = sum(said[state] for state in ("toprocess", "running", "finished", "failed"))
        return "" if total in self._sizes else f"{total} tasks in all, the list has had {self._sizes}"
