"""What a store is. Farmers know `TaskSource`; the verbs need the rest. Every store passes one contract test."""

from typing import Callable, Generator, Iterable, Mapping, NamedTuple, Protocol, Sequence

from taskfarmer.model import Attempt, Claim, Owner, Record, State
from taskfarmer.system.leftovers import Leader
from taskfarmer.system.presence import Sign


class Exchange(NamedTuple):
    """What came of one exchange.

    `refused` are tokens of settled attempts that were no longer ours. `left` tasks wait in the store, `finished` and
    `failed` are the whole farm's, and `running_elsewhere` are held by other owners (looked up only when nothing is left,
    else 0). `lengths` is what the farm knows of how long attempts take (see farm/lengths.py). `waited` is how many seconds
    others kept us waiting.
    """

    claims: list[Claim]
    refused: list[int]
    left: int
    finished: int
    failed: int
    running_elsewhere: int
    paused: str | None
    requests: list[int]
    lengths: Mapping[str, int] = {}  # never changed
    waited: float = 0.0


class Recovered(NamedTuple):
    """A dead owner whose tasks came back: `settled` had ended, `requeued` had not, `killed` processes still ran."""

    owner: Owner
    settled: int
    requeued: int
    killed: int


class Company(NamedTuple):
    """Who else there was when `recover` last looked.

    `others` other owners live, as far as we know, `elsewhere` of them on other hosts; `silent` ones of other hosts gave
    no sign and are watched: if that lasts, `recover` will take their tasks over; `stranded` tasks of dead ones may
    still run and could not be ended from here; of `in_doubt` others nothing tells yet whether they live, or
    only workers do, which leave when they have done what they run.
    """

    others: int = 0
    elsewhere: int = 0
    silent: Sequence[Owner] = ()
    stranded: int = 0
    in_doubt: int = 0


class Glance(NamedTuple):
    """How the farm stood after the last exchange of anybody: tasks that wait, are finished, have failed, and are held by
    other owners."""

    left: int
    finished: int
    failed: int
    running_elsewhere: int


class Parting(NamedTuple):
    """What a farmer saw when it left: whether it was the last of its batch job, how many tasks wait, how many are settled."""

    is_last: bool
    waiting: int
    settled: int


class Added(NamedTuple):
    """What `add` or `load` made of a list: `total` tasks of the farm, `new` and `dropped` by this call, and what waits,
    is finished and has failed now."""

    total: int
    new: int
    dropped: int
    left: int
    finished: int
    failed: int


class TaskSource(Protocol):
    """All that a farmer may know of a store."""

    @property
    def company(self) -> Company:
        """Who else there was when `recover` last looked."""
        ...

    def exchange(
        self,
        settled: Sequence[Attempt],
        want: int,
        unstarted: Sequence[Claim] = (),
        lengths: Mapping[str, int] = {},  # never changed
    ) -> Exchange:
        """Settle these attempts, give back claims that were never started, then claim up to `want` tasks: all or nothing.

        What goes back (unstarted, interrupted, worker lost) is next again, in the order in which it was claimed. An
        exchange gives back or claims, never both: then nothing is claimed. For unstarted claims no attempt is counted.
        `lengths` are added to what the farm knows, as long as tasks are left.
        Raises Fenced when our claims were taken over, DiskError when the disk refuses.
        """
        ...

    def ended(self, slot: int, claims: Sequence[Claim]) -> list[Attempt]:
        """How those of a lost worker's attempts ended that it had recorded before it died."""
        ...

    def meet(self, is_called_away: Callable[[], bool]) -> None:
        """Make sure, before anything is claimed, that locks exclude between us and the others. Raises LockError."""
        ...

    def leaders(self, slot: int) -> set[Leader]:
        """The session in which the worker of a slot was running a task when it last wrote."""
        ...

    def recover(self) -> list[Recovered]:
        """Take over the claims of owners that are dead, once nothing of theirs runs any more. Raises Fenced as above."""
        ...

    def glance(self) -> Glance | None:
        """How the farm stands, without keeping anybody out; None if that can only be told by an exchange. Costs little."""
        ...

    def is_first_of_job(self) -> bool:
        """Whether, when `recover` last looked, our name was the first of the owners of our batch job. Outside of one: yes."""
        ...

    def may_be_at_work(self, anybody: bool) -> bool:
        """Whether one of the other owners of our batch job, or with `anybody` of all, may hold claims. Costs little.

        Not one whose tasks are stranded. Always ask the same.
        """
        ...

    def holdings(self, most: int) -> list[tuple[Owner, list[int]]]:
        """Some others that hold claims, each with the ids of its tasks."""
        ...

    def elsewhere(self, most: int) -> list[Owner]:
        """Up to `most` owners on other hosts, chosen at random."""
        ...

    def sign(self, owner: Owner) -> Sign | None:
        """An owner's last sign of life; None when it is gone."""
        ...


class Store(TaskSource, Protocol):
    """All that the verbs need.

    `path` is where it lives, `owner` who we are in it; `shared`: what is made there is to be open to the group.
    """

    path: str
    owner: Owner
    shared: bool

    @property
    def is_new(self) -> bool:
        """Whether no list was loaded yet."""
        ...

    def add(self, commands: Iterable[str]) -> Added:
        """Append tasks behind the rest."""
        ...

    def requeue(self, ids: Sequence[int] | None) -> int:
        """Put failed tasks back to be run again, all or those named; return how many."""
        ...

    def leave_job(self) -> Parting:
        """Stop being an owner, and say what is left behind. Of the farmers of one batch job exactly one leaves last."""
        ...

    def counts(self) -> dict[State, int]:
        """How many tasks stand in each state."""
        ...

    def records(self, state: State | None = None) -> Generator[Record, None, None]:
        """Every task in a state, or every task: a generator that keeps others out until it is used up or closed."""
        ...

    def of_my_job(self) -> list[Owner]:
        """Every other owner of our batch job that lives, as far as that can be told at once."""
        ...

    def lives(self, owner: Owner) -> bool:
        """Whether an owner may still be at work. Of one on another host that is assumed."""
        ...

    def close(self) -> None:
        """Let go of locks and descriptors."""
        ...
