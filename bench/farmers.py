"""Many real farmers of one farm, each a process with one slot: how long they hold the lock, and how long they wait for it."""

from __future__ import annotations

import json
import math
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Sequence

from bench.measure import BenchError, Place, count_lines, environment, tail, write_list
from bench.simulation import LockModel

#: Seconds of a task: short enough that each farmer wants an exchange as often as it may, long enough to leave the processors idle.
LENGTH = 0.5
_SETTLING = 2 / 3  # of the time that is watched: until what happened while they came is over
_PATIENCE = 120.0
_SYNCS = 0.0005  # a section that took less wrote nothing


class Measured(NamedTuple):
    """What `farmers` processes did within `seconds`. `waiting`: share of their time; `holds`: seconds of each exchange."""

    farmers: int
    seconds: float
    waiting: float
    idle: float
    holds: list[float]


def measure(place: Place, farmers: int, seconds: float) -> Measured:
    """Start them, wait until all of them work, and watch them for a while."""
    folder = place.fresh()
    write_list(folder, int(farmers * (3 * seconds + _PATIENCE) / LENGTH), f"sleep {LENGTH}")
    running = [_start(folder, number) for number in range(farmers)]
    try:
        _wait_until_all_work(folder, farmers)
        time.sleep(seconds * _SETTLING)
        began, done = time.monotonic(), _settled(folder)
        time.sleep(seconds)
        ended, done = time.monotonic(), _settled(folder) - done
        for farmer in running:
            farmer.send_signal(signal.SIGINT)
        codes = [farmer.wait(_PATIENCE) for farmer in running]
    finally:
        for farmer in running:
            farmer.kill()
    if set(codes) != {75}:
        raise BenchError(f"{farmers} farmers: exits {sorted(set(codes))}:\n{tail(folder / 'said_0')}")
    notes = [note for number in range(farmers) for note in json.loads((folder / f"notes_{number}").read_text())]
    within = [(waited, held) for at, waited, held in notes if began <= at < ended]
    return Measured(
        farmers,
        ended - began,
        sum(waited for waited, _ in within) / (farmers * (ended - began)),
        max(0.0, 1 - done * LENGTH / (farmers * (ended - began))),
        [held for _, held in within if held >= _SYNCS],
    )


def _start(folder: Path, number: int) -> subprocess.Popen[bytes]:
    argv = [
        sys.executable,
        "-m",
        "bench.noted",
        str(folder / f"notes_{number}"),
        "-n",
        "1",
        "--logs",
        "none",
        "tasks.txt",
    ]
    with open(folder / f"said_{number}", "wb") as said:
        return subprocess.Popen(
            argv, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )


def _wait_until_all_work(folder: Path, farmers: int) -> None:
    patience = time.monotonic() + _PATIENCE
    while sum(path.stat().st_size > 0 for path in folder.glob("tasks.txt_workdir/running/*/claims")) < farmers:
        if time.monotonic() > patience:
            raise BenchError(f"{folder}: {farmers} farmers did not all begin:\n{tail(folder / 'said_0')}")
        time.sleep(0.1)


def _settled(folder: Path) -> int:
    return count_lines(folder / "tasks.txt_workdir" / "finished")


def fit(measured: Sequence[Measured]) -> dict[int, LockModel]:
    """For each number of farmers how long the lock is held: lognormal."""
    models = {}
    for one in measured:
        logs = [math.log(held) for held in one.holds]
        models[one.farmers] = LockModel(math.exp(statistics.mean(logs)), statistics.stdev(logs), per_task=5e-6)
    return models
