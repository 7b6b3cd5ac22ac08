"""What the killer of one host writes down of an attack."""

from __future__ import annotations

from typing import NamedTuple

from .attacks import Attack
from .sight import Sight


class Hit(NamedTuple):
    """One attack as it happened. `pids`: all that got the signal; `victim` is the farmer's pid that they belong to."""

    time: float
    step: int
    attack: Attack
    victim: int
    pids: list[int]
    what: str  # "farmer", "worker", or the verb that was hit
    sight: Sight
    tasks: int  # how many workers among them had a running task

    def __str__(self) -> str:
        return (
            f"{self.time:.2f} {self.step}: {self.attack.signal.name} to {self.attack.target.value}, "
            f"{self.attack.aim.value}: {self.what} {self.victim} ({self.sight}, {self.tasks} tasks running) {self.pids}"
        )
