"""The farmer: claims tasks, feeds them to its workers, settles what came of them, until nothing is left or it must stop.

loop:  exchange(done, want)      one lock, for many tasks
       workers <- claims         plain data only
       done += reports           timeline, notices
"""

import time
from collections import deque
from typing import Callable, Mapping, NamedTuple

from taskfarmer.errors import DiskError, Fenced, WorkdirGone
from taskfarmer.farm.deadline import Deadline, JobEnd
from taskfarmer.farm.health import AT_ONCE, Health
from taskfarmer.farm.heartbeat import Contact, Heartbeat
from taskfarmer.farm.notices import Ended, Notice, OwnerLost, Silent, Stopping, Summary, Trouble, WorkerLost
from taskfarmer.farm.pace import Pace
from taskfarmer.farm.pool import Crew, Heard, Lost
from taskfarmer.farm.stop import Stop, StopRequest
from taskfarmer.farm.tally import Tally
from taskfarmer.farm.timeline import Timeline
from taskfarmer.model import Attempt, Claim, Outcome, Owner, State
from taskfarmer.stores.base import Added, Recovered, TaskSource
from taskfarmer.stores.owners import DEAD_AFTER
from taskfarmer.system import files
from taskfarmer.system.presence import Presence
from taskfarmer.system.vigil import SAMPLES

_LOOK_FOR_THE_DEAD = 4.0
_TICK = 0.5
#: How long a disk that refuses is tried again before the farmer leaves, and how often.
_DISK_PATIENCE, _DISK_PAUSE = 10.0, 0.5
_MOST_STILLBORN = 20
#: After the grace of a stop: killing takes up to 2 s, writing down and reporting the rest.
_PATIENCE_WITH_WORKERS = 3.0
#: After that: we have killed the workers that did not answer, and end their tasks ourselves.
_PATIENCE_WITH_TASKS = 1.5


class Policy(NamedTuple):
    """What the user asked of this farmer. Times in seconds.

    `job_end`: when to be gone; what `expect` says a task takes must fit before it.
    """

    retries: int = 0
    retry_delay: float = 0.0
    max_failures: int | None = None
    grace: float = 5.0
    tell_finished: bool = False
    job_end: JobEnd | None = None
    expect: float | None = None
    sick_node_stop: bool = True
    dead_after: float = DEAD_AFTER


