"""The words of the farm as values: task, claim, attempt, outcome, owner.

They are named tuples and not dataclasses because a thousand nodes import this module at once, and
`dataclasses` alone would take as long to load as everything else in it.
"""

from enum import Enum
from typing import Mapping, NamedTuple


class State(Enum):
    """Where a task stands. Each task stands in exactly one."""

    TOPROCESS = "toprocess"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class Outcome(Enum):
    """How an attempt ended; `word` is how files and messages name it, `state` where it leaves the task."""

    FINISHED = "finished", State.FINISHED
    FAILED = "failed", State.FAILED
    KILLED = "killed", State.FAILED
    TIMED_OUT = "timed-out", State.FAILED
    OUT_OF_MEMORY = "out-of-memory", State.FAILED
    NOT_STARTED = "not-started", State.FAILED
    NOT_ENDED = "not-ended", State.FAILED
    CANCELLED = "cancelled", State.FAILED
    INTERRUPTED = "interrupted", State.TOPROCESS
    WORKER_LOST = "worker-lost", State.TOPROCESS
    OWNER_LOST = "owner-lost", State.TOPROCESS

    # Plain attributes, not properties: these are read several times for each of millions of tasks.
    def __init__(self, word: str, state: State) -> None:
        self.word = word
        self.state = state


OUTCOMES = {outcome.word: outcome for outcome in Outcome}


class Task(NamedTuple):
    """An id and the command the user wrote (undecodable bytes as surrogate escapes)."""

    id: int
    command: str


class Claim(NamedTuple):
    """One owner's right to run one task. `token` names this claim and no other of its owner."""

    token: int
    id: int
    attempt: int
    failures: int
    command: str


class Attempt(NamedTuple):
    """One execution of a task, as its worker saw it end.

    `status` is the exit status or, when killed, the signal. `start` is in seconds since the epoch, `wall` and
    `cpu` in seconds, `memory` the peak resident set of the largest process in KiB, 0 if it was less than the worker's
    own (about 20 MiB), below which the kernel does not tell. `note` says why, when `outcome` and `status` do not.
    """

    claim: Claim
    outcome: Outcome
    status: int = 0
    start: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    slot: int = 0
    note: str = ""

    def ended(self) -> str:
        """The outcome in words: `exit 1`, `killed (signal 9)`, `timed out`."""
        if self.outcome is Outcome.FAILED:
            return f"exit {self.status}"
        if self.outcome is Outcome.KILLED:
            return f"killed (signal {self.status})"
        return self.outcome.word.replace("-", " ")


class Owner(NamedTuple):
    """The holder of claims: one process, named so that the name is never used again.

    Written `HOST.PID.STARTTIME.NONCE`; `start` is the process's start in clock ticks since boot
    (field 22 of proc(5) `/proc/PID/stat`), so a recycled pid is another owner. In a batch job the nonce ends with its
    number: `a1b2c3-4711`.
    """

    host: str
    pid: int
    start: int
    nonce: str

    @property
    def job(self) -> str:
        """The batch job it runs in, "" outside of one."""
        return self.nonce.partition("-")[2]

    def is_mate_of(self, other: "Owner") -> bool:
        """Whether both run in the same batch job."""
        return bool(self.job) and self.job == other.job

    def __str__(self) -> str:
        return f"{self.host}.{self.pid}.{self.start}.{self.nonce}"

    @classmethod
    def parse(cls, name: str) -> "Owner | None":
        """The owner a folder in `running/` is named after, None if it is not such a name."""
        parts = name.rsplit(".", 3)
        if len(parts) != 4 or not (parts[1].isdigit() and parts[2].isdigit()):
            return None
        return cls(parts[0], int(parts[1]), int(parts[2]), parts[3])


class Slot(NamedTuple):
    """What one running task may use. Nothing is bound unless it was asked for."""

    number: int
    cores: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    memory: int = 0


class Launch(NamedTuple):
    """How a command is started: what a runner says.

    `program` is the file to execute, `argv` what it is told, beginning with its name; `env` adds to the environment of
    tasks, and takes away what is None. `fallback` is started when the kernel refuses the program (not there, not
    executable, a script without `#!`), so that a shell can do, or say, what it would have done in the first place.
    `folder` is made before and kept; `scratch` is made before, for this user alone, and removed with all in it after.
    `tells`: there is a shell in it that says when its setup is over and the command begins (system/launching.py).
    """

    program: str
    argv: tuple[str, ...]
    env: Mapping[str, str | None] = {}  # never changed
    cwd: str | None = None
    fallback: "Launch | None" = None
    folder: str | None = None
    scratch: str | None = None
    tells: bool = False


class Record(NamedTuple):
    """A task and its state, for the verbs that report. `owner` holds it when it is running."""

    task: Task
    state: State
    owner: Owner | None = None
