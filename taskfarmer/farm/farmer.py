"""The farmer: claims tasks, feeds them to its workers, settles what came of them, until nothing is left or it must stop.

loop:  exchange(done, want)      one lock, for many tasks
       workers <- claims         plain data only
       done += reports           timeline, notices

What it decides on the way is decided elsewhere in this room: how much to claim (pace.py), what may still be begun
(deadline.py, health.py), when to leave (leaving.py, ending.py), what a refusing disk means (disktrouble.py).
"""

import time
from typing import Callable, Mapping

from taskfarmer.errors import DiskError, Fenced, LockBusy, WorkdirGone
from taskfarmer.farm.deadline import Deadline
from taskfarmer.farm.disktrouble import PATIENCE, DiskTrouble
from taskfarmer.farm.ending import Ending
from taskfarmer.farm.foreman import Foreman
from taskfarmer.farm.health import Health
from taskfarmer.farm.heartbeat import Contact, Heartbeat
from taskfarmer.farm.leaving import Leaving
from taskfarmer.farm.lookout import Lookout
from taskfarmer.farm.mourning import Mourning
from taskfarmer.farm.notices import Notice, Staying, Stopping, Summary, Trouble, WorkerLost, unended
from taskfarmer.farm.pace import SETTLE, Holding, Pace
from taskfarmer.farm.policy import Policy
from taskfarmer.farm.pool import Crew, Heard, Lost
from taskfarmer.farm.results import Results
from taskfarmer.farm.stock import Stock
from taskfarmer.farm.stop import Stop, StopRequest
from taskfarmer.farm.tally import Tally
from taskfarmer.farm.timeline import Timeline
from taskfarmer.model import Outcome, Owner
from taskfarmer.stores.base import Added, TaskSource
from taskfarmer.system import files
from taskfarmer.system.presence import Presence

