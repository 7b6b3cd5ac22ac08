"""A farm of any number of farmers in simulated time: each decides with the farmer's own Pace and waits with the lock's own Pauses.

Simulated are: the one lock and how long it is held (LockModel), each farmer's loop (farm/farmer.py: when it wakes, what it hands out, that
it does nothing else while it waits for the lock), its slots, and the tasks that are left. Not simulated are processors, disks
and death. The same scenario and the same seed give the same numbers.
"""

from __future__ import annotations

import heapq
import math
from random import Random
from typing import Callable, NamedTuple

from taskfarmer.farm.pace import Holding, Pace
from taskfarmer.system.lock import Pauses

_TICK = 0.5  # a farmer looks around as often as that, whatever happens


class LockModel(NamedTuple):
    """How long an exchange keeps the lock: lognormal, and more for each task that is settled or claimed. Seconds.

    One that only looks writes and syncs nothing.
    """

    median: float
    sigma: float = 0.5
    per_task: float = 0.0
    look: float = 0.1  # of the median

    def hold(self, tasks: int, random: Random) -> float:
        """Seconds of one exchange."""
        if not tasks:
            return self.median * self.look
        return self.median * math.exp(self.sigma * random.gauss(0.0, 1.0)) + self.per_task * tasks

    @property
    def mean(self) -> float:
        """Seconds of an exchange of few tasks, on the average."""
        return self.median * math.exp(self.sigma**2 / 2)


class Scenario(NamedTuple):
    """What happens: farmers that start within `arrival` seconds, tasks of `length` seconds (give or take `spread` of it).

    It ends when nothing is left, or after `until` seconds; waiting is counted from `since` on.
    """

    farmers: int
    slots: int
    length: float
    tasks: int
    until: float
    since: float = 0.0
    arrival: float = 10.0
    spread: float = 0.5


class Seen(NamedTuple):
    """What came of it.

    From `since` on. `waiting`: share of the farmers' time in which they waited for the lock; `idle`: share of the slots' time without
    a task while tasks were left; `taken`: share of the time in which the lock was taken. `tries_a_second`: how often it was
    asked for, and `most_tries` in the worst second of all.
    """

    waiting: float
    idle: float
    taken: float
    exchanges_a_second: float
    tries_a_second: float
    most_tries: int
    settled: int
    ended_at: float


