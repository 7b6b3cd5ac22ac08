"""What was done in a round on nodes, to whom and when: by this it is judged how farmers ended and why tasks ran again."""

from __future__ import annotations

from typing import Iterable, NamedTuple

from ..moments import now
from ..sight import Sight
from .attacks import Attack, Blow
from .witness import Farmer


class Hit(NamedTuple):
    """One attack as it happened. `victim`: a farmer's name; `pids`: outer ones, of all that got the signal."""

    time: float
    step: int
    attack: Attack
    node: str
    job: str
    victim: str
    pids: frozenset[int]
    sight: Sight

    def __str__(self) -> str:
        told = ", and Slurm is told" if self.attack.blow is Blow.POWER and self.attack.told else ""
        return (
            f"{self.time:.2f} {self.step}: {self.attack.blow.value}{told}, {self.attack.aim.value}: "
            f"{self.node}, job {self.job}, farmer {self.victim} ({self.sight}) {sorted(self.pids)}"
        )


class Trouble(NamedTuple):
    """Something after which Slurm may end what runs of a job, which has this number or this name."""

    time: float
    job: str
    what: str


class Stall(NamedTuple):
    """From when to when these were stopped (outer pids), or all of a job."""

    begin: float
    end: float
    pids: frozenset[int]
    job: str


class Log:
    """All of it, in its order. `step`: of the plan, the one that is carried out now."""

    def __init__(self) -> None:
        self.step = 0
        self.hits: list[Hit] = []
        self.troubles: list[Trouble] = []
        self.stalls: list[Stall] = []

    def hit(self, attack: Attack, farmer: Farmer, pids: Iterable[int], sight: Sight) -> None:
        """An attack happens now."""
        self.hits.append(Hit(now(), self.step, attack, farmer.node, farmer.job, farmer.name, frozenset(pids), sight))

    def trouble(self, job: str, what: str) -> None:
        """A job gets into trouble now."""
        self.troubles.append(Trouble(now(), job, what))

    def stalled(self, begin: float, pids: Iterable[int] = (), job: str = "") -> None:
        """These, or all of a job, go on now."""
        self.stalls.append(Stall(begin, now(), frozenset(pids), job))

    def troubles_of(self, farmer: Farmer) -> list[Trouble]:
        """What may have made Slurm end a farmer."""
        return [trouble for trouble in self.troubles if trouble.job in (farmer.job, farmer.job_name)]

    def about(self, farmer: Farmer) -> str:
        """What was done to a farmer, its job and its node."""
        hits = [str(hit) for hit in self.hits if hit.job == farmer.job or hit.node == farmer.node]
        return "\n".join([*hits, *map(str, self.troubles_of(farmer))]) or "(nothing was done to it)"
