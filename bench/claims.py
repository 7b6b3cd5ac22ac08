"""Exchanges with the store alone, without a farmer: what a claim costs, and a list worked off in no time."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from bench.measure import Place, write_list
from taskfarmer.model import Attempt, Claim, Outcome
from taskfarmer.stores.textfiles import TextStore
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process
from taskfarmer.tasklists.lines import ListTaskList

PER_EXCHANGE = 25
_AT_ONCE = 20_000


class Farm:
    """One farm of a list, as its only owner."""

    def __init__(self, folder: Path) -> None:
        tasklist, workdir = str(folder / "tasks.txt"), str(folder / "tasks.txt_workdir")
        self._store = TextStore(Workdir(workdir, process.new_owner()))
        self._store.load(ListTaskList(tasklist, workdir), "default")
        self._presence = self._store.join(1)
        self._held: list[Claim] = []
        self.left = 0

    def exchange(self, want: int) -> int:
        """Settle what we hold as finished, claim `want` more; how many we got."""
        result = self._store.exchange([Attempt(claim, Outcome.FINISHED) for claim in self._held], want)
        self._held, self.left = result.claims, result.left
        return len(result.claims)

    def close(self) -> None:
        """Settle everything and leave."""
        self.exchange(0)
        self._store.leave()
        self._presence.close()
        self._store.close()


def claim_seconds(place: Place, few: int, many: int, exchanges: int) -> tuple[float, float]:
    """The median of an exchange at few and at many lines, taken in turns."""
    exchanges = min(exchanges, few // PER_EXCHANGE - 2)
    farms = []
    for lines in (few, many):
        folder = place.fresh()
        write_list(folder, lines, "true")
        farms.append(Farm(folder))
    for farm in farms:
        farm.exchange(PER_EXCHANGE)  # the first one turns the list round
    os.sync()
    took: list[list[float]] = [[], []]
    for count in range(exchanges):
        for which in (count % 2, 1 - count % 2):
            begun = time.perf_counter()
            got = farms[which].exchange(PER_EXCHANGE)
            took[which].append(time.perf_counter() - begun)
            assert got == PER_EXCHANGE
    for farm in farms:
        farm.close()
    return statistics.median(took[0]), statistics.median(took[1])


def finish_all_but(rest: int, folder: Path) -> None:
    """Settle tasks of a list as finished, without running them, until `rest` are left."""
    farm = Farm(folder)
    farm.exchange(1)
    while farm.left > rest:
        farm.exchange(min(_AT_ONCE, farm.left - rest))
    farm.close()
