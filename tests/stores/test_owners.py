"""What one owner finds out about the others: whether locks exclude between them, and who is dead."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Iterator

import pytest
from conftest import wait_until

from taskfarmer.errors import LockError
from taskfarmer.model import Owner
from taskfarmer.stores.owners import Owners
from taskfarmer.system import process
from taskfarmer.system.presence import Presence

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


@contextmanager
def farmer_of(workdir: Path, host: str, lives: bool = True) -> Iterator[None]:
    """One on another host, whose lock anybody can have; it shows signs of life, or does not any more."""
    folder = workdir / "running" / str(Owner(host, 4711, 1, "abcdef"))
    folder.mkdir(parents=True)
    (folder / "alive").write_text(f"{0:020d} {0:020d} {0:020d} 0\n")
    enough = Event()
    farmer = Thread(target=show_signs_of_life, args=(folder / "alive", enough))
    if not lives:
        yield
        return
    farmer.start()
    try:
        yield
    finally:
        enough.set()
        farmer.join()


def test_a_lock_that_lies_is_met_though_one_who_holds_it_sees_nothing_new(tmp_path: Path) -> None:
    with farmer_of(tmp_path, "n1"), pytest.raises(LockError, match="do not exclude between"):
        Owners(str(tmp_path), process.new_owner()).meet(lambda: False)


def test_a_lock_that_lies_is_met_though_dead_farmers_of_other_hosts_lie_about(tmp_path: Path) -> None:
    """Their locks can be had, too, and they say nothing: to listen to one of them tells nothing of the living."""
    with ExitStack() as stack:
        for number in range(2, 6):
            stack.enter_context(farmer_of(tmp_path, f"n{number}", lives=False))
        stack.enter_context(farmer_of(tmp_path, "n1"))
        with pytest.raises(LockError, match="do not exclude between .* and n1 here"):
            Owners(str(tmp_path), process.new_owner()).meet(lambda: False)


def test_who_comes_at_the_same_moment_is_no_liar(tmp_path: Path) -> None:
    """Its presence was not there when we asked for it, and it moves: but now it is held."""
    other = Owner("n1", 4711, 1, "abcdef")
    folder = tmp_path / "running" / str(other)
    folder.mkdir(parents=True)

    def come() -> None:
        with ExitStack() as stack:
            presence = Presence(str(folder / "alive"), create=True)
            stack.callback(presence.close)
            while not enough.wait(0.1):
                presence.beat()

    enough, farmer = Event(), Thread(target=come)
    with farmer_of(tmp_path, "n2", lives=False):
        owners = Owners(str(tmp_path), process.new_owner())
        owners.is_proved_dead(other)
        farmer.start()
        try:
            owners.meet(lambda: False)
        finally:
            enough.set()
            farmer.join()


def test_who_was_proved_dead_as_the_holder_of_a_soft_lock_is_dead_as_the_writer_of_the_journal(tmp_path: Path) -> None:
    """Else everybody waits through a second silence, and then through a third for its tasks."""
    with farmer_of(tmp_path, "n1", lives=False):
        owners = Owners(str(tmp_path), process.new_owner(), dead_after=1.0)
        owners.locks_exclude = False
        other = Owner("n1", 4711, 1, "abcdef")
        wait_until(lambda: owners.has_died(other.host, other.pid), what="the proof")
        assert owners.has_left_its_exchange(other)
        assert owners.look_around().dead == [other]
