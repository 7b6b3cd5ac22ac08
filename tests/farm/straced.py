"""The real program under strace: the calls with which it changes files, and its death at one of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest
from acts import Bench, Scene
from conftest import PROGRAM, Farm, wait_until

CALLS = "openat,write,pwrite64,ftruncate,rename,unlink,mkdir,rmdir,fsync,fdatasync"
_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_OWNER = re.compile(r"running/[^/]+?\.\d+\.\d+\.[0-9a-f]{6}")


class Call(NamedTuple):
    """A system call: the `number`-th of this name in its process, and the file below the workdir that it changes."""

    pid: int
    name: str
    number: int
    file: str
    exclusive: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.file}"


def run(farm: Farm, words: tuple[str, ...], *inject: str, env: dict[str, str] | None = None) -> tuple[int, list[Call]]:
    """Run the program under strace to the end of all its processes; its status and every call that changed the workdir."""
    if not shutil.which("strace"):
        pytest.skip("there is no strace here: tests/components/install.sh strace")
    trace = farm.folder.parent / f"{farm.folder.name}.strace"
    options = [f"-e{option}" for option in (f"trace={CALLS}", "signal=none", *inject)]
    done = subprocess.run(
        ["strace", "-f", "-y", "-qq", "-s0", *options, "-o", str(trace), *PROGRAM, *words],
        cwd=farm.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
        env={**(env or os.environ), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return done.returncode, list(_calls(trace, farm.workdir))


def die_at(farm: Farm, words: tuple[str, ...], call: Call, env: dict[str, str] | None = None) -> Call | None:
    """The program is killed at this call, before it is done; returns the call at which it was.

    None if it was not: how often it opens files only to look at them is not the same in each run.
    """
    status, calls = run(farm, words, f"inject={call.name}:signal=KILL:when={call.number}", env=env)
    return [done for done in calls if done.pid == calls[0].pid][-1] if status == -9 else None


def _calls(trace: Path, workdir: Path) -> Iterator[Call]:
    counted: dict[tuple[int, str], int] = {}
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue  # the second half of a call that another process interrupted
        pid, name, rest = int(match[1]), match[2], match[3]
        number = counted[pid, name] = counted.get((pid, name), 0) + 1
        if name == "openat" and "O_CREAT" not in rest and "O_TRUNC" not in rest:
            continue
        file = _file(rest, workdir)
        if file is not None:
            yield Call(pid, name, number, file, "O_EXCL" in rest)


def _file(rest: str, workdir: Path) -> str | None:
    """The file that a call is about, if it is in the workdir: the last name, or the descriptor's."""
    names = re.findall(r'"([^"]*)"', rest.split(" = ")[0])
    name = names[-1] if names and names[-1] else (re.match(r"\d+<([^>]*)>", rest) or ["", ""])[1]
    path = workdir.parent / name
    if path != workdir and workdir not in path.parents:
        return None
    return _OWNER.sub("running/OWNER", str(path.relative_to(workdir)))


@contextmanager
def dying_at(pid: int, name: str) -> Iterator[None]:
    """A running process is killed at its next call of this name, before that is done."""
    command = ["strace", "-qq", "-p", str(pid), "-o", os.devnull, f"-etrace={name}", f"-einject={name}:signal=KILL"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as tracer:
        status = Path(f"/proc/{pid}/status")
        wait_until(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), what="strace")
        yield
        tracer.wait(timeout=60)  # it ends with the process


# Scenes


def points_of(bench: Bench) -> list[tuple[str, Call]]:
    """Where the scene's program can be killed; it is run to the end for that."""
    _, calls = run(bench.farm, bench.scene.words, env=bench.env)
    bench.go_on()
    return [(act, call) for act, call in acts_of(bench.scene, calls) if act in bench.scene.kill]


def die_and_go_on(bench: Bench, call: Call) -> Call:
    # A farmer that looks for what a dead one left opens a file for each process of this machine: as many are gone, so much
    # earlier it makes the same call.
    tries = (
        die_at(bench.reset(), bench.scene.words, call._replace(number=-(-call.number * part // 20)), bench.env)
        for part in (20, 20, 19, 18, 16, 12)
    )
    died_at = next(filter(None, tries), None)
    assert died_at, f"at {call} it was not killed"
    try:
        bench.check_what_is_left()
        bench.go_on()
    except AssertionError as error:
        raise AssertionError(f"killed at {died_at}: {error}") from error
    return died_at


def acts_of(scene: Scene, calls: list[Call]) -> list[tuple[str, Call]]:
    """Each call of the farmer, with the act it belongs to."""
    exchanges = 0
    inside = False
    found = []
    for call in calls:
        if call.pid != calls[0].pid:
            continue
        if call.file == "journal" and call.name == "openat":
            exchanges, inside = exchanges + 1, True
        found.append((_act(scene, call, exchanges, inside), call))
        if call.file == "journal" and call.name == "unlink":
            inside = False
    return found


def _act(scene: Scene, call: Call, exchanges: int, inside: bool) -> str:
    if inside:
        return scene.acts[min(exchanges, len(scene.acts)) - 1]
    if call.file == "timeline.json":
        return "timeline append"
    if exchanges == 0:
        return scene.acts[0]
    if call.name in ("unlink", "rmdir"):
        return "recover" if exchanges < 3 and "recover" in scene.acts else "leave"
    return "join"