class DiskTrouble:
    """A disk that refuses: since when, when to try again, and what was said of it."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.try_at = 0.0
        self.told: set[str] = set()


class Farmer:
    """One farmer's work on one store."""

    def __init__(
        self,
        store: TaskSource,
        before: Added,
        tally: Tally,
        presence: Presence,
        contact: Contact | None,
        crew: Crew,
        slots: int,
        stop: Stop,
        timeline: Timeline,
        policy: Policy,
        end_leftovers: Callable[[int, int], object],
        tell: Callable[[Notice], None],
    ) -> None:
        self._store = store
        self._heartbeat = Heartbeat(presence, self._vitals, contact)
        self._contact = contact
        self._crew = crew
        self._slots = slots
        self._stop = stop
        self._timeline = timeline
        self._policy = policy
        self._end_leftovers = end_leftovers
        self._tell = tell
        now = time.monotonic()
        self._looked_at = now
        self._deadline = Deadline(policy.job_end, policy.expect, slots)
        self._tally = tally
        self._left_before = before.left
        self._pace = Pace(slots, now)
        self._backlog: deque[Claim] = deque()
        self._done: list[Attempt] = []
        self._delayed: list[tuple[float, Attempt]] = []
        self._given_at: dict[int, float] = {}
        self._lost_once: set[int] = set()
        self._told_silent: set[Owner] = set()
        self._looked_back = False
        self._health = Health(store, tell, trusted=not policy.sick_node_stop)
        self._stillborn = 0
        self._left: int | None = None
        self._polled_at = 0.0
        self._stopping: StopRequest | None = None
        self._hurried = False
        self._kill_workers_at = self._leave_at = float("inf")
        self._gave_up: str | None = None
        self._fenced: Fenced | None = None
        self._store_trouble, self._worker_trouble = DiskTrouble(), DiskTrouble()

    def run(self) -> Summary:
        """Work until nothing is left, or until told to stop; nothing of ours is claimed afterwards.

        Raises Fenced once what ran is ended when others took our claims over: we may go on under another name.
        """
        with self._heartbeat:
            return self._work()

    def _work(self) -> Summary:
        self._store.meet(lambda: self._stop.request is not None)
        self._visit_store(self._recover)
        while not self._may_leave():
            self._heed_end_of_job()
            self._heed_stop()
            self._heed_deaf_workers()
            self._exchange_if_due()
            self._feed()
            events = self._crew.wait(self._seconds_to_wait())
            for event in events:
                self._hear(event)
            self._feed()  # no worker waits while we look at what came back
            for event in events:
                self._take(event)
            self._stop.clear_wakeup()
            self._look_around()
            self._tell(self._tally.progress(self._crew.busy_claims(), self._not_begun))
        self._timeline.flush()
        if self._fenced is not None:
            self._tally.interrupted = 0  # what was ended here is others' to run, and to answer for
            raise self._fenced
        left = self._left_before if self._left is None else self._left
        left += self._store.company.stranded
        times_up = bool((request := self._stop.request) and request.times_up) and self._gave_up is None
        return self._tally.summary(left, self._stopping.reason if self._stopping else None, self._gave_up, times_up)

    @property
    def _not_begun(self) -> int:
        return (self._left or 0) + len(self._backlog) + len(self._delayed)

    @property
    def _is_done_with(self) -> bool:
        """Whether the store has nothing to do with us any more."""
        return self._gave_up is not None or self._fenced is not None

    def _may_leave(self) -> bool:
        """Whether nothing is left for us; those who still run something are looked at once more before we go."""
        if not self._is_over():
            self._looked_back = False
            return False
        if (
            self._stopping is None
            and not self._is_done_with
            and self._tally.running_elsewhere
            and not self._looked_back
        ):
            self._looked_back = True
            self._visit_store(self._recover)
        return self._is_over()

    def _is_over(self) -> bool:
        if self._is_done_with and not self._crew.busy_claims():
            return True
        if time.monotonic() > self._leave_at:
            return True  # a task that nothing can kill: its worker keeps our presence, and so its claim
        if self._backlog or self._done or self._delayed or self._crew.busy_claims():
            return False
        if self._stopping is not None:
            return True
        return self._left == 0 and not self._store.company.silent

    # Stopping

    def _heed_stop(self) -> None:
        request = self._stop.request
        if request is None or (self._stopping is not None and (self._stopping.drain <= request.drain)):
            if self._stopping and self._stop.hurry and not self._hurried:
                self._hurried = True
                self._crew.halt(0.0)
            return
        self._stopping = request
        if not request.drain:
            self._kill_workers_at = time.monotonic() + self._policy.grace + _PATIENCE_WITH_WORKERS
            self._leave_at = self._kill_workers_at + _PATIENCE_WITH_TASKS
        running = len(self._given_at)
        self._tell(Stopping(request.reason, running, self._policy.grace, request.drain, request.held_back))
        self._timeline.instant(f"stopping: {request.reason}")
        if not request.drain:
            self._crew.halt(self._policy.grace)

    def _heed_deaf_workers(self) -> None:
        """A worker that is stopped or hangs does not end its task: without it we can."""
        if time.monotonic() > self._kill_workers_at:
            self._kill_workers_at = float("inf")
            self._crew.kill_busy()

    def _heed_end_of_job(self) -> None:
        """Start nothing that would not be done before the job ends; be gone by then."""
        if request := self._deadline.request(time.monotonic(), self._not_begun):
            self._stop.ask(request)

    # The store

    def _exchange_if_due(self) -> None:
        now = time.monotonic()
        self._release_delayed(now)
        if self._is_done_with or not self._pace.may_exchange(now) or not self._has_business(now):
            return
        if now < self._store_trouble.try_at:
            return
        self._pace.exchanged()
        self._polled_at = now
        self._visit_store(self._exchange)

    def _visit_store(self, act: Callable[[], None]) -> None:
        try:
            act()
        except WorkdirGone as error:
            self._give_up(str(error))
        except Fenced as error:
            self._fenced = error
            self._backlog.clear()
            self._crew.halt(self._policy.grace)
        except DiskError as error:
            self._suffer_disk(str(error), self._store_trouble)
        except OSError as error:
            if error.errno not in files.DISK_TROUBLE:
                raise
            self._suffer_disk(f"{error.filename or 'the workdir'}: {error.strerror}", self._store_trouble)

    def _has_business(self, now: float) -> bool:
        if self._stopping is not None:
            if not self._stopping.drain and self._crew.busy_claims():
                return False  # all at once, in the order of the list; what has ended is safe in the slots' files
            return bool(self._done or self._backlog)
        if self._store_trouble.since is not None:
            return True
        if self._health.is_suspect:
            return bool(self._done) and now - self._polled_at >= 1.0
        idle = len(self._crew.idle_slots()) + self._unhired
        if self._left is None or self._left > 0:
            if self._pace.runs_low(len(self._backlog), idle):
                return True
        elif idle and now - self._polled_at >= _LOOK_FOR_THE_DEAD:
            return True  # somebody may have added tasks
        nothing_else_to_do = not self._backlog and not self._crew.busy_claims()
        return bool(self._done) and (nothing_else_to_do or now - self._polled_at >= 1.0)

    @property
    def _unhired(self) -> int:
        return self._slots - self._crew.hired

    def _want(self) -> int:
        if self._stopping is not None or self._health.is_suspect:
            return 0
        if not self._deadline.may_begin(time.monotonic()):
            return 0
        idle = len(self._crew.idle_slots()) + (self._slots if self._left is None else self._unhired)
        want = self._pace.want(len(self._backlog), min(idle, self._slots), self._left)
        most = self._health.most_to_start
        return want if most is None else min(want, most)

    def _exchange(self) -> None:
        news = self._news()
        # What has ended first, on its own: what refuses may be the file from which tasks are claimed.
        only_settle = self._store_trouble.since is not None and bool(self._done)
        want = 0 if only_settle or news else self._want()
        unstarted = list(self._backlog) if self._stopping is not None else []
        result = self._store.exchange(self._done, want, unstarted, news)
        self._deadline.hear(result.lengths, bool(news))
        if unstarted:
            self._backlog.clear()
        if result.refused:
            self._tell(Trouble(f"{len(result.refused)} results came too late: others had taken those tasks over"))
        self._done = []
        if not only_settle:
            self._store_trouble.since = None
        self._crew.all_is_settled()
        self._backlog.extend(result.claims)
        self._left = result.left
        self._tally.see_farm(result)
        if result.paused and not result.claims:
            self._stop.ask(StopRequest(f"paused: {result.paused}", drain=True))
        self._timeline.flush_if_due()

    def _news(self) -> Mapping[str, int]:
        """What to tell the farm of task lengths: seldom, and in an exchange that claims nothing and touches few files."""
        if self._stopping is not None or not (news := self._deadline.news):
            return {}
        return news if all(attempt.outcome is Outcome.FINISHED for attempt in self._done) else {}

    def _suffer_disk(self, message: str, trouble: DiskTrouble) -> None:
        """Nothing more is started; what cannot be written is tried again for a while; then we leave it to a restart."""
        now = time.monotonic()
        trouble.try_at = now + _DISK_PAUSE
        if trouble.since is None:
            trouble.since = now
            if message not in trouble.told:
                trouble.told.add(message)
                self._tell(Trouble(f"{message}. Nothing more is started; trying again"))
        elif now - trouble.since > _DISK_PATIENCE:
            self._stop.ask(StopRequest(f"the disk refuses to be written: {message}", drain=True))
            if trouble is self._store_trouble and not self._crew.busy_claims():
                self._give_up(f"{message}. Tried for {_DISK_PATIENCE:g} s; nothing is lost")

    def _give_up(self, message: str) -> None:
        self._gave_up = message
        left = self._left_before if self._left is None else self._left
        self._left = left + len(self._backlog)  # still ours; whoever recovers us puts them back
        self._backlog.clear()
        self._tell(Trouble(message))
        self._stop.ask(StopRequest(message))
        self._crew.halt(self._policy.grace)

    def _recover(self) -> None:
        for found in self._store.recover():
            self._say_recovered(found)
        self._pace.others = self._store.company.others
        self._say_silent()

    def _say_silent(self) -> None:
        for owner in self._store.company.silent:
            if owner not in self._told_silent:
                self._told_silent.add(owner)
                self._tell(Silent(owner))

    def _say_recovered(self, found: Recovered) -> None:
        if found.settled or found.requeued or found.killed:
            self._tell(OwnerLost(*found))
            self._timeline.instant(f"recovered {found.owner.host} {found.owner.pid}: {found.requeued} tasks back")
            self._left = None

    # The workers

    def _feed(self) -> None:
        if self._stopping is not None or self._is_done_with or self._health.is_suspect:
            return
        if self._store_trouble.since is not None or time.monotonic() < self._worker_trouble.try_at:
            return
        if self._contact is not None and self._contact.is_silent():
            return  # cut off: others may already take over what we hold
        if not self._deadline.may_begin(time.monotonic()):
            return
        if self._backlog and self._unhired:
            self._crew.hire(self._crew.busy_claims() + len(self._backlog))
        for slot in self._crew.idle_slots():
            if not self._backlog:
                return
            count = self._pace.batch(len(self._backlog), bool(self._left))
            if (most := self._health.most_to_start) is not None:
                count = min(count, max(1, most // self._slots))
            batch = [self._backlog.popleft() for _ in range(min(count, len(self._backlog)))]
            self._given_at[slot] = time.monotonic()
            self._deadline.note_begun(len(batch))
            self._crew.give(slot, batch)

    def _hear(self, event: Heard | Lost) -> None:
        """The quick part of an event: what the next hand-out depends on."""
        if isinstance(event, Lost):
            self._given_at.pop(event.slot, None)
            return
        report = event.report
        now = time.monotonic()
        if report.attempts:
            self._pace.learn(len(report.attempts), now - self._given_at.get(event.slot, now), now)
            self._given_at[event.slot] = now
        if report.idle:
            self._given_at.pop(event.slot, None)
        self._backlog.extendleft(reversed(report.returned))

    def _take(self, event: Heard | Lost) -> None:
        if isinstance(event, Lost):
            self._mourn(event)
            return
        for attempt in event.report.attempts:
            self._note(attempt)
        if event.report.trouble:
            self._suffer_disk(event.report.trouble, self._worker_trouble)
        elif event.report.attempts:
            self._worker_trouble.since = None

    def _mourn(self, lost: Lost) -> None:
        """A worker died: end what it was running, try that again (once for free), hand on the rest."""
        if lost.claims:
            self._end_leftovers(lost.slot, lost.pid)
            ended = self._store.ended(lost.slot, lost.claims)
            for attempt in ended:
                self._note(attempt)
            tokens = {attempt.claim.token for attempt in ended}
            rest = [claim for claim in lost.claims if claim.token not in tokens]
            if rest:
                self._note(self._attempt_of_lost(rest[0], lost.slot))
            self._backlog.extendleft(reversed(rest[1:]))
        self._stillborn = self._stillborn + 1 if lost.stillborn else 0
        if self._stillborn > _MOST_STILLBORN:
            self._give_up("workers die as soon as they start")
        elif not self._stopping:
            self._tell(WorkerLost(lost.pid, lost.slot))

    def _attempt_of_lost(self, claim: Claim, slot: int) -> Attempt:
        outcome = Outcome.WORKER_LOST
        if self._stopping is not None and not self._stopping.drain:
            outcome = Outcome.INTERRUPTED
        elif claim.id in self._lost_once:
            outcome = Outcome.KILLED
        self._lost_once.add(claim.id)
        return Attempt(claim, outcome, 9, time.time(), slot=slot, note="its worker was killed")

    def _note(self, attempt: Attempt) -> None:
        """One attempt has ended: count it, show it, and keep it to be settled."""
        again = attempt.outcome is not Outcome.FINISHED and self._will_be_tried_again(attempt)
        self._tally.count(attempt, again)
        self._timeline.attempt(attempt)
        self._health.note(attempt)
        self._deadline.note(attempt)
        if attempt.outcome is Outcome.FINISHED:
            if self._policy.tell_finished:
                self._tell(Ended(attempt, again))
        elif attempt.outcome is not Outcome.INTERRUPTED:
            self._tell(Ended(attempt, again))
            self._heed_max_failures()
        elif attempt.note:
            self._tell(Trouble(f"task {attempt.claim.id} was ended after {attempt.wall:.0f} s: {attempt.note}"))
        if again and self._policy.retry_delay:
            self._delayed.append((time.monotonic() + self._policy.retry_delay, attempt))
        else:
            self._done.append(attempt)

    def _heed_max_failures(self) -> None:
        limit = self._policy.max_failures
        if limit is not None and self._tally.failed >= limit:
            self._stop.ask(StopRequest(f"--max-failures {limit}", drain=True))

    def _will_be_tried_again(self, attempt: Attempt) -> bool:
        return attempt.outcome is Outcome.WORKER_LOST or (
            attempt.outcome.state is State.FAILED and attempt.claim.failures < self._policy.retries
        )

    def _release_delayed(self, now: float) -> None:
        """Failed attempts whose pause is over are settled, so that their tasks can be tried again."""
        waiting, self._delayed = self._delayed, []
        for at, attempt in waiting:
            if at <= now or self._stopping is not None:
                self._done.append(attempt)
            else:
                self._delayed.append((at, attempt))

    # Time

    def _seconds_to_wait(self) -> float:
        if self._is_over():
            return 0.0
        now = time.monotonic()
        seconds = min(_TICK, self._stop.seconds_left())
        if self._has_business(now) and not self._is_done_with:
            seconds = min(seconds, max(self._pace.seconds_until_allowed(now), self._store_trouble.try_at - now))
        if self._delayed:
            seconds = min(seconds, max(0.0, min(at for at, _ in self._delayed) - now))
        return seconds

    def _look_around(self) -> None:
        """Now and then: has another farmer died, and is this node well?"""
        now = time.monotonic()
        if self._stopping is not None:
            return
        if now - self._looked_at >= self._look_every and not self._is_done_with:
            self._looked_at = now
            self._visit_store(self._recover)
        if self._health.is_suspect:
            self._heartbeat.beat_if_older(1.0)  # others may be waiting to hear from us, as we from them
        if reason := self._health.examine(now):
            self._stop.ask(StopRequest(reason, drain=True))

    @property
    def _look_every(self) -> float:
        if not self._store.company.silent:
            return _LOOK_FOR_THE_DEAD
        return min(_LOOK_FOR_THE_DEAD, self._policy.dead_after / SAMPLES)

    def _vitals(self) -> tuple[int, int]:
        """How the tasks fare (see Sign). Called from the thread that says so."""
        now = time.monotonic()
        lasting = sum(now - begun >= AT_ONCE for begun in list(self._given_at.values()))
        return self._health.well + lasting, self._health.failing
