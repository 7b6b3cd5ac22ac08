"""The cases: each runs one round and gives numbers by the names that stand in targets.ini.

A case is `case(place, sizes) -> dict of name to value`. What is compared is run in the same round, one after the other,
in an order that turns from round to round.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, NamedTuple

from bench.claims import claim_seconds, finish_all_but
from bench.measure import (
    PROGRAM,
    BenchError,
    Place,
    children,
    count_lines,
    environment,
    peak_memory,
    proportional_memory,
    tail,
    wall,
    write_list,
)

XARGS_SH = ["xargs", "-d", "\n", "-P2", "-n1", "sh", "-c"]
XARGS_TRUE = ["xargs", "-d", "\n", "-P2", "-n1", "true"]
WORKERS = 8
_SAMPLE = 0.1


class Sizes(NamedTuple):
    """How large everything is. `watch`: seconds a farm of many lines is watched; `starts`: single tasks per round."""

    tasks: int = 10_000
    growth: tuple[int, ...] = (1_000, 10_000, 100_000)
    exchanges: int = 300
    claim_lines: tuple[int, int] = (10_000, 1_000_000)
    many: int = 1_000_000
    huge: int = 0
    watch: float = 15.0
    starts: int = 10


QUICK = Sizes(
    tasks=500, growth=(100, 300, 1_000), exchanges=60, claim_lines=(3_000, 30_000), many=30_000, watch=3.0, starts=3
)

Numbers = dict[str, float]


def trues(place: Place, sizes: Sizes) -> Numbers:
    """`true` many times: we, xargs, GNU Parallel."""
    n = sizes.tasks
    runs = {
        "farm": lambda: farm(place, n, "true"),
        "xargs sh -c": lambda: peer(place, XARGS_SH, n, "true"),
        "xargs true": lambda: peer(place, XARGS_TRUE, n, "true"),
    }
    if has_gnu_parallel():
        runs["parallel"] = lambda: parallel(place, n, "true")
    took = place.in_turn(runs)
    numbers = {f"true / {name}": took[name] / took["farm"] for name in took if name != "farm"}
    numbers["true / parallel"] = numbers.get("true / parallel", math.nan)
    return numbers


def shell_lines(place: Place, sizes: Sizes) -> Numbers:
    """Lines that need a shell."""
    n = sizes.tasks
    took = place.in_turn(
        {
            "farm": lambda: farm(place, n, "true; true"),
            "xargs": lambda: peer(place, XARGS_SH, n, "true; true"),
        }
    )
    return {"shell lines / xargs sh -c": took["xargs"] / took["farm"]}


def growth(place: Place, sizes: Sizes) -> Numbers:
    """Whether the time per task grows with the list."""
    ours: dict[int, float] = {}
    theirs: dict[int, float] = {}
    for n in (1, *sizes.growth):
        times = [_growth_pair(place, n) for _ in range(sizes.starts if n == 1 else 1)]
        ours[n] = statistics.median(took["farm"] for took in times)
        theirs[n] = statistics.median(took["xargs"] for took in times)
    return {"growth of time": exponent(ours), "growth of time, xargs": exponent(theirs)}


def _growth_pair(place: Place, n: int) -> dict[str, float]:
    return place.in_turn({"farm": lambda: farm(place, n, "true"), "xargs": lambda: peer(place, XARGS_SH, n, "true")})


def claim(place: Place, sizes: Sizes) -> Numbers:
    """An exchange with a long list beside one with a short list."""
    few, many = sizes.claim_lines
    short, long = claim_seconds(place, few, many, sizes.exchanges)
    return {"claim": long / short}


def many_lines(place: Place, sizes: Sizes) -> Numbers:
    """A million lines: the first task, memory, and a restart near the end."""
    folder, numbers = watched(place, sizes.many, sizes.watch)
    if sizes.watch < math.inf:
        finish_all_but(10, folder)
        numbers["restart"] = wall([*PROGRAM, "-n", str(WORKERS), "tasks.txt"], folder)
    check_all_finished(folder, sizes.many)
    if sizes.huge:
        huge = watched(place, sizes.huge, sizes.watch)[1]
        numbers["memory at ten times the lines"] = huge["farmer memory"] / numbers["farmer memory"]
    return numbers


def one_task(place: Place, sizes: Sizes) -> Numbers:
    """What it costs to start."""
    ratios = []
    for _ in range(sizes.starts):
        took = place.in_turn(
            {
                "farm": lambda: farm(place, 1, "true", ()),
                "python": lambda: wall([sys.executable, "-c", "pass"], place.fresh()),
            }
        )
        ratios.append(took["farm"] / took["python"])
    return {"one task": statistics.median(ratios)}


CASES: dict[str, Callable[[Place, Sizes], Numbers]] = {
    "trues": trues,
    "shell-lines": shell_lines,
    "growth": growth,
    "claim": claim,
    "many-lines": many_lines,
    "one-task": one_task,
}


def farm(place: Place, n: int, command: str, flags: tuple[str, ...] = ("-n", "2")) -> float:
    """We: seconds for n times this command, each with its log and recorded."""
    folder = place.fresh()
    write_list(folder, n, command)
    took = wall([*PROGRAM, *flags, "tasks.txt"], folder)
    check_all_finished(folder, n)
    if len(os.listdir(folder / "tasks.txt_workdir" / "logs")) != n:
        raise BenchError(f"{folder}: not every task has a log")
    return took


def peer(place: Place, argv: list[str], n: int, command: str) -> float:
    """Somebody who reads the list from standard input."""
    folder = place.fresh()
    return wall(argv, folder, stdin=write_list(folder, n, command))


def parallel(place: Place, n: int, command: str) -> float:
    """GNU Parallel with its record of what ran."""
    folder = place.fresh()
    took = wall(["parallel", "--will-cite", "-j2", "--joblog", "joblog"], folder, write_list(folder, n, command))
    if count_lines(folder / "joblog") != n + 1:
        raise BenchError(f"{folder}: not every task is in the joblog")
    return took


def has_gnu_parallel() -> bool:
    """Whether `parallel` is here, and GNU's: moreutils has another."""
    if not shutil.which("parallel"):
        return False
    about = subprocess.run(["parallel", "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return about.stdout.startswith("GNU parallel")


def check_all_finished(folder: Path, n: int) -> None:
    """The work was really done."""
    finished = count_lines(folder / "tasks.txt_workdir" / "finished")
    if finished != n:
        raise BenchError(f"{folder}: {finished} of {n} tasks are finished")


def exponent(seconds: dict[int, float]) -> float:
    """The slope of log(wall - wall of one task) over log(n), by least squares."""
    more = {n: took - seconds[1] for n, took in seconds.items() if n > 1}
    if min(more.values()) <= 0:
        return math.nan  # so few tasks that they cannot be seen
    return statistics.linear_regression([math.log(n) for n in more], [math.log(took) for took in more.values()]).slope


def watched(place: Place, lines: int, seconds: float) -> tuple[Path, Numbers]:
    """Start a farm on many lines, watch it from its first task on, then stop it; what was seen."""
    folder = place.fresh()
    write_list(folder, lines, "true", first="touch first")
    with open(folder / "said", "wb") as said:
        os.sync()
        began = time.time()
        farmer = subprocess.Popen(
            [*PROGRAM, "-n", str(WORKERS), "tasks.txt"], cwd=folder, env=environment(),
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        peak = together = 0.0
        stop_at = math.inf
        while farmer.poll() is None:
            try:
                peak = max(peak, peak_memory(farmer.pid))
                together = max(together, proportional_memory([farmer.pid, *children(farmer.pid)]))
            except (FileNotFoundError, ProcessLookupError):
                continue  # one of them has just left
            if stop_at == math.inf and (folder / "first").exists():
                stop_at = time.monotonic() + seconds
            if time.monotonic() > stop_at:
                farmer.send_signal(signal.SIGINT)
                stop_at = math.nan  # asked once
            time.sleep(_SAMPLE)
    finally:
        farmer.kill()
    if farmer.returncode not in (0, 75):
        raise BenchError(f"{lines} lines: exit {farmer.returncode}:\n{tail(folder / 'said')}")
    first = (folder / "first").stat().st_mtime - began
    return folder, {"first task": first, "farmer memory": peak, "farm memory": together}
