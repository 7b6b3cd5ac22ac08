"""A farmer hangs in its exchange, cut off from the disk, until others thought it dead and did it in its place."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Callable

import pytest
from forked import FileCalls, start_child
from textfarm import TextFarm, finished

from taskfarmer.stores.textfiles import TextStore
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process

pytestmark = pytest.mark.quick

_NOBODY = 4_200_000  # no process can have this number (PID_MAX_LIMIT of Linux)


class Door:
    """Where the one who hangs tells that it does, and waits."""

    def __init__(self) -> None:
        self._hangs, self._goes_on = os.pipe(), os.pipe()

    def wait_here(self) -> None:
        os.close(self._goes_on[1])
        os.write(self._hangs[1], b".")
        os.read(self._goes_on[0], 1)

    def wait_for_it(self) -> None:
        os.close(self._hangs[1])
        assert os.read(self._hangs[0], 1) == b".", "it did not come to hang"

    def let_it_go_on(self) -> None:
        os.write(self._goes_on[1], b".")


def settle_and_hang(farm: TextFarm, at: tuple[str, str], door: Door) -> None:
    """Claim four tasks and settle them, and hang in the call of this name on this file, as one whom others think dead."""
    store = TextStore(Workdir(str(farm.path), process.new_owner()._replace(pid=_NOBODY)))

    def instead(count: int, name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        place = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else str(args[0])
        if (name, os.path.basename(place)) != at:
            return real(*args)
        calls.armed = False
        store._workdir._lock.__exit__()  # its server has given the lock to others
        door.wait_here()
        if name == "fsync":
            raise OSError(errno.EIO, "what NFS says of a file whose lock was lost")
        return real(*args)

    calls = FileCalls(instead)
    store.join(2)
    claims = store.exchange([], 4).claims
    calls.armed = True
    store.exchange(finished(claims), 0)


@pytest.mark.parametrize("at", [("fsync", "finished"), ("unlink", "journal")], ids=" ".join)
def test_who_hung_while_another_did_its_exchange_takes_nothing_back(tmp_path: Path, at: tuple[str, str]) -> None:
    farm, door = TextFarm(tmp_path), Door()
    farm.load(*["true"] * 8)
    child = start_child(lambda: settle_and_hang(farm, at, door))
    door.wait_for_it()
    try:
        with farm.farmer() as other:
            other.exchange(finished(other.exchange([], 4).claims), 0)
        assert sorted(farm.ids("finished")) == list(range(8))
    finally:
        door.let_it_go_on()
        os.waitpid(child, 0)
    assert sorted(farm.ids("finished")) == list(range(8))
