"""How often a farmer exchanges, and how much it takes: decided purely, so tested without a farm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfarmer.farm.pace import INTERVAL, Pace

pytestmark = pytest.mark.quick


def pace_that_knows(length: float, slots: int = 4) -> Pace:
    """A pace that has seen a hundred tasks of this length."""
    pace = Pace(slots, 0.0)
    pace.learn(100, 100 * length, 0.0)
    return pace


@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=300))
def test_exchanges_are_bounded_to_two_a_second_however_often_one_asks(pauses: list[float]) -> None:
    pace = Pace(4, 0.0)
    now, exchanges = 0.0, 0
    for pause in pauses:
        now += pause
        if pace.may_exchange(now):
            pace.exchanged()
            exchanges += 1
    assert exchanges <= 2 * now + 4  # a few may follow each other at once


@given(st.lists(st.floats(0.0, 2.0), max_size=30))
def test_the_time_told_is_the_time_after_which_an_exchange_is_allowed(pauses: list[float]) -> None:
    pace = Pace(4, 0.0)
    now = 0.0
    for pause in pauses:
        now += pause
        wait = pace.seconds_until_allowed(now)
        assert 0.0 <= wait <= INTERVAL + 1e-6
        assert (wait == 0.0) == pace.may_exchange(now)
        now += wait + 1e-6
        assert pace.may_exchange(now)
        pace.exchanged()


def test_the_first_exchange_is_allowed_at_once() -> None:
    assert Pace(1, 1e6).may_exchange(1e6)


def test_before_anything_is_known_one_round_is_asked_for_and_handed_out_one_by_one() -> None:
    pace = Pace(4, 0.0)
    assert pace.length is None
    assert pace.want(0, 4, None) == 4
    assert pace.want(1, 4, 1000) == 3
    assert pace.batch(100, more_to_come=True) == 1


@given(st.floats(1.5, 1e5), st.integers(1, 64), st.integers(0, 64))
def test_of_long_tasks_one_round_is_asked_for(length: float, slots: int, idle: int) -> None:
    pace = pace_that_knows(length, slots)
    idle = min(idle, slots)
    assert pace.want(0, idle, 10_000) == idle
    assert pace.batch(1000, more_to_come=True) == 1


@given(st.floats(1e-4, 0.05), st.integers(1, 64))
def test_of_short_tasks_enough_is_asked_for_to_last_until_the_exchange_after(length: float, slots: int) -> None:
    """Or the slots would wait: there may be only two exchanges a second."""
    want = pace_that_knows(length, slots).want(0, slots, 10**9)
    assert want * length / slots >= INTERVAL
    assert want * length / slots <= 5 * INTERVAL + 1.0


@given(st.floats(1e-6, 10.0), st.integers(0, 10**6), st.integers(0, 64))
def test_nothing_is_asked_for_that_is_held_already(length: float, backlog: int, idle: int) -> None:
    pace = pace_that_knows(length)
    assert pace.want(backlog, idle, 10**6) == max(0, pace.want(0, idle, 10**6) - backlog)


@given(st.floats(1e-5, 0.05), st.integers(1, 5000))
def test_near_the_end_batches_get_smaller(length: float, backlog: int) -> None:
    """So that all slots have work until the last task, and none sits on what another could do."""
    slots = 4
    pace = pace_that_knows(length, slots)
    batch = pace.batch(backlog, more_to_come=False)
    assert 1 <= batch <= max(1, -(-backlog // (2 * slots)))
    assert batch <= pace.batch(backlog, more_to_come=True)


def test_a_list_is_handed_out_in_shrinking_batches_to_its_last_task() -> None:
    pace = pace_that_knows(0.001)
    left, batches = 1000, []
    while left:
        batches.append(min(left, pace.batch(left, more_to_come=False)))
        left -= batches[-1]
    assert batches == sorted(batches, reverse=True)
    assert batches[-4:] == [1] * 4


@given(st.floats(1e-5, 1.0))
def test_a_batch_is_never_more_work_than_a_stop_or_a_report_can_wait_for(length: float) -> None:
    assert pace_that_knows(length).batch(10**6, more_to_come=True) * length <= max(0.3, length)


def test_recent_tasks_count_more() -> None:
    pace = pace_that_knows(0.001)
    pace.learn(5, 50.0, 20.0)
    assert pace.length is not None
    assert pace.length > 5.0


@given(st.floats(1e-4, 100.0), st.integers(0, 1000))
def test_when_it_holds_less_than_it_needs_it_runs_low_and_when_it_holds_plenty_it_does_not(
    length: float, idle: int
) -> None:
    pace = pace_that_knows(length)
    assert idle == 0 or pace.runs_low(0, idle)
    assert not pace.runs_low(10**7, idle)


@given(st.floats(1e-4, 0.05), st.integers(1, 64), st.integers(0, 10**5), st.integers(1, 1000))
def test_among_others_the_last_tasks_are_shared_but_never_so_finely_that_slots_wait(
    length: float, slots: int, left: int, others: int
) -> None:
    pace = pace_that_knows(length, slots)
    alone = pace.want(0, slots, left)
    pace.others = others
    want = pace.want(0, slots, left)
    assert want <= alone
    assert want <= max(left / (2 * (others + 1)), INTERVAL * slots / length, slots)
    assert (want + 1) * length / slots >= INTERVAL