class Simulation:
    """One run of a scenario."""

    def __init__(
        self, scenario: Scenario, lock: LockModel, pace: Callable[[int, float], Pace] = Pace, seed: int = 1
    ) -> None:
        self.scenario = scenario
        self.lock = lock
        self.random = Random(seed)
        self.left = scenario.tasks
        self.is_taken = False
        self.alive = 0
        self.exchanges = self.settled = 0
        self.tries_in: dict[int, int] = {}
        self.held_seconds = 0.0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self.now = 0.0
        self._farmers = [_Farmer(self, pace) for _ in range(scenario.farmers)]

    def at(self, when: float, act: Callable[[float], None]) -> None:
        """Do this then."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, act))

    def run(self) -> Seen:
        """Until the end."""
        scenario = self.scenario
        for farmer in self._farmers:
            self.at(self.random.uniform(0.0, scenario.arrival), farmer.start)
        while self._events and self._events[0][0] <= scenario.until:
            self.now, _, act = heapq.heappop(self._events)
            act(self.now)
        if self._events:
            self.now = scenario.until
        return self._seen()

    def account_all(self) -> None:
        """What is counted changes now for everybody."""
        for farmer in self._farmers:
            farmer.account(self.now)

    def _seen(self) -> Seen:
        self.account_all()
        alive = sum(farmer.alive_seconds for farmer in self._farmers)
        working = sum(farmer.working_seconds for farmer in self._farmers)
        return Seen(
            sum(farmer.waited for farmer in self._farmers) / alive,
            sum(farmer.idle_seconds for farmer in self._farmers) / (working * self.scenario.slots),
            self.held_seconds / (self.now - self.scenario.since),
            self.exchanges / (self.now - self.scenario.since),
            sum(count for second, count in self.tries_in.items() if second >= self.scenario.since)
            / (self.now - self.scenario.since),
            max(self.tries_in.values(), default=0),
            self.settled,
            self.now,
        )

    def try_lock(self, now: float) -> bool:
        """One try to have the lock."""
        self.tries_in[int(now)] = self.tries_in.get(int(now), 0) + 1
        if self.is_taken:
            return False
        self.is_taken = True
        return True


class _Farmer:
    """One farmer: its loop, in simulated time."""

    def __init__(self, simulation: Simulation, pace: Callable[[int, float], Pace]) -> None:
        self._simulation = simulation
        self._make_pace = pace
        self._slots = simulation.scenario.slots
        self._idle = self._slots  # as the farmer knows it
        self._free = 0  # as it is: while the farmer waits for the lock, it does not hear
        self._backlog = self._done = self._busy = 0
        self._left: int | None = None
        self._is_away = False  # in an exchange
        self._unheard: list[tuple[int, float]] = []
        self._tick_at = math.inf
        self._looked_at = -math.inf
        self._is_here = False
        self._accounted = 0.0
        self._waiting_since: float | None = None
        self.waited = self.idle_seconds = self.alive_seconds = self.working_seconds = 0.0

    def start(self, now: float) -> None:
        """Come, and load the list: a first time under the lock."""
        self._pace = self._make_pace(self._slots, now)
        self._is_here, self._free, self._accounted = True, self._slots, now
        self._simulation.alive += 1
        self._is_away = True
        self._enter(now, lambda: 0, lambda now, waited, took: self._wake(now))

    def account(self, now: float) -> None:
        """Add up what has been since the last time."""
        begun = max(self._accounted, self._simulation.scenario.since)
        seconds = now - begun
        self._accounted = now
        if not self._is_here or seconds <= 0:
            return
        self.alive_seconds += seconds
        if self._waiting_since is not None:
            self.waited += seconds
        if self._simulation.left:
            self.working_seconds += seconds
            self.idle_seconds += seconds * self._free

    # The loop

    def _wake(self, now: float) -> None:
        if self._is_away or not self._is_here:
            return
        if now - self._looked_at >= self._pace.look_every:
            self._looked_at = now
            self._pace.others = self._simulation.alive - 1
        self._feed(now)
        held = Holding(self._backlog, self._idle, self._busy, self._done)
        if not any((held.backlog, held.busy, held.done)) and self._left == 0:
            self._leave(now)
            return
        is_due = self._pace.is_due(now, held, self._left)
        if is_due and self._pace.may_exchange(now):
            self._exchange(now, held)
            return
        wait = min(_TICK, self._pace.seconds_until_allowed(now)) if is_due else _TICK
        self._tick_in(now, max(wait, 1e-6))

    def _tick_in(self, now: float, wait: float) -> None:
        if not now < self._tick_at <= now + wait:
            self._tick_at = now + wait
            self._simulation.at(self._tick_at, self._tick)

    def _tick(self, now: float) -> None:
        if now == self._tick_at:
            self._tick_at = math.inf
            self._wake(now)

    def _leave(self, now: float) -> None:
        self.account(now)
        self._is_here = False
        self._simulation.alive -= 1

    # The slots

    def _feed(self, now: float) -> None:
        if self._idle and self._backlog:
            self.account(now)
        while self._idle and self._backlog:
            count = min(self._backlog, self._pace.batch(self._backlog, bool(self._left)))
            self._backlog -= count
            self._busy += count
            self._idle -= 1
            self._free -= 1
            scenario = self._simulation.scenario
            seconds = count * scenario.length * (1 + scenario.spread * self._simulation.random.uniform(-1, 1))
            self._simulation.at(now + seconds, lambda now, c=count, s=seconds: self._ended(now, c, s))  # type: ignore[misc]

    def _ended(self, now: float, count: int, seconds: float) -> None:
        self.account(now)
        self._free += 1
        self._unheard.append((count, seconds))
        if not self._is_away:
            self._hear(now)
            self._wake(now)

    def _hear(self, now: float) -> None:
        for count, seconds in self._unheard:
            self._idle += 1
            self._busy -= count
            self._done += count
            self._pace.learn(count, seconds, now)
        self._unheard = []

    # The store

    def _exchange(self, now: float, held: Holding) -> None:
        back = self._pace.surplus(now, held, self._left)
        want = 0 if back else self._pace.want(self._backlog, self._idle, self._left)
        settled, self._done = self._done, 0
        self._backlog -= back
        self._pace.exchanged(now)
        self._is_away = True
        self._simulation.exchanges += now >= self._simulation.scenario.since
        got = 0

        def act() -> int:
            nonlocal got
            simulation = self._simulation
            if simulation.left and simulation.left <= want:
                simulation.account_all()
            got = min(want, simulation.left)
            simulation.left += back - got
            simulation.settled += settled
            self._left = simulation.left
            return settled + got + back

        def come_back(now: float, waited: float, took: float) -> None:
            self._backlog += got
            self._pace.learn_exchange(waited, took)
            self._hear(now)
            self._wake(now)

        self._enter(now, act, come_back)

    def _enter(self, began: float, act: Callable[[], int], come_back: Callable[[float, float, float], None]) -> None:
        """Wait for the lock, do something under it, go on."""
        simulation, pauses = self._simulation, Pauses(self._simulation.random.uniform)

        def attempt(now: float) -> None:
            if not simulation.try_lock(now):
                if self._waiting_since is None:
                    self.account(now)
                    self._waiting_since = now
                simulation.at(now + pauses.next(), attempt)
                return
            self.account(now)
            self._waiting_since = None
            hold = simulation.lock.hold(act(), simulation.random)
            if now >= simulation.scenario.since:
                simulation.held_seconds += hold
            simulation.at(now + hold, lambda then: leave(then, now - began))

        def leave(now: float, waited: float) -> None:
            simulation.is_taken = False
            self._is_away = False
            come_back(now, waited, now - began)

        attempt(began)
