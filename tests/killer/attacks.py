"""The plan of a round: what is to be hit, how, and when; and what else happens to the farm. All from one seed."""

from __future__ import annotations

import random
import signal
from enum import Enum
from typing import NamedTuple, Sequence, Union


class Aim(Enum):
    """The moment that an attack waits for."""

    RANDOM = "at random"
    EXCHANGE = "in an exchange"
    OPENING = "in one of its first exchanges"
    START_UP = "at start-up"
    TASK_START = "at a task's start"
    TASK_END = "at a task's end"


class Target(Enum):
    """Who is hit."""

    FARMER = "a farmer alone"
    WORKER = "a worker alone"
    GROUP = "a farmer with its workers"
    EVERYTHING = "everything"


class Attack(NamedTuple):
    """One signal to one target. Times in seconds.

    `wait`: before the aim is taken; `delay`: after the moment that was aimed at; `who`: which of those that can be hit;
    `pause`: how long a stalled one stays stalled. `look`: stop the victim first, so that what it was doing is certain.
    """

    aim: Aim
    target: Target
    signal: signal.Signals
    who: int
    wait: float
    delay: float
    pause: float
    look: bool


class Deed(Enum):
    """What else happens to the farm."""

    STATUS = "status --json"
    RETRY = "retry"
    GROW = "lines are added to the list"
    BY_HAND = "cat failed >> toprocess; rm failed"


Step = Union[Attack, Deed]

_TARGETS = {
    Aim.RANDOM: ([Target.FARMER, Target.WORKER, Target.GROUP, Target.EVERYTHING], [6, 6, 5, 1]),
    Aim.EXCHANGE: ([Target.FARMER, Target.GROUP], [1, 1]),
    Aim.OPENING: ([Target.FARMER, Target.GROUP], [1, 1]),
    Aim.START_UP: ([Target.FARMER, Target.GROUP], [1, 1]),
    Aim.TASK_START: ([Target.WORKER, Target.GROUP], [4, 1]),
    Aim.TASK_END: ([Target.WORKER, Target.GROUP], [4, 1]),
}
_AIMS = dict(zip(_TARGETS, [8, 6, 2, 3, 1, 3]))
_KILL, _STOP = signal.SIGKILL, signal.SIGSTOP
_SIGNALS = ([_KILL, _STOP, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], [14, 3, 1, 1, 1])
_DEEDS = ([*Deed], [4, 4, 2, 1])


def plan(
    rng: random.Random, kills: int, aims: Sequence[Aim] = tuple(Aim), targets: Sequence[Target] = tuple(Target)
) -> list[Step]:
    """Attacks with these aims on these targets, of which so many are SIGKILLs, with other deeds between them."""
    steps: list[Step] = []
    while kills:
        attack = _attack(rng, aims)
        if attack.target not in targets:
            continue
        steps.append(attack)
        kills -= attack.signal is _KILL
        if rng.random() < 0.3:
            steps.append(rng.choices(*_DEEDS)[0])
    return steps


def _attack(rng: random.Random, aims: Sequence[Aim]) -> Attack:
    aim = rng.choices(aims, [_AIMS[aim] for aim in aims])[0]
    target = rng.choices(*_TARGETS[aim])[0]
    return Attack(
        aim,
        target,
        rng.choices(*_SIGNALS)[0],
        rng.randrange(1 << 16),
        rng.uniform(0, 0.25) if rng.random() < 0.8 else rng.uniform(0.25, 1.5),
        rng.uniform(0.005, 0.12) if aim is Aim.START_UP else rng.choice((0, 0, 0.0005, 0.001, 0.002, 0.004, 0.008)),
        rng.uniform(0.05, 1.5) if rng.random() < 0.9 else rng.uniform(3, 7),
        rng.random() < 0.7,
    )
