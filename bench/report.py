"""Targets, and the table that says what was measured and whether it is enough."""

from __future__ import annotations

import configparser
import math
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import NamedTuple, Sequence

from bench.cases import Numbers

_FILE = Path(__file__).with_name("targets.ini")


class Target(NamedTuple):
    """What a number must reach; neither limit: it is only published."""

    name: str
    what: str
    at_least: float | None
    at_most: float | None

    def is_met(self, value: float) -> bool:
        """Whether a value is good enough."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""


def read_targets() -> list[Target]:
    """The targets, in the order of their file."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(_FILE)
    return [
        Target(name, parser[name]["what"], parser[name].getfloat("at_least"), parser[name].getfloat("at_most"))
        for name in parser.sections()
    ]


def unmet(targets: Sequence[Target], rounds: Sequence[Numbers]) -> list[str]:
    """The targets that were measured and missed."""
    return [
        target.name
        for target in targets
        if (seen := _seen(target, rounds)) and not target.is_met(statistics.median(seen))
    ]


def markdown(targets: Sequence[Target], rounds: Sequence[Numbers], sizes: NamedTuple, where: str, quick: bool) -> str:
    """One table: the median over the rounds, its spread, the target, met or not."""
    unknown = {name for numbers in rounds for name in numbers} - {target.name for target in targets}
    assert not unknown, f"not in targets.ini: {unknown}"
    lines = [
        f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores, {_filesystem(where)}, "
        f"{sys.platform} {platform.release()}; medians of {len(rounds)} interleaved rounds.",
        "",
    ]
    if quick:
        lines += [f"**--quick: sizes are not those of the targets** ({sizes})", ""]
    lines += ["| what | measured | min..max | target | met |", "|---|---|---|---|---|"]
    for target in targets:
        if any(target.name in numbers for numbers in rounds):
            lines.append(_row(target, _seen(target, rounds)))
    return "\n".join(lines)


def _row(target: Target, seen: Sequence[float]) -> str:
    if not seen:
        return f"| {target.what} | **not measured** | | {target} | ? |"
    value = statistics.median(seen)
    met = "" if not str(target) else "yes" if target.is_met(value) else "**NO**"
    return f"| {target.what} | {value:.3g} | {min(seen):.3g}..{max(seen):.3g} | {target} | {met} |"


def _seen(target: Target, rounds: Sequence[Numbers]) -> list[float]:
    values = [numbers[target.name] for numbers in rounds if target.name in numbers]
    return [value for value in values if not math.isnan(value)]


def _filesystem(path: str) -> str:
    """The type of the file system a path is on. Source: proc(5), /proc/self/mountinfo."""
    device = os.stat(path).st_dev if os.path.exists(path) else os.stat(os.path.dirname(path)).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[2] == number:
            return words[words.index("-") + 1]
    return "unknown file system"
