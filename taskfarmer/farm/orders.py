"""What a farmer and its workers say to each other, over a line of their own: plain data."""

from typing import Any, NamedTuple

from taskfarmer.farm.heartbeat import Contact
from taskfarmer.model import Attempt, Claim, Owner

LOGS = ("all", "failed", "none")


class Setup(NamedTuple):
    """What every worker is told when it starts. Times in seconds, `log_limit` in bytes (0: none).

    `contact` is memory that is shared with the farmer, so the workers must be forked from it.
    """

    owner: Owner
    workdir: str
    shared: bool
    runner: tuple[type, dict[str, Any]]
    logs: str = "all"
    log_limit: int = 0
    task_timeout: float | None = None
    grace: float = 5.0
    keep_mpi_env: bool = False
    contact: Contact | None = None


class Hello(NamedTuple):
    """Farmer to worker: the slot you work in."""

    slot: int


class Work(NamedTuple):
    """Farmer to worker: run these one after another. `settled`: all you have reported is settled."""

    claims: list[Claim]
    settled: bool


class Halt(NamedTuple):
    """Farmer to worker: end what you run, within `grace` seconds, and start nothing more. Said again: now."""

    grace: float


class Report(NamedTuple):
    """Worker to farmer: what has ended, what will not be started here, and whether the worker is free.

    `trouble`: a disk refused what had to be written. `runs_on`: what ended tasks left running, and we could not end.
    """

    attempts: list[Attempt]
    returned: list[Claim]
    idle: bool
    trouble: str = ""
    runs_on: str = ""
