"""The text store: a farm as files that a person can `cat`. See stores/lines.py for the names and the lines.

    toprocess --claim--> running/OWNER/claims --settle--> finished, failed
        ^                        |                           |
        +------ give back -------+           later <--retry--+

A claim reads the tail of `toprocess` and shortens the file: its cost does not depend on the length of the list. Every
arrow is one exchange (stores/section.py, stores/journal.py), so each id stands in exactly one place once it is over.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from functools import partial
from typing import Callable, Generator, Iterable, Iterator, Mapping, Sequence

from taskfarmer.errors import Fenced
from taskfarmer.model import Attempt, Claim, Outcome, Owner, Record, State, Task
from taskfarmer.stores import lists
from taskfarmer.stores.attempts import MOST, Attempts
from taskfarmer.stores.base import Added, Exchange, Parting, Recovered
from taskfarmer.stores.journal import Pending
from taskfarmer.stores.lines import (
    STATE_FILES,
    TASK_FILES,
    Size,
    broken_line,
    claim_line,
    decode,
    encode,
    number_lines,
    owner_file,
    parse_claims,
    parse_task,
    read_tasks,
    task_line,
)
from taskfarmer.stores.repair import repair
from taskfarmer.stores.section import Section
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import files, leftovers, process
from taskfarmer.system.presence import Presence, Sign
from taskfarmer.tasklists.base import TaskList

_FARM_AGE = 2.0  # seconds until a pause or a request is noticed


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
        self.workdir = workdir
        self.others = self.others_elsewhere = self.stranded = 0
        self.silent: list[Owner] = []
        self._told_stranded: set[Owner] = set()
        self._owner = workdir.owner
        self._retries = retries
        self._commands: Callable[[], Iterable[str]] | None = None
        self._tell = tell
        self._attempts = Attempts()
        self._held: dict[int, tuple[Claim, bytes]] = {}
        self._left_claims = b""  # what our `claims` held when we last left it
        self._has_joined = False
        self._serial = 0
        self._pending: _Plan | None = None
        self._settled_by_pending: frozenset[int] = frozenset()
        self._unheard: list[Claim] = []  # claimed by an exchange that raised Pending

    # A farmer's life

    def join(self, slots: int) -> Presence:
        """Become an owner."""
        presence = self.workdir.owners.join(slots, self.workdir.shared)
        self._has_joined = True
        return presence

    def meet(self, is_called_away: Callable[[], bool]) -> None:
        """Make sure that locks exclude. See TaskSource. With soft locks nothing depends on those of the filesystem."""
        if self.workdir.farm is not None and self.workdir.farm["lock"]["kind"] != "soft":
            self.workdir.owners.meet(is_called_away)

    def leave(self) -> None:
        """Stop being an owner. What is still claimed stays, for whoever recovers us."""
        if self._held or self._pending:
            return
        self.workdir.owners.remove(self._owner)

    def leave_job(self) -> Parting:
        """Leave under the lock, so that of the farmers of a job that leave at the same time exactly one is the last."""
        with self._section(("toprocess", "later")) as section:
            is_last = not self.workdir.owners.of_my_job()
            waiting = section.left
            for owner, held in self.workdir.owners.all_claims():
                waiting += 0 if self.workdir.owners.seems_alive(owner) else len(held)
            settled = section.sizes["finished"].lines + section.sizes["failed"].lines
            self.leave()
        return Parting(is_last, waiting, settled)

    def exchange(
        self,
        settled: Sequence[Attempt],
        want: int,
        unstarted: Sequence[Claim] = (),
        lengths: Mapping[str, int] = {},
    ) -> Exchange:
        """Settle, give back, claim. See TaskSource."""
        plan = _Plan()
        farm_age = 0.0 if lengths else _FARM_AGE  # what is to be replaced is read afresh
        try:
            with self._section(partial(self._files_to_touch, settled), farm_age) as section:
                self._collect_pending(section)
                self._check_not_fenced(section)
                self._read_attempts(section)
                self._settle(section, settled, unstarted, plan)
                paused = section.farm.get("paused")
                if want and not plan.gives_back and not paused:
                    self._claim(section, want, plan)
                self._write_claims(section, plan)
                if lengths and section.left:
                    _learn(section, lengths)
                left = section.left
                elsewhere = (
                    0 if left or plan.claims else self._held_by_others(section, len(self._held) - len(plan.dropped))
                )
        except Pending:
            self._pending = plan
            raise
        self._adopt(plan)
        self._settled_by_pending = frozenset()
        unheard, self._unheard = self._unheard, []
        return Exchange(
            unheard + plan.claims,
            plan.refused,
            left,
            section.sizes["finished"].lines,
            section.sizes["failed"].lines,
            elsewhere,
            paused,
            list(section.farm.get("requests", ())),
            section.farm.get("lengths", {}),
        )

    def ended(self, slot: int, claims: Sequence[Claim]) -> list[Attempt]:
        """How attempts of a lost worker ended, as far as it wrote that down."""
        ends = self.workdir.owners.ends(self._owner, slot)
        return [
            Attempt(claim, end.outcome, end.status, end.start, end.wall, end.cpu, end.memory, slot)
            for claim in claims
            if (end := ends.get(claim.token))
        ]

    def _settle(self, section: Section, settled: Sequence[Attempt], unstarted: Sequence[Claim], plan: _Plan) -> None:
        lines: dict[str, list[bytes]] = {name: [] for name in STATE_FILES}
        back: list[tuple[int, bytes]] = []
        for claim in unstarted:
            if claim.token in self._held:
                plan.dropped.append(claim.token)
                back.append((claim.token, task_line(claim.id, encode(claim.command))))
        for attempt in settled:
            claim = attempt.claim
            if claim.token not in self._held:
                if claim.token not in self._settled_by_pending:
                    plan.refused.append(claim.token)
                continue
            plan.dropped.append(claim.token)
            self._place(lines, claim.id, encode(claim.command), attempt.outcome)
            if attempt.outcome.state is State.TOPROCESS:
                back.append((claim.token, lines["toprocess"].pop()))
        back.sort(reverse=True)  # the first that was claimed is the next again
        lines["toprocess"] = [line for _, line in back]
        plan.gives_back = bool(back)
        plan.grows_later = bool(lines["later"])
        for name, of_this_state in lines.items():
            section.append(name, of_this_state)

    def _files_to_touch(self, settled: Sequence[Attempt], section: Section) -> set[str]:
        states = {attempt.outcome.state for attempt in settled}
        names = {"toprocess", *(state.value for state in states)}
        go_behind = bool(self._retries) and State.FAILED in states
        if go_behind or (section.sizes["toprocess"].lines == 0 and section.sizes["later"].lines):
            names.add("later")
        if go_behind or State.TOPROCESS in states or self._attempts.is_behind(section.sizes["attempts"].bytes):
            names.add("attempts")
        return names

    def _read_attempts(self, section: Section) -> None:
        size = section.sizes["attempts"].bytes
        if self._attempts.is_behind(size):
            self._attempts.catch_up(section.journal.file("attempts"), size)

    def _place(self, lines: dict[str, list[bytes]], id: int, command: bytes, outcome: Outcome) -> None:
        """Where a task goes after an attempt with this outcome."""
        counted, total = self._attempts.counted(id), self._attempts.total(id)
        place = outcome.state.value
        if goes_back_behind_the_rest(outcome, counted, self._retries):
            place = "later"
            counted += 1
        lines[place].append(task_line(id, command))
        if place in ("later", "toprocess"):
            lines["attempts"].append(self._attempts.line(id, counted, total + 1))

    def _claim(self, section: Section, want: int, plan: _Plan) -> None:
        if section.sizes["toprocess"].lines == 0:
            # What this exchange appends to `later` is not in the file yet: it is turned round by the next one.
            nothing = plan.grows_later or not section.sizes["later"].lines
            lines = [] if nothing else self._turn_later_round(section, want)
        else:
            lines = self._take_from_the_end(section, want)
        for id, command in lines:
            self._serial += 1
            claim = Claim(self._serial, id, self._attempts.total(id) + 1, self._attempts.counted(id), decode(command))
            plan.claims.append(claim)
            plan.lines.append(claim_line(claim.token, id, claim.attempt, command))

    def _take_from_the_end(self, section: Section, want: int) -> list[tuple[int, bytes]]:
        lines = section.last_lines("toprocess", want)
        tasks = self._parse(section, "toprocess", lines, from_the_end=True)
        size = section.sizes["toprocess"]
        taken = sum(map(len, lines)) + len(lines)
        section.cut("toprocess", max(0, size.bytes - taken), size.lines - len(lines))
        tasks.reverse()
        return tasks

    def _turn_later_round(self, section: Section, want: int) -> list[tuple[int, bytes]]:
        """Claim from the head of `later`; the rest, turned round, becomes `toprocess`."""
        source = section.journal.file("later")
        lines = files.first_lines(source, want)
        tasks = self._parse(section, "later", lines)
        begin = sum(map(len, lines)) + len(lines)
        if begin < section.sizes["later"].bytes:
            target = files.open_or_create(section.new_file("toprocess"), self.workdir.shared, os.O_TRUNC)
            try:
                count = files.write_reversed(source, begin, target)
                os.fsync(target)
                section.swap_in("toprocess", Size(files.size_of(target), count))
            finally:
                os.close(target)
        section.cut("later", 0, 0)
        return tasks

    def _parse(
        self, section: Section, name: str, lines: list[bytes], from_the_end: bool = False
    ) -> list[tuple[int, bytes]]:
        tasks = []
        for index, line in enumerate(lines):
            task = parse_task(line)
            if task is None:
                number = index + 1
                if from_the_end:
                    number += files.count_lines(section.journal.file(name)) - len(lines)
                raise broken_line(os.path.join(self.workdir.path, name), number, line)
            tasks.append(task)
        return tasks

    def _write_claims(self, section: Section, plan: _Plan) -> None:
        if plan.dropped or plan.claims:
            dropped = frozenset(plan.dropped)
            kept = [line for token, (_, line) in self._held.items() if token not in dropped]
            plan.claims_text = b"".join(kept + plan.lines)
            section.journal.replace(self._claims_name, self._left_claims, plan.claims_text)

    def _adopt(self, plan: _Plan) -> None:
        for token in plan.dropped:
            del self._held[token]
        for claim, line in zip(plan.claims, plan.lines):
            self._held[claim.token] = (claim, line)
        if plan.claims_text is not None:
            self._left_claims = plan.claims_text

    def _collect_pending(self, section: Section) -> None:
        """After a disk gave up in the middle: entering has done what was written down; `claims` says if anything was."""
        plan, self._pending = self._pending, None
        if plan is not None and self._read_claims(section) == plan.claims_text:
            self._settled_by_pending |= frozenset(plan.dropped)
            self._adopt(plan)
            self._unheard += plan.claims

    @property
    def _claims_name(self) -> str:
        return owner_file(self._owner, "claims")

    def _read_claims(self, section: Section) -> bytes | None:
        try:
            # Without O_CREAT: an owner whose folder is being removed must not come back.
            return files.read_all(section.journal.file(self._claims_name, create=False))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return None

    def _check_not_fenced(self, section: Section) -> None:
        self._compare_claims(self._read_claims(section))

    def _look_for_a_fence(self) -> None:
        """The same without the lock: only we and who takes us over write our `claims`."""
        if self._has_joined and self._pending is None:
            self._compare_claims(files.read_file(os.path.join(self.workdir.path, self._claims_name)))

    def _compare_claims(self, content: bytes | None) -> None:
        if content != self._left_claims:
            raise Fenced(
                f"{self.workdir.path}: another farmer took over the tasks of {self._owner}, of which it saw no sign of life"
            )

    def _held_by_others(self, section: Section, mine: int) -> int:
        """How many tasks stand in no file and are not ours: known without looking at each owner."""
        self.workdir.read_farm_again()
        standing = sum(section.sizes[name].lines for name in TASK_FILES)
        total: int = section.farm["next_id"] - section.farm.get("dropped", 0)
        return max(0, total - standing - mine)

    @contextmanager
    def _section(
        self, names: Iterable[str] | Callable[[Section], Iterable[str]], farm_age: float = 0.0
    ) -> Iterator[Section]:
        """A section in which these files are as the last exchange left them; what a person edited is put right first."""
        while True:
            with self.workdir.section(farm_age) as section:
                to_touch = names(section) if callable(names) else names
                if self.workdir.farm is None or not (section.was_edited(to_touch) or self._can_bring_back(section)):
                    yield section
                    return
                self.workdir.read_farm_again()  # what others have just loaded must not pass for an edit
                message = repair(
                    section, self._commands, [h for _, held in self.workdir.owners.all_claims() for h in held]
                )
            if message:
                self._tell(message)

    def _can_bring_back(self, section: Section) -> bool:
        """Whether somebody who had no list found that tasks stand in no file, and we have it."""
        return self._commands is not None and bool(section.farm.get("lost"))

    # Other owners

    def elsewhere(self, most: int) -> list[Owner]:
        """Owners on other hosts. See TaskSource."""
        return self.workdir.owners.elsewhere(most)

    def lives(self, owner: Owner) -> bool:
        """Whether an owner may still be at work. See Store."""
        return self.workdir.owners.lives(owner)

    def sign(self, owner: Owner) -> Sign | None:
        """An owner's last sign of life. See TaskSource."""
        return self.workdir.owners.sign(owner)

    def leaders(self, slot: int) -> set[leftovers.Leader]:
        """The session in which the worker of a slot was running a task. See TaskSource."""
        return self.workdir.owners.leaders(self._owner, slot)

    def recover(self) -> list[Recovered]:
        """Take over the claims of dead owners; what they left running on this host is ended first."""
        self._look_for_a_fence()
        around = self.workdir.owners.look_around()
        self.others = around.living_here + around.living_elsewhere
        self.others_elsewhere = around.living_elsewhere
        self.silent = around.silent
        self.stranded = 0
        recovered = []
        for owner in around.dead:
            # Before the lock: killing and waiting is no file work.
            killed, runs_on = self._end_leftovers(owner) if owner.host == self._owner.host else (0, "")
            unended = self._unended(owner) if runs_on else 0
            if unended:
                self._leave_stranded(owner, unended, runs_on)
            else:
                recovered.append(self._take_over(owner, killed))
        return recovered

    def _end_leftovers(self, owner: Owner) -> tuple[int, str]:
        """End what a dead owner left running: how many processes that were, and what may still run."""
        try:
            user = os.stat(self.workdir.owners.folder(owner)).st_uid
        except FileNotFoundError:
            return 0, ""  # somebody else was quicker
        mark, leaders = f"{process.OWNER_VARIABLE}={owner}", self.workdir.owners.leaders(owner)
        killed = leftovers.kill_marked(mark, leaders=leaders)
        return killed, leftovers.may_run_on(owner, user, mark, leaders=leaders)

    def _unended(self, owner: Owner) -> int:
        """How many of a dead owner's tasks may be running."""
        ends = self.workdir.owners.ends(owner)
        return sum(held.token not in ends for held in self.workdir.owners.claims_of(owner))

    def _leave_stranded(self, owner: Owner, tasks: int, runs_on: str) -> None:
        self.stranded += tasks
        if owner not in self._told_stranded:
            self._told_stranded.add(owner)
            user = files.owner_of(self.workdir.owners.folder(owner))
            self._tell(
                f"{owner.host} (pid {owner.pid}) is gone, but {runs_on} of {user} may be what it left running, and "
                f"cannot be ended from here: its tasks ({tasks}) wait until those are gone, or {user} starts a farmer"
            )

    def _take_over(self, owner: Owner, killed: int) -> Recovered:
        settled = requeued = 0
        with self._section(STATE_FILES) as section:
            claims = files.read_file(os.path.join(self.workdir.path, owner_file(owner, "claims")))
            if claims is not None:
                self._read_attempts(section)
                ends = self.workdir.owners.ends(owner)
                lines: dict[str, list[bytes]] = {name: [] for name in STATE_FILES}
                for held in parse_claims(claims):
                    end = ends.get(held.token)
                    self._place(lines, held.id, held.command, end.outcome if end else Outcome.OWNER_LOST)
                    settled, requeued = settled + bool(end), requeued + (not end)
                lines["toprocess"].reverse()
                for name, of_this_state in lines.items():
                    section.append(name, of_this_state)
                section.journal.remove(owner_file(owner, "claims"))
        self.workdir.owners.remove(owner)
        return Recovered(owner, settled, requeued, killed)

    # What people ask for

    def load(self, tasklist: TaskList, handler: str, replace: bool = False) -> Added:
        """Make the farm's tasks those of a list: a new farm, or one that may have seen the list before."""
        self._commands = lambda: tasklist
        with self._section(STATE_FILES) as section:
            added = lists.load(section, tasklist, handler, replace)
        if section.note:
            self._tell(section.note)
        return added

    def add(self, commands: Iterable[str]) -> Added:
        """Append tasks behind the rest, streamed: memory does not depend on their number."""
        with self._section(("later",)) as section:
            first = section.farm["next_id"]
            added = section.extend("later", number_lines(commands, first))
            section.set_farm(lists.with_tasks_of_no_list(section.farm, first + added))
            return section.added(added)

    def requeue(self, ids: Sequence[int] | None) -> int:
        """Failed tasks, all or those named, go behind the rest, and their tries are counted anew."""
        wanted = None if ids is None else frozenset(ids)
        with self._section(("failed", "later", "attempts")) as section:
            self._read_attempts(section)
            return self._move_failed(section, wanted)

    def _move_failed(self, section: Section, wanted: frozenset[int] | None) -> int:
        path = os.path.join(self.workdir.path, "failed")

        def chosen(yes: bool) -> Iterator[Task]:
            return (task for task in read_tasks(path) if (wanted is None or task.id in wanted) is yes)

        moved = section.extend("later", map(_line_of, chosen(True)))
        if moved:
            tries = (self._attempts.line(task.id, 0, self._attempts.total(task.id) + 1) for task in chosen(True))
            section.extend("attempts", tries)
            section.rewrite("failed", map(_line_of, chosen(False)))
        return moved

    def counts(self) -> dict[State, int]:
        """How many tasks stand in each state."""
        with self._section(STATE_FILES) as section:
            running = sum(len(held) for _, held in self.workdir.owners.all_claims())
            return {
                State.TOPROCESS: section.left,
                State.RUNNING: running,
                State.FINISHED: section.sizes["finished"].lines,
                State.FAILED: section.sizes["failed"].lines,
            }

    def records(self, state: State | None = None) -> Generator[Record, None, None]:
        """Every task in a state, or every task. Others wait while they are read, so that each is seen exactly once."""
        with self._section(STATE_FILES):
            yield from self._records(state)

    def _records(self, state: State | None) -> Iterator[Record]:
        if state in (None, State.RUNNING):
            for owner, held in self.workdir.owners.all_claims():
                for one in held:
                    yield Record(Task(one.id, decode(one.command)), State.RUNNING, owner)
        for name in ("finished", "failed", "toprocess", "later"):
            of_state = State.TOPROCESS if name == "later" else State(name)
            if state in (None, of_state):
                for task in read_tasks(os.path.join(self.workdir.path, name)):
                    yield Record(task, of_state)

    def close(self) -> None:
        """Let go of the lock file."""
        self.workdir.close()


class _Plan:
    """What an exchange will have changed in memory once it is done."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.lines: list[bytes] = []
        self.dropped: list[int] = []
        self.refused: list[int] = []
        self.gives_back = False
        self.grows_later = False
        self.claims_text: bytes | None = None


def goes_back_behind_the_rest(outcome: Outcome, counted: int, retries: int) -> bool:
    """Whether a task that ended like this, after `counted` tries that used up a retry, is to be tried again."""
    return outcome.state is State.FAILED and outcome is not Outcome.CANCELLED and counted < min(retries, MOST)


def _learn(section: Section, lengths: Mapping[str, int]) -> None:
    """Add to what `farm.json` says of how long attempts take."""
    known = section.farm.get("lengths", {})
    section.set_farm(
        {**section.farm, "lengths": {step: known.get(step, 0) + lengths.get(step, 0) for step in {*known, *lengths}}}
    )


def _line_of(task: Task) -> bytes:
    return task_line(task.id, encode(task.command))
