"""The text store: a farm as files that a person can `cat`. See stores/lines.py for the names and the lines.

    toprocess --claim--> running/OWNER/claims --settle--> finished, failed
        ^                        |                           |
        +------ give back -------+           later <--retry--+

Every arrow is one exchange (stores/section.py, stores/journal.py), so each id stands in exactly one place once it is
over. What one owner holds, and how it comes and goes, is in stores/claims.py; the dead are in stores/recovery.py. Here
is what people ask of all tasks.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Callable, Generator, Iterable, Iterator, Mapping, Sequence

from taskfarmer.model import Attempt, Claim, Owner, Record, State, Task
from taskfarmer.stores import lists
from taskfarmer.stores.base import Added, Company, Exchange, Glance, Parting, Recovered
from taskfarmer.stores.claims import Claims
from taskfarmer.stores.lines import STATE_FILES, decode, encode, number_lines, read_tasks, task_line
from taskfarmer.stores.placing import Placing
from taskfarmer.stores.recovery import Recovery
from taskfarmer.stores.section import Section
from taskfarmer.stores.sight import Sight
from taskfarmer.stores.tidy import Tidy
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system.leftovers import Leader
from taskfarmer.system.presence import Presence, Sign
from taskfarmer.tasklists.base import TaskList


class TextStore:
    """The tasks of one workdir.

    `retries`: how often a failed task goes back behind the rest before it counts as failed.
    """

    def __init__(
        self,
        workdir: Workdir,
        retries: int = 0,
        tell: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.path, self.owner, self.shared = workdir.path, workdir.owner, workdir.shared
        self._workdir = workdir
        self._owners = workdir.owners
        self._tell = tell
        self._tidy = Tidy(workdir, tell)
        self._placing = Placing(retries)
        self._claims = Claims(workdir, self._tidy, self._placing)
        self._recovery = Recovery(workdir, self._tidy, self._placing, tell)
        self._sight = Sight(workdir)
        self._has_joined = False

    @property
    def is_new(self) -> bool:
        """Whether no list was loaded yet. See Store."""
        return self._workdir.farm is None

    # A farmer's life

    def join(self, slots: int) -> Presence:
        """Become an owner."""
        presence = self._owners.join(slots, self.shared)
        self._has_joined = True
        return presence

    def meet(self, is_called_away: Callable[[], bool]) -> None:
        """Make sure that locks exclude. See TaskSource. With soft locks nothing depends on those of the filesystem."""
        if self._workdir.farm is not None and self._workdir.farm["lock"]["kind"] != "soft":
            self._owners.meet(is_called_away)

    def exchange(
        self,
        settled: Sequence[Attempt],
        want: int,
        unstarted: Sequence[Claim] = (),
        lengths: Mapping[str, int] = {},
    ) -> Exchange:
        """Settle, give back, claim. See TaskSource."""
        return self._claims.exchange(settled, want, unstarted, lengths)

    def ended(self, slot: int, claims: Sequence[Claim]) -> list[Attempt]:
        """How attempts of a lost worker ended, as far as it wrote that down."""
        ends = self._owners.ends(self.owner, slot)
        return [
            Attempt(claim, end.outcome, end.status, end.start, end.wall, end.cpu, end.memory, slot)
            for claim in claims
            if (end := ends.get(claim.token))
        ]

    def leaders(self, slot: int) -> set[Leader]:
        """The session in which the worker of a slot was running a task. See TaskSource."""
        return self._owners.leaders(self.owner, slot)

    def leave(self) -> None:
        """Stop being an owner. What is still claimed stays, for whoever recovers us."""
        if self._claims.are_none:
            self._owners.remove(self.owner)

    def leave_job(self) -> Parting:
        """Leave under the lock, so that of the farmers of a job that leave at the same time exactly one is the last."""
        with self._tidy.section(("toprocess", "later")) as section:
            is_last = not self.of_my_job()
            waiting = section.left + self._claims.count  # with ours, if we leave with any
            for owner, held in self._owners.all_claims():
                waiting += 0 if self._owners.seems_alive(owner) else len(held)
            settled = section.sizes["finished"].lines + section.sizes["failed"].lines
            self.leave()
        return Parting(is_last, waiting, settled)

    # Other owners

    @property
    def company(self) -> Company:
        """Who else there was when `recover` last looked. See TaskSource."""
        return self._recovery.company

    def recover(self) -> list[Recovered]:
        """Take over the claims of dead owners, unless somebody took over ours. See TaskSource."""
        if self._has_joined:
            self._claims.look_for_a_fence()
        return self._recovery.recover()

    def glance(self) -> Glance | None:
        """How the farm stands. See TaskSource."""
        return self._sight.glance(self._claims.count)

    def is_first_of_job(self) -> bool:
        """Whether no other owner of our batch job comes before us. See TaskSource."""
        return self._sight.is_first_of_job()

    def may_be_at_work(self, anybody: bool) -> bool:
        """Whether others may hold claims. See TaskSource."""
        return self._sight.may_be_at_work(anybody, but=self._recovery.stranded)

    def holdings(self, most: int) -> list[tuple[Owner, list[int]]]:
        """Some others that hold claims. See TaskSource."""
        return self._sight.holdings(most)

    def elsewhere(self, most: int) -> list[Owner]:
        """Owners on other hosts. See TaskSource."""
        return self._owners.elsewhere(most)

    def waiting_with(self, heed: Callable[[], None]) -> AbstractContextManager[None]:
        """Have this done while we wait for others (Workdir.waiting_with)."""
        return self._workdir.waiting_with(heed)

    def of_my_job(self) -> list[Owner]:
        """Every other owner of our batch job that lives. See Store."""
        return self._owners.of_my_job()

    def lives(self, owner: Owner) -> bool:
        """Whether an owner may still be at work. See Store."""
        return self._owners.lives(owner)

    def sign(self, owner: Owner) -> Sign | None:
        """An owner's last sign of life. See TaskSource."""
        return self._owners.sign(owner)

    # What people ask for

    def load(self, tasklist: TaskList, handler: str, replace: bool = False) -> Added:
        """Make the farm's tasks those of a list: a new farm, or one that may have seen the list before."""
        self._tidy.commands = lambda: tasklist
        with self._tidy.section(STATE_FILES) as section:
            added = lists.load(section, tasklist, handler, replace)
        if section.note:
            self._tell(section.note)
        return added

    def add(self, commands: Iterable[str]) -> Added:
        """Append tasks behind the rest, streamed: memory does not depend on their number."""
        with self._tidy.section(("later",)) as section:
            first = section.farm["next_id"]
            added = section.extend("later", number_lines(commands, first))
            section.set_farm(lists.with_tasks_of_no_list(section.farm, first + added))
            return section.added(added)

    def requeue(self, ids: Sequence[int] | None) -> int:
        """Failed tasks, all or those named, go behind the rest, and their tries are counted anew."""
        wanted = None if ids is None else frozenset(ids)
        with self._tidy.section(("failed", "later", "attempts")) as section:
            self._placing.read_attempts(section)
            return self._move_failed(section, wanted)

    def _move_failed(self, section: Section, wanted: frozenset[int] | None) -> int:
        path, attempts = os.path.join(self.path, "failed"), self._placing.attempts

        def chosen(yes: bool) -> Iterator[Task]:
            return (task for task in read_tasks(path) if (wanted is None or task.id in wanted) is yes)

        moved = section.extend("later", map(_line_of, chosen(True)))
        if moved:
            tries = (attempts.line(task.id, 0, attempts.total(task.id) + 1) for task in chosen(True))
            section.extend("attempts", tries)
            section.rewrite("failed", map(_line_of, chosen(False)))
        return moved

    def counts(self) -> dict[State, int]:
        """How many tasks stand in each state."""
        with self._tidy.section(STATE_FILES) as section:
            running = sum(len(held) for _, held in self._owners.all_claims())
            return {
                State.TOPROCESS: section.left,
                State.RUNNING: running,
                State.FINISHED: section.sizes["finished"].lines,
                State.FAILED: section.sizes["failed"].lines,
            }

    def records(self, state: State | None = None) -> Generator[Record, None, None]:
        """Every task in a state, or every task. Others wait while they are read, so that each is seen exactly once."""
        with self._tidy.section(STATE_FILES):
            yield from self._records(state)

    def _records(self, state: State | None) -> Iterator[Record]:
        if state in (None, State.RUNNING):
            for owner, held in self._owners.all_claims():
                for one in held:
                    yield Record(Task(one.id, decode(one.command)), State.RUNNING, owner)
        for name in ("finished", "failed", "toprocess", "later"):
            of_state = State.TOPROCESS if name == "later" else State(name)
            if state in (None, of_state):
                for task in read_tasks(os.path.join(self.path, name)):
                    yield Record(task, of_state)

    def close(self) -> None:
        """Let go of the lock file."""
        self._workdir.close()


def _line_of(task: Task) -> bytes:
    return task_line(task.id, encode(task.command))
