"""A farmer that is cut off from its disk ends its tasks before others take them over; one that was suspended does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import wait_until

from taskfarmer.farm import heartbeat
from taskfarmer.farm.heartbeat import Contact, Heartbeat, Leash
from taskfarmer.system import process
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
        wait_until(lambda: process.is_stopped(farmer))
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
