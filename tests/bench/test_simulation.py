"""A thousand farmers in simulated time: nothing here looks at a clock, and the same seed gives the same numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import taskfarmer.farm.farmer
import taskfarmer.system.lock
from taskfarmer.farm.pace import INTERVAL, Pace

pytestmark = pytest.mark.quick

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import bench.simulation  # noqa: E402
from bench.simulation import LockModel, Scenario, Seen, Simulation  # noqa: E402

sys.path.pop(0)

#: Of a disk that does fifty exchanges a second, and of one that does thirty.
FIFTY, THIRTY = LockModel(0.0176, 0.5, 5e-6), LockModel(0.0294, 0.5, 5e-6)


class Impatient(Pace):
    """A farmer that comes as often as if it were alone."""

    interval = INTERVAL  # type: ignore[assignment]


def test_the_simulation_decides_with_the_class_that_farmers_use() -> None:
    assert bench.simulation.Pace is taskfarmer.farm.farmer.Pace is Pace
    assert bench.simulation.Pauses is taskfarmer.system.lock.Pauses


def run(scenario: Scenario, lock: LockModel = FIFTY, pace: type[Pace] = Pace) -> Seen:
    return Simulation(scenario, lock, pace).run()


def test_a_thousand_farmers_wait_for_less_than_a_hundredth_of_their_time() -> None:
    seen = run(Scenario(1000, 4, 30.0, 10**9, until=150.0, since=100.0))
    assert seen.waiting < 0.01, seen
    assert seen.idle < 0.05, seen
    assert seen.settled > 5_000, seen


@pytest.mark.parametrize(("length", "slots", "idle"), [(0.01, 1, 0.1), (5.0, 8, 0.02), (600.0, 128, 0.02)])
def test_neither_do_those_with_short_and_with_long_tasks(length: float, slots: int, idle: float) -> None:
    """Fewer of them with a slower disk, which is the same and sooner simulated."""
    seen = run(
        Scenario(120, slots, length, 10**9, until=240.0, since=160.0), FIFTY._replace(median=0.0176 * 1000 / 120)
    )
    assert seen.waiting < 0.01, seen
    assert seen.idle < idle, seen


@pytest.mark.parametrize(("farmers", "lock"), [(8, THIRTY), (10, FIFTY), (12, FIFTY), (16, FIFTY)])
def test_neither_do_some_ten_and_their_slots_have_work(farmers: int, lock: LockModel) -> None:
    """All of them come so often that they meet, and each wait counts for much of the half second until the next."""
    seen = run(Scenario(farmers, 8, 5.0, 10**9, until=240.0, since=30.0), lock)
    assert seen.waiting < 0.01, seen
    assert seen.idle < 0.01, seen


def test_of_hundreds_that_start_at_once_each_waits_for_two_turns_and_then_hardly_any_more() -> None:
    """One turn to get the first tasks, one when it is known how long they take. Two of all take twenty seconds."""
    scenario = Scenario(300, 8, 5.0, 10**9, until=35.0, since=25.0, arrival=1.0)
    seen = run(scenario, THIRTY)
    assert seen.waiting < 0.01, seen
    assert seen.idle < 0.01, seen


def test_they_would_wait_for_most_of_it_if_they_came_as_often_as_one_alone() -> None:
    """Or this simulation could show nothing."""
    scenario = Scenario(60, 8, 5.0, 10**9, until=60.0, since=30.0)
    slow = FIFTY._replace(median=0.0176 * 1000 / 60)
    assert run(scenario, slow, Impatient).waiting > 0.5


def test_one_farmer_alone_never_waits_and_its_slots_hardly_do() -> None:
    seen = run(Scenario(1, 8, 5.0, 10**9, until=100.0, since=10.0, arrival=0.0))
    assert seen.waiting == 0.0
    assert seen.idle < 0.05, seen
    assert seen.exchanges_a_second <= 2.1, seen


def test_everything_that_was_to_be_done_is_done_and_the_end_comes_soon() -> None:
    farmers, slots, length, rounds = 20, 4, 2.0, 20
    seen = run(Scenario(farmers, slots, length, farmers * slots * rounds, until=1e6, arrival=2.0))
    assert seen.settled == farmers * slots * rounds
    assert seen.ended_at < 1.3 * length * rounds, seen


def test_the_same_seed_gives_the_same_numbers() -> None:
    scenario = Scenario(10, 2, 1.0, 10**9, until=30.0)
    assert run(scenario) == run(scenario)
    assert Simulation(scenario, FIFTY, seed=2).run() != run(scenario)
