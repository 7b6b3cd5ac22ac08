"""Before a farm is founded nobody knows which lock is the farm's: who come at once may each hold one of their own.

Then the journal alone keeps them apart, and that it comes and goes is no lie of a lock.
"""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread
from typing import Callable, Iterator

import pytest

from taskfarmer.errors import LockError
from taskfarmer.stores.lines import STATE_FILES
from taskfarmer.stores.section import alone_in
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process

pytestmark = pytest.mark.quick

TIMES = 40


@pytest.fixture
def come(tmp_path: Path) -> Iterator[Callable[[str], Workdir]]:
    """Somebody who would have the lock in this folder."""
    came: list[Workdir] = []

    def come(place: str) -> Workdir:
        (tmp_path / place).mkdir(exist_ok=True)
        came.append(Workdir(str(tmp_path / "work"), process.new_owner(), lock_dir=str(tmp_path / place)))
        return came[-1]

    yield come
    for workdir in came:
        workdir.close()


class Busy:
    """Somebody who is in and out of a workdir all the time."""

    def __init__(self, workdir: Workdir) -> None:
        self._workdir = workdir
        self._ends = False
        self._thread = Thread(target=self._go_in_and_out)
        self.told: LockError | None = None

    def __enter__(self) -> Busy:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends = True
        self._thread.join()

    def _go_in_and_out(self) -> None:
        try:
            while not self._ends:
                go_in(self._workdir)
                time.sleep(0.003)  # as often without a journal as with one
        except LockError as error:
            self.told = error


def go_in(workdir: Workdir) -> None:
    with alone_in(workdir):
        pass


def found(workdir: Workdir) -> None:
    with alone_in(workdir) as section:
        for name in STATE_FILES:
            section.journal.file(name)
        section.set_farm(workdir.found_farm())


def test_two_with_different_locks_before_there_is_a_farm_wait_for_each_other(come: Callable[[str], Workdir]) -> None:
    one, other = come("one"), come("other")
    with Busy(one) as busy:
        for _ in range(TIMES):
            go_in(other)
    assert busy.told is None


def test_who_learns_inside_which_lock_is_the_farms_disturbs_nobody(come: Callable[[str], Workdir]) -> None:
    founder = come("one")
    late = [come("other") for _ in range(TIMES)]
    found(founder)
    with Busy(founder) as busy:
        for workdir in late:
            go_in(workdir)
            assert workdir.farm == founder.farm
    assert busy.told is None


def test_who_cannot_read_what_the_farm_is_leaves_no_journal_behind(come: Callable[[str], Workdir]) -> None:
    workdir, other = come("one"), come("one")
    found(workdir)
    farm = Path(workdir.path, "farm.json")
    well = farm.read_bytes()
    farm.write_text("no farm")
    with pytest.raises(Exception, match="no farm.json of PyTaskFarmer"):
        go_in(workdir)
    farm.write_bytes(well)
    assert not Path(workdir.path, "journal").exists()
    go_in(other)
