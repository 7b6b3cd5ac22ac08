"""What a farmer has to say. Values only: the command line puts them into words."""

from enum import Enum
from typing import NamedTuple, Union

from taskfarmer.model import Attempt, Owner


class Ended(NamedTuple):
    """An attempt has ended; finished ones are told only on request. `again`: it goes back and will be tried again."""

    attempt: Attempt
    again: bool


class Progress(NamedTuple):
    """How far this farmer is. `left` tasks wait in the store or here, `running` are with workers."""

    finished: int
    failed: int
    running: int
    left: int
    seconds: float
    busy_seconds: float


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


class Trouble(NamedTuple):
    """Something a person should know, in words."""

    message: str


Notice = Union[Ended, Progress, Stopping, WorkerLost, OwnerLost, Silent, Trouble]


class Requeue(Enum):
    """What is to become of a batch job whose time is up."""

    NO = "no"
    YES = "yes"
    IN_VAIN = "in vain"  # work is left, but nothing was settled: it would be started again for ever


class Summary(NamedTuple):
    """What came of one farmer's run. `finished` and `failed` are its own, the `farm_` ones the whole farm's.

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