_TICK, _SOON = 0.5, 0.02
_SHOWN_HOLDINGS = 3


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
        end_leftovers: Callable[[int, int, "float | None"], str],
        tell: Callable[[Notice], None],
    ) -> None:
        now = time.monotonic()
        self._store = store
        self._heartbeat = Heartbeat(presence, self._vitals, contact)
        self._contact = contact
        self._crew = crew
        self._stop = stop
        self._timeline = timeline
        self._policy = policy
        self._tell = tell
        self._tally = tally
        self._pace = Pace(slots, now)
        self._stock = Stock()
        self._deadline = Deadline(None, policy.expect, slots)
        self._health = Health(store, tell, trusted=not policy.sick_node_stop)
        self._results = Results(policy, self._stock, tally, timeline, self._health, self._deadline, stop, tell)
        self._foreman = Foreman(
            crew, slots, self._stock, self._pace, self._deadline, self._health, self._results.failures_left
        )
        self._ending = Ending(stop, crew, policy.grace)
        self._leaving = Leaving(waits=policy.in_job or policy.wait_for_others)
        self._lookout = Lookout(store, timeline, tell, policy.dead_after, now)
        self._mourning = Mourning(store, end_leftovers)
        self._store_trouble, self._worker_trouble = DiskTrouble(), DiskTrouble()
        self._left_before = before.left
        self._left: int | None = None  # how many tasks wait in the store; None: we must ask it
        self._kept = 0  # claims that we leave with, as what they are for runs on
        self._gave_up: str | None = None
        self._fenced: Fenced | None = None

    def run(self) -> Summary:
        """Work until nothing is left, or until told to stop; nothing of ours is claimed afterwards.

        Raises Fenced once what ran is ended when others took our claims over: we may go on under another name.
        """
        with self._heartbeat:
            return self._work()

    def _work(self) -> Summary:
        self._store.meet(lambda: self._stop.request is not None)
        self._visit_store(self._look)
        while not self._may_leave():
            self._heed_end_of_job()
            self._heed_stop()
            self._exchange_if_due()
            self._feed()
            events = self._crew.wait(self._seconds_to_wait())
            for event in events:
                self._foreman.hear(event)
            if self._policy.max_failures is None:
                self._feed()  # no worker waits while we look at what came back
            for event in events:
                self._take(event)
            self._stop.clear_wakeup()
            self._look_around()
            self._say_how_far()
        self._timeline.flush()
        if self._fenced is not None:
            self._tally.interrupted = 0  # what was ended here is others' to run, and to answer for
            raise self._fenced
        return self._summary()

    def _say_how_far(self) -> None:
        if self._lookout.speaks:
            self._tell(self._tally.progress(self._crew.busy_claims(), self._stock.not_begun, self._known_left))

    def _summary(self) -> Summary:
        stopped = self._ending.request.reason if self._ending.request else None
        times_up = bool((request := self._stop.request) and request.times_up) and self._gave_up is None
        company = self._store.company
        return self._tally.summary(
            self._known_left + self._kept + company.stranded, stopped, self._gave_up, times_up
        )._replace(
            holdings=self._holdings(),
            speaks=self._lookout.speaks,
            in_doubt=self._tally.running_elsewhere > 0 and bool(company.silent or company.in_doubt),
        )

    def _holdings(self) -> list[tuple[Owner, list[int]]]:
        found: list[tuple[Owner, list[int]]] = []
        if self._tally.running_elsewhere and self._gave_up is None:
            self._visit_store(lambda: found.extend(self._store.holdings(_SHOWN_HOLDINGS)))
        return found

    # Leaving

    def _may_leave(self) -> bool:
        """Whether nothing is left for us; the others are looked at before we go, and now and then while we wait for them."""
        if not self._is_out_of_work or self._ending.request is not None or self._is_done_with:
            self._leaving.has_work()
        else:
            self._look_whether_to_stay()
        return self._is_over()

    def _look_whether_to_stay(self) -> None:
        is_first = not self._leaving.has_looked
        if self._leaving.look_is_due(time.monotonic(), self._store.company.others):
            if is_first and self._tally.running_elsewhere:
                self._visit_store(self._look)
            self._visit_store(self._look_for_reasons_to_stay)

    def _is_over(self) -> bool:
        if self._is_done_with and not self._crew.busy_claims():
            return True
        if self._ending.is_overdue(time.monotonic()):
            return True
        if self._crew.busy_claims() or not self._stock.is_empty():
            return False
        return self._ending.request is not None or (self._is_out_of_work and self._leaving.is_free)

    @property
    def _is_out_of_work(self) -> bool:
        return self._left == 0 and self._stock.is_empty() and not self._crew.busy_claims()

    @property
    def _is_done_with(self) -> bool:
        """Whether the store has nothing to do with us any more."""
        return self._gave_up is not None or self._fenced is not None

    def _look_for_reasons_to_stay(self) -> None:
        if self._tally.running_elsewhere:
            self._glance()
        asks = self._leaving.asks_who_works(self._tally.running_elsewhere)
        at_work = asks and self._store.may_be_at_work(self._policy.wait_for_others)
        company = self._store.company
        in_doubt = company.in_doubt if self._tally.running_elsewhere else 0
        self._leaving.saw(at_work, len(company.silent) + in_doubt)
        if self._leaving.begins_to_last(time.monotonic()):
            self._tell(Staying(self._tally.running_elsewhere))

    # Stopping

    def heed_while_waiting(self) -> None:
        """What must go on while we wait for the store: a batch system signals the tasks when it signals us, and a worker whose
        task was killed waits only a second for our word. Raises LockBusy when we have to be gone."""
        self._heed_end_of_job()
        self._heed_stop()
        if self._ending.is_overdue(time.monotonic()):
            raise LockBusy("others keep the lock. What is held here comes back to the list when somebody else has it")

    def _heed_stop(self) -> None:
        """Pass a stop on to the workers."""
        if self._ending.is_new():
            self._ending.begin(time.monotonic())
            self._say_stopping()
        self._ending.go_on(time.monotonic())

    def _say_stopping(self) -> None:
        request = self._ending.request
        assert request is not None
        self._tell(
            Stopping(request.reason, self._foreman.running, self._policy.grace, request.drain, request.held_back)
        )
        self._timeline.instant(f"stopping: {request.reason}")

    def _heed_end_of_job(self) -> None:
        """Start nothing that would not be done before the job ends; be gone by then."""
        if self._deadline.end is None and self._must_know_end:
            self._deadline.end = self._policy.job_end()
        if request := self._deadline.request(time.monotonic(), self._not_begun):
            self._stop.ask(request)

    @property
    def _must_know_end(self) -> bool:
        """Who comes to a farm where nothing is left bothers no batch system before it knows that it has to stay."""
        return self._left_before > 0 or self._left is not None

    @property
    def _known_left(self) -> int:
        """How many tasks wait in the store, as far as we know."""
        return self._left_before if self._left is None else self._left

    @property
    def _not_begun(self) -> int:
        return (self._left or 0) + self._stock.not_begun

    def _give_up(self, message: str) -> None:
        self._gave_up = message
        self._left = self._known_left + self._stock.drop_claims()  # still ours; whoever recovers us puts them back
        self._tell(Trouble(message))
        self._stop.ask(StopRequest(message))
        self._crew.halt(self._policy.grace)

    # The store

    def _exchange_if_due(self) -> None:
        now = time.monotonic()
        self._stock.release(float("inf") if self._ending.request else now)
        if self._is_done_with or not self._pace.may_exchange(now) or not self._has_business(now):
            return
        if now < self._store_trouble.try_at:
            return
        self._pace.exchanged(now)
        self._visit_store(self._exchange)

    def _visit_store(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (WorkdirGone, LockBusy) as error:
            self._give_up(str(error))
        except Fenced as error:
            self._fenced = error
            self._stock.drop_claims()
            self._crew.halt(self._policy.grace)
        except DiskError as error:
            self._suffer_disk(str(error), self._store_trouble)
        except OSError as error:
            if error.errno not in files.DISK_TROUBLE:
                raise
            self._suffer_disk(f"{error.filename or 'the workdir'}: {error.strerror}", self._store_trouble)

    def _suffer_disk(self, message: str, trouble: DiskTrouble) -> None:
        """Nothing more is started; what cannot be written is tried again for a while; then we leave it to a restart."""
        now = time.monotonic()
        if trouble.meet(message, now):
            self._tell(Trouble(f"{message}. Nothing more is started; trying again"))
        if trouble.lasts_too_long(now):
            self._stop.ask(StopRequest(f"the disk refuses to be written: {message}", drain=True))
            if trouble is self._store_trouble and not self._crew.busy_claims():
                self._give_up(f"{message}. Tried for {PATIENCE:g} s; nothing is lost")

    def _has_business(self, now: float) -> bool:
        if (stopping := self._ending.request) is not None:
            if not stopping.drain and self._crew.busy_claims():
                return False  # all at once, in the order of the list; what has ended is safe in the slots' files
            return bool(self._stock.done or self._stock.backlog or self._stock.going_back)
        if self._store_trouble.is_there:
            return True
        if self._deadline.must_be_known and self._must_know_end:
            return False
        if self._health.is_suspect:
            return bool(self._stock.done) and self._pace.since_exchange(now) >= SETTLE
        return self._pace.is_due(now, self._holding, self._left)

    @property
    def _holding(self) -> Holding:
        return Holding(len(self._stock.backlog), self._foreman.idle, self._crew.busy_claims(), len(self._stock.done))

    def _want(self) -> int:
        if self._ending.request is not None or self._health.is_suspect:
            return 0
        if not self._deadline.may_begin(time.monotonic()):
            return 0
        want = self._pace.want(len(self._stock.backlog), self._foreman.idle, self._left)
        most = self._health.most_to_start
        return want if most is None else min(want, most)

    def _exchange(self) -> None:
        news = self._news()
        # What has ended first, on its own: what refuses may be the file from which tasks are claimed, and to which they go back.
        only_settle = self._store_trouble.is_there and bool(self._stock.done)
        want = 0 if only_settle or news else self._want()
        self._stock.set_aside(0 if only_settle else self._surplus)
        going_back = [] if only_settle else self._stock.going_back
        begun = time.monotonic()
        result = self._store.exchange(self._stock.done, want, going_back, news)
        self._pace.learn_exchange(result.waited, time.monotonic() - begun)
        self._deadline.hear(result.lengths, bool(news))
        if result.refused:
            self._tell(Trouble(f"{len(result.refused)} results came too late: others had taken those tasks over"))
        self._stock.done = []
        if not only_settle:
            self._stock.going_back = []
            self._store_trouble.is_over()
        self._crew.all_is_settled()
        self._stock.backlog.extend(result.claims)
        self._left = result.left
        self._tally.see_farm(result)
        if result.paused and not result.claims:
            self._stop.ask(StopRequest(f"paused: {result.paused}", drain=True))
        self._timeline.flush_if_due()

    @property
    def _surplus(self) -> int:
        """How many claims go back: all that are not begun when we stop, else what would wait here for long."""
        if self._ending.request is not None:
            return len(self._stock.backlog)
        return self._pace.surplus(time.monotonic(), self._holding, self._left)

    def _news(self) -> Mapping[str, int]:
        """What to tell the farm of task lengths: seldom, and in an exchange that claims nothing and touches few files."""
        if self._ending.request is not None or not (news := self._deadline.news):
            return {}
        return news if all(attempt.outcome is Outcome.FINISHED for attempt in self._stock.done) else {}

    # The others

    def _look_around(self) -> None:
        """Now and then: has another farmer died, did one give something back, and is this node well?"""
        now = time.monotonic()
        if self._ending.request is not None:
            return
        if self._lookout.is_due(now) and not self._is_done_with:
            self._visit_store(self._look)
        if self._health.is_suspect:
            self._heartbeat.beat_if_older(1.0)  # others may be waiting to hear from us, as we from them
        if reason := self._health.examine(now):
            self._stop.ask(StopRequest(reason, drain=True))

    def _look(self) -> None:
        if self._lookout.look(time.monotonic()):
            self._left = None
        self._pace.others = self._store.company.others
        self._lookout.every = self._pace.look_every
        self._tally.has_company |= self._store.company.others > 0
        self._glance()

    def _glance(self) -> None:
        seen = self._store.glance()
        if seen is None:
            self._left = None  # an exchange will tell
        elif self._left is not None:
            self._left = seen.left
            self._tally.see_farm(seen)

    def _vitals(self) -> tuple[int, int]:
        """How the tasks fare (see Sign). Called from the thread that says so."""
        return self._health.well + self._foreman.lasting(time.monotonic()), self._health.failing

    # The workers

    def _feed(self) -> None:
        if self._ending.request is not None or self._is_done_with or self._store_trouble.is_there:
            return
        if time.monotonic() < self._worker_trouble.try_at:
            return
        if self._contact is not None and self._contact.is_silent():
            return  # cut off: others may already take over what we hold
        self._foreman.feed(more_to_come=bool(self._left))

    def _take(self, event: Heard | Lost) -> None:
        if isinstance(event, Lost):
            self._mourn(event)
            return
        for attempt in event.report.attempts:
            self._results.note(attempt)
        if event.report.runs_on:
            self._tell(Trouble(unended(event.report.runs_on)))
        if event.report.trouble:
            self._suffer_disk(event.report.trouble, self._worker_trouble)
        elif event.report.attempts:
            self._worker_trouble.is_over()

    def _mourn(self, lost: Lost) -> None:
        """A worker died: end what it was running, try that again (once for free), hand on the rest."""
        estate = self._mourning.settle(lost, self._ending.patience(time.monotonic()))
        for attempt in estate.ended:
            self._results.note(attempt)
        if estate.runs_on:
            self._kept += 1
            self._tell(Trouble(f"{unended(estate.runs_on)}. Its task is run again only when that has ended"))
        self._stock.backlog.extendleft(reversed(estate.not_begun))
        if self._mourning.is_in_vain:
            self._give_up("workers die as soon as they start")
        elif not self._ending.request:
            self._tell(WorkerLost(lost.pid, lost.slot))

    # Time

    def _seconds_to_wait(self) -> float:
        if self._is_over() or (self._is_out_of_work and not self._leaving.has_looked):
            return 0.0
        now = time.monotonic()
        seconds = min(_SOON if self._deadline.must_be_known else _TICK, self._stop.seconds_left())
        if self._has_business(now) and not self._is_done_with:
            seconds = min(seconds, max(self._pace.seconds_until_allowed(now), self._store_trouble.try_at - now))
        return min(seconds, self._stock.seconds_until_release(now))
