"""Scenes: the real program is run, and what it says is kept in `messages/`, to be read as prose.

`UPDATE_MESSAGES=1 pytest tests/cli` writes these files anew. Read the difference before you commit it.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Iterator

from conftest import PROGRAM, on_host

MESSAGES = Path(__file__).parent / "messages"


class Scene:
    """A folder in which a person types commands; what they see is written down."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str] = []

    def write(self, *commands: str, name: str = "tasks.txt") -> None:
        """Write a tasklist."""
        (self.path / name).write_text("".join(f"{command}\n" for command in commands))

    def say(self, what: str) -> None:
        """Write down what the person did that is not a command of ours."""
        self.seen += [f"({what})", ""]

    def type(self, *words: str) -> None:
        """Run `pytaskfarmer.py WORDS` to its end and write down what it says."""
        self.show_end(self.start(*words), *words)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Run `pytaskfarmer.py WORDS` beside us. End it with `show_end`."""
        return subprocess.Popen(
            [*PROGRAM, *words],
            cwd=self.path,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def start_on(self, host: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        """The same on a host of that name, with these variables."""
        return subprocess.Popen(
            [*on_host(host), *PROGRAM, *words],
            cwd=self.path,
            env={**os.environ, **environment},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def show_end(self, process: subprocess.Popen[str], *words: str) -> None:
        """Wait for what was started, and write down what it said."""
        said, _ = process.communicate(timeout=60)
        typed = " ".join(f"'{word}'" if " " in word or not word else word for word in words)
        # Which task took longest, and whether one took a second at all, depends on what else the host is doing.
        lines = [normal(line, self.path) for line in said.splitlines() if "slowest: " not in line]
        self.seen += [f"$ pytaskfarmer.py {typed}".rstrip(), *lines, f"exit {process.returncode}", ""]

    def check(self, name: str) -> None:
        """Compare with what is expected to be seen, or make it that."""
        path = MESSAGES / f"{name}.txt"
        seen = "\n".join(self.seen).rstrip("\n") + "\n"
        if os.environ.get("UPDATE_MESSAGES"):
            path.write_text(seen)
        assert seen == path.read_text(), (
            f"if this is how it should read: UPDATE_MESSAGES=1 pytest {Path(__file__).parent}"
        )


def normal(line: str, here: Path) -> str:
    """A line of output without what differs from run to run and from host to host."""
    host = re.escape(os.uname().nodename)
    line = line.replace(str(here), "/here")
    line = re.sub(rf"{host}\.\d+\.\d+\.\w+", "HOST.PID.START.NONCE", line)
    line = re.sub(rf"(^|on |is |waiting for |\"host\": \"){host}\b", r"\1HOST", line)
    line = re.sub(r'(\(pid |worker |"pid": )\d+', r"\1PID", line)
    line = re.sub(r"^pytaskfarmer \d+\.\d+\.\d+\w*", "pytaskfarmer VERSION", line)
    line = re.sub(r"\d+\.\d+ (s|tasks/s|tasks/min)\b", r"N \1", line)
    line = line.replace("(N tasks/min,", "(N tasks/s,")  # a busy machine, or a patient scene
    line = re.sub(r"in \d+:\d\d:\d\d \(", "in H:MM:SS (", line)
    line = re.sub(r"busy \d+%", "busy N%", line)
    line = re.sub(r"\d+\.\d ms$", "N ms", line)
    line = re.sub(r": \w+ from \S+, asked by", ": FILESYSTEM, asked by", line)
    line = re.sub(r"(two processes of |farmers on |^)" + host + r"(?=$|:)", r"\1HOST", line)
    line = re.sub(r"see this filesystem \(\w+\)", "see this filesystem (TYPE)", line)
    line = re.sub(r"(a new name|a new size|a removal) (after \S+ s|at once)", r"\1 SOON", line)
    line = re.sub(r"[-+]N s, give or take N s", "N s, give or take N s", line)
    line = re.sub(r"(room for +)\d.*", r"\1ROOM", line)
    return re.sub(r"(slots? \(default\)|slots?); (?:this job may|\d+ cores? ).*", r"\1; CORES", line)


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def left_behind(folder: Path) -> dict[str, str]:
    """Every file and folder under a folder, with its content: to see that nothing was touched."""
    return {str(path.relative_to(folder)): _content(path) for path in _walk(folder)}


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _content(path: Path) -> str:
    return "(a folder)" if path.is_dir() else path.read_text(errors="replace")
