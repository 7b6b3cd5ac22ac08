"""A farmer that is cut off from its disk ends its tasks before others take them over; one that was suspended does not."""

from __future__ import annotations

import os
import signal
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Iterator

import pytest
from conftest import wait_until

from taskfarmer.farm import heartbeat
from taskfarmer.farm.heartbeat import Contact, Heartbeat, Leash
from taskfarmer.farm.orders import Report, Setup, Work
from taskfarmer.farm.worker import Worker
from taskfarmer.model import Claim, Outcome, Owner
from taskfarmer.runners.basic import BasicRunner
from taskfarmer.stores.owners import Owners
from taskfarmer.system import proctable, vigil
from taskfarmer.system.presence import BEAT, Presence, read_sign

pytestmark = pytest.mark.quick


class Clock:
    """The time, as this test sees it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heartbeat, "clock", clock)
    return clock


def torn_after(leash: Leash, clock: Clock, seconds: float) -> bool:
    """Whether a worker that looks every five seconds has ended its task by then."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(end, clock.now + BEAT)
        if leash.is_torn():
            return True
    return False


def test_half_a_window_without_contact_ends_the_tasks_before_others_take_them_over(clock: Clock) -> None:
    leash = Leash(Contact(30.0), os.getpid(), print)
    assert not torn_after(leash, clock, 15.0)
    assert torn_after(leash, clock, 5.0)


def test_contact_that_is_renewed_keeps_them(clock: Clock) -> None:
    contact = Contact(30.0)
    leash = Leash(contact, os.getpid(), print)
    for _ in range(20):
        assert not torn_after(leash, clock, 15.0)
        contact.renew()


def test_after_a_suspension_contact_is_given_time_to_come_back(clock: Clock) -> None:
    contact = Contact(30.0)
    leash = Leash(contact, os.getpid(), print)
    clock.now += 3600.0
    assert not leash.is_torn(), "nobody could look, so nobody could write either"
    contact.renew()
    assert not torn_after(leash, clock, 15.0)
    clock.now += 3600.0
    leash.is_torn()
    assert torn_after(leash, clock, 20.0), "it did not come back"


def test_a_stopped_farmer_is_not_cut_off(clock: Clock) -> None:
    farmer = os.fork()
    if not farmer:
        signal.pause()
    try:
        os.kill(farmer, signal.SIGSTOP)
        wait_until(lambda: proctable.is_stopped(farmer))
        leash = Leash(Contact(30.0), farmer, print)
        assert not torn_after(leash, clock, 120.0)
    finally:
        os.kill(farmer, signal.SIGKILL)
        os.waitpid(farmer, 0)


def test_workers_see_the_contact_of_their_farmer(clock: Clock) -> None:
    contact = Contact(30.0)
    clock.now += 20.0
    assert contact.is_silent()
    pid = os.fork()
    if not pid:
        contact.renew()
        os._exit(0)
    os.waitpid(pid, 0)
    assert not contact.is_silent()


def test_the_counter_moves_whatever_the_farmer_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    path = str(tmp_path / "alive")
    presence = Presence(path, create=True)
    contact = Contact(30.0)
    began = contact.last()
    with Heartbeat(presence, lambda: (7, 3), contact):
        wait_until(lambda: (sign := read_sign(path)) is not None and sign.beats > 5)
    sign = read_sign(path)
    assert sign and (sign.well, sign.failing) == (7, 3) and contact.last() > began
    presence.close()


def test_a_sign_that_the_disk_refuses_is_no_contact(tmp_path: Path, clock: Clock) -> None:
    presence = Presence(str(tmp_path / "alive"), create=True)
    contact = Contact(30.0)
    beat = Heartbeat(presence, lambda: (0, 0), contact).beat
    presence.close()  # writing fails from now on
    clock.now += 20.0
    beat()
    assert contact.is_silent()


# A worker on its leash


def serve_where_nothing_is_acknowledged(setup: Setup, line: Connection) -> None:
    """A worker's life in a process of its own; its leash looks often, and says each time that it was torn."""
    heartbeat.BEAT = heartbeat._AGAIN = 0.02
    worker = Worker(setup, 0, line, os.getppid())
    assert worker._leash is not None
    end_task = worker._leash._end_task
    worker._leash._end_task = lambda: ((Path(setup.workdir) / "torn").touch(), end_task())
    worker.serve()


@pytest.fixture
def a_worker(tmp_path: Path) -> Iterator[tuple[Connection, Contact]]:
    """A worker that has something to do whenever it is sent over this line, and the contact of its farmer."""
    owner, contact = Owner("n1", os.getpid(), 1, "abcdef"), Contact(0.2)
    presence = Owners(str(tmp_path), owner).join(1, shared=False)
    setup = Setup(owner, str(tmp_path), False, (BasicRunner, {"shell_mode": "auto"}), logs="none", contact=contact)
    ours, theirs = Pipe()
    pid = os.fork()
    if not pid:
        ours.close()
        try:
            serve_where_nothing_is_acknowledged(setup, theirs)
        finally:
            os._exit(0)
    theirs.close()
    yield ours, contact
    ours.close()
    os.waitpid(pid, 0)
    presence.close()


def outcome_of(line: Connection, command: str) -> Outcome:
    """How this worker says that a task of its has ended."""
    line.send(Work([Claim(1, 1, 1, 0, command)], False))
    while True:
        assert line.poll(30)
        report = line.recv()
        assert isinstance(report, Report)
        if report.attempts:
            return report.attempts[0].outcome


def test_what_a_worker_begins_after_an_idle_time_without_contact_is_not_interrupted(
    tmp_path: Path, a_worker, clock: Clock
) -> None:
    line, contact = a_worker
    wait_until((tmp_path / "torn").exists, what="that its leash is torn while it has nothing to do")
    clock.now = vigil.clock() + 3600.0
    contact.renew()  # and that lasts, however slow this machine is
    assert outcome_of(line, "true") is Outcome.FINISHED


def test_what_a_worker_runs_while_there_is_no_contact_is_interrupted(a_worker) -> None:
    line, _ = a_worker
    assert outcome_of(line, "sleep 600") is Outcome.INTERRUPTED
