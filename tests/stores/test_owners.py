"""Who joins others finds out whether locks exclude between them."""

from __future__ import annotations

import fcntl
from pathlib import Path
from threading import Event, Thread

import pytest

from taskfarmer.errors import LockError
from taskfarmer.model import Owner
from taskfarmer.stores.owners import Owners
from taskfarmer.system import process

pytestmark = pytest.mark.quick


def show_signs_of_life(alive: Path, enough: Event) -> None:
    """As NFS shows them whose locks lie: not to one who has locked the file."""
    for count in range(1000):
        with open(alive, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.write(f"{count:020d} {0:020d} {0:020d} 0\n")
            except BlockingIOError:
                pass
        if enough.wait(0.1):
            return


def test_a_lock_that_lies_is_met_though_one_who_holds_it_sees_nothing_new(tmp_path: Path) -> None:
    other = Owner("n1", 4711, 1, "abcdef")
    folder = tmp_path / "running" / str(other)
    folder.mkdir(parents=True)
    (folder / "alive").touch()
    enough = Event()
    farmer = Thread(target=show_signs_of_life, args=(folder / "alive", enough))
    farmer.start()
    try:
        with pytest.raises(LockError, match="do not exclude between"):
            Owners(str(tmp_path), process.new_owner()).meet(lambda: False)
    finally:
        enough.set()
        farmer.join()
