"""What a farmer has to say. Values only: the command line puts them into words."""

from enum import Enum
from typing import NamedTuple, Sequence, Union

from taskfarmer.model import Attempt, Owner


class Ended(NamedTuple):
    """An attempt has ended; finished ones are told only on request. `again`: it goes back and will be tried again."""

    attempt: Attempt
    again: bool


class Progress(NamedTuple):
    """How far this farmer is; or, if it has `company`, all of them. Of a batch job only one farmer says it.

    `left` tasks wait, `running` are with workers; `before`: so many were done when this farmer began.
    """

    finished: int
    failed: int
    running: int
    left: int
    seconds: float
    busy_seconds: float
    before: int = 0
    company: bool = False


class Stopping(NamedTuple):
    """A stop has begun: `running` tasks get `grace` seconds. `held_back` ones would not fit before the job ends."""

    reason: str
    running: int
    grace: float
    drain: bool
    held_back: int = 0


class WorkerLost(NamedTuple):
    """A worker process died."""

    pid: int
    slot: int


class OwnerLost(NamedTuple):
    """A dead farmer's tasks are back: `settled` of them had ended."""

    owner: Owner
    settled: int
    requeued: int
    killed: int


class Silent(NamedTuple):
    """Nobody holds the presence of a farmer on another host: it is dead, unless it shows a sign of life soon."""

    owner: Owner


class Staying(NamedTuple):
    """Nothing is left to start, but others still hold tasks, `running` in all: we wait, should one of them come back."""

    running: int


class Trouble(NamedTuple):
    """Something a person should know, in words."""

    message: str


Notice = Union[Ended, Progress, Stopping, WorkerLost, OwnerLost, Silent, Staying, Trouble]


def unended(who: str) -> str:
    """What a person should know of processes that were to be ended, and could not be."""
    return f"what cannot be ended from here runs on: {who}"


class Requeue(Enum):
    """What is to become of a batch job whose time is up."""

    NO = "no"
    YES = "yes"
    IN_VAIN = "in vain"  # work is left, but nothing was settled: it would be started again for ever


class Summary(NamedTuple):
    """What came of one farmer's run. `finished` and `failed` are its own, the `farm_` ones the whole farm's.

    `holdings`: some of those that still hold tasks, with their ids. `speaks`: whether it is the one to say how far all of
    the farmers of its job are.
    `in_doubt`: some of those that still hold tasks may be dead, and nobody else there to do these.
    `slowest`: (task id, seconds), longest first. `failed_ids`: at most a thousand. `times_up`: it stopped only because
    its time was over.
    """

    finished: int
    failed: int
    farm_finished: int
    farm_failed: int
    failed_ids: list[int]
    interrupted: int
    left: int
    running_elsewhere: int
    seconds: float
    busy_seconds: float
    slots: int
    slowest: list[tuple[int, float]]
    stopped: str | None
    gave_up: str | None
    times_up: bool = False
    requeue: Requeue = Requeue.NO
    holdings: Sequence[tuple[Owner, list[int]]] = ()
    speaks: bool = False
    in_doubt: bool = False
