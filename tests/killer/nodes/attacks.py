"""The plan of a round on nodes: what is to be hit, how, and when; and what else happens to the farm. All from one seed."""

from __future__ import annotations

import random
from enum import Enum
from typing import NamedTuple, Sequence, Union

from ..attacks import Aim, Deed


class Blow(Enum):
    """What is done."""

    POWER = "power cut of a node"
    FARMER = "SIGKILL to a farmer alone"
    WORKER = "SIGKILL to a worker alone"
    GROUP = "SIGKILL to a farmer with its workers"
    STEPD = "SIGKILL to slurmstepd"
    KILL = "scancel --signal=KILL"
    TERM = "scancel --signal=TERM"
    USR1 = "scancel --signal=USR1"
    CANCEL = "scancel"
    SUSPEND = "scontrol suspend and resume"
    STALL = "SIGSTOP and SIGCONT to a farmer with its workers"


#: What ends something without its being asked.
KILLS = frozenset((Blow.POWER, Blow.FARMER, Blow.WORKER, Blow.GROUP, Blow.STEPD, Blow.KILL))


class Attack(NamedTuple):
    """One blow. Times in seconds.

    `who`: which of those that can be hit; `wait`: before the aim is taken; `delay`: after the moment that was aimed at;
    `pause`: how long a node is without power, or something is stalled. `told`: somebody tells Slurm that the node is down, and
    later that it is up again; else it must find out.
    """

    blow: Blow
    aim: Aim
    who: int
    wait: float
    delay: float
    pause: float
    told: bool


Step = Union[Attack, Deed]

_BLOWS = {
    Blow.POWER: 10,
    Blow.FARMER: 5,
    Blow.WORKER: 4,
    Blow.GROUP: 5,
    Blow.STEPD: 2,
    Blow.KILL: 2,
    Blow.TERM: 1,
    Blow.USR1: 2,
    Blow.CANCEL: 2,
    Blow.SUSPEND: 1,
    Blow.STALL: 2,
}
#: What is quick enough to hit a moment.
_QUICK = {
    Blow.POWER: ([Aim.RANDOM, Aim.EXCHANGE, Aim.START_UP, Aim.TASK_START, Aim.TASK_END], [3, 4, 1, 1, 1]),
    Blow.FARMER: ([Aim.RANDOM, Aim.EXCHANGE, Aim.START_UP], [2, 3, 1]),
    Blow.GROUP: ([Aim.RANDOM, Aim.EXCHANGE, Aim.START_UP], [2, 3, 1]),
    Blow.WORKER: ([Aim.RANDOM, Aim.TASK_START, Aim.TASK_END], [1, 1, 1]),
}
_DEEDS = ([Deed.STATUS, Deed.RETRY, Deed.GROW], [3, 3, 2])


def plan(rng: random.Random, kills: int, blows: Sequence[Blow] = tuple(Blow)) -> list[Step]:
    """Such blows, of which so many kill, with other deeds between them."""
    steps: list[Step] = []
    while kills:
        attack = _attack(rng, blows)
        steps.append(attack)
        kills -= attack.blow in KILLS
        if rng.random() < 0.3:
            steps.append(rng.choices(*_DEEDS)[0])
    return steps


def _attack(rng: random.Random, blows: Sequence[Blow]) -> Attack:
    blow = rng.choices(blows, [_BLOWS[blow] for blow in blows])[0]
    aim = rng.choices(*_QUICK[blow])[0] if blow in _QUICK else Aim.RANDOM
    return Attack(
        blow,
        aim,
        rng.randrange(1 << 16),
        rng.uniform(0.3, 2.0) if rng.random() < 0.85 else rng.uniform(2, 4),
        rng.uniform(0.005, 0.3) if aim is Aim.START_UP else rng.choice((0, 0, 0.001, 0.004)),
        # Longer than what proves a silent farmer dead, or not.
        rng.uniform(0.1, 3) if rng.random() < 0.6 else rng.uniform(11, 16),
        rng.random() < 0.75,
    )
