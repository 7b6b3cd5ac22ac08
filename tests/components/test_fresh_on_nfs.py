"""Kernel NFS shows a host nothing new of a file that any of its processes has open for writing; farmers see it all the same."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import nfs_guest
import pytest
from nfs_guest import Nfs
from test_fresh_files import CHANGES, put, seen

from taskfarmer.system.presence import Presence
from taskfarmer.system.vigil import Vigil

pytestmark = pytest.mark.campaign

BOOTING = 600


def in_a_guest(nfs: Nfs, what: str) -> None:
    if (why := nfs_guest.missing()) is not None:
        pytest.skip(why)
    nfs_guest.run(nfs, [sys.executable, __file__, what], BOOTING)


@pytest.mark.parametrize("version", ["4.2", "3"])
def test_a_file_is_seen_as_another_host_left_it_though_a_neighbour_has_it_open_for_writing(version: str) -> None:
    """A program that starts on this host opens the files of the farm for a moment, to see whether it may write them."""
    in_a_guest(Nfs(version), "see")


def see() -> None:
    here, there = nfs_guest.MOUNTS
    for change, (before, after) in CHANGES.items():
        put(here / change, before)
        with open(there / change, "r+b") as kept:
            assert kept.read() == before, change
            put(here / change, after)
            assert seen(there / change) == (len(after), after), change


def test_who_has_the_presence_of_a_living_farmer_because_locks_lie_sees_that_it_lives() -> None:
    in_a_guest(Nfs("3", ",nolock"), "watch")


def watch() -> None:
    here, there = nfs_guest.MOUNTS
    farmer = Presence(str(here / "alive"), create=True)
    vigil = Vigil(str(there / "alive"), window=30.0)
    for number in range(30):
        farmer.beat()
        assert not vigil.proves_death(100.0 + 3.0 * number)
    assert vigil.has_begun, "here locks exclude"


if __name__ == "__main__":
    {"see": see, "watch": watch}[sys.argv[1]]()
