"""Waits for the moment at which an attack is aimed, and says who is to be hit."""

from __future__ import annotations

import signal
import time
from typing import Callable, NamedTuple

from ..attacks import Aim
from ..moments import Moments, now, wait_precisely
from ..processes import send
from .attacks import Attack
from .witness import Farmer, Process, Witness

_PATIENCE = 2.0


class Victim(NamedTuple):
    """Whom the moment belongs to. None: whoever."""

    farmer: Farmer | None = None
    worker: Process | None = None


class Aims:
    """`keep_going`: what is to be done all the time, also while nobody is started."""

    def __init__(self, moments: Moments, witness: Witness, keep_going: Callable[[], None]) -> None:
        self._moments = moments
        self._witness = witness
        self._keep_going = keep_going

    def take(self, attack: Attack) -> Victim:
        """Wait for the moment, and as long after it as the attack says."""
        if attack.aim is Aim.START_UP:
            return self._next_started(attack.delay)
        victim = Victim()
        if attack.aim is Aim.EXCHANGE:
            victim = self._next_in_an_exchange()
        elif attack.aim is Aim.TASK_START:
            victim = self._next_task("start")
        elif attack.aim is Aim.TASK_END:
            victim = self._next_task("ok", "fail")
        wait_precisely(attack.delay)
        return victim

    def _next_in_an_exchange(self) -> Victim:
        for writer in self._moments.exchanges(_PATIENCE):
            farmer = writer and self._witness.find(str(writer))
            if farmer and farmer.ended is None:
                send([farmer.pid], signal.SIGSTOP)  # it stays there until it is hit
                return Victim(farmer)
        return Victim()

    def _next_started(self, delay: float) -> Victim:
        patience = now() + _PATIENCE
        before = len(self._witness.farmers)
        while now() < patience:
            self._keep_going()
            if len(self._witness.farmers) > before:
                farmer = self._witness.farmers[before]
                wait_precisely(max(0.0, farmer.begun + delay - now()))
                return Victim(farmer)
            time.sleep(0.002)
        return Victim()

    def _next_task(self, *events: str) -> Victim:
        for worker in self._moments.tasks(_PATIENCE, *events):
            if worker:
                return Victim(self._witness.find(worker.owner), self._witness.worker(*worker))
        return Victim()
