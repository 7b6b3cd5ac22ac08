"""How often a farmer exchanges, and how much it takes: decided purely, so tested without a farm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfarmer.farm.pace import INTERVAL, Holding, Pace

pytestmark = pytest.mark.quick

#: So many others change nothing, if an exchange takes ten milliseconds.
FEW = 15


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
            pace.exchanged(now)
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
        pace.exchanged(now)


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
    """Where so few end that each may fetch the next."""
    length = max(length, 1.01 * slots * INTERVAL)
    pace = pace_that_knows(length, slots)
    idle = min(idle, slots)
    assert pace.want(0, idle, 10_000) == idle
    assert pace.batch(1000, more_to_come=True) == 1


@given(st.floats(1.01, 10.0), st.integers(2, 64))
def test_where_more_tasks_end_than_exchanges_are_allowed_the_next_are_there_already(length: float, slots: int) -> None:
    ends = slots * INTERVAL / length  # until the next exchange
    ahead = pace_that_knows(length, slots).want(0, 0, 10_000)
    assert ahead == 0 if ends <= 1 else ends <= ahead + 1e-6 <= ends + 1.001


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


@given(st.floats(1e-4, 0.05), st.integers(1, 64), st.integers(0, 10**5), st.integers(1, FEW))
def test_among_others_the_last_tasks_are_shared_but_never_so_finely_that_slots_wait(
    length: float, slots: int, left: int, others: int
) -> None:
    pace = pace_among(0, length=length, slots=slots)
    alone = pace.want(0, slots, left)
    pace.others = others
    want = pace.want(0, slots, left)
    assert want <= alone
    assert want <= max(left / (2 * (others + 1)), INTERVAL * slots / length, slots)
    assert (want + 1) * length / slots >= INTERVAL


# Many farmers, and a lock that is busy


def pace_among(
    others: int, hold: float = 0.01, waits: float = 0.0, length: float | None = None, slots: int = 4
) -> Pace:
    """A pace that has seen ten exchanges, and a hundred tasks."""
    pace = Pace(slots, 0.0)
    pace.others = others
    for _ in range(10):
        pace.learn_exchange(waits, waits + hold)
    if length is not None:
        pace.learn(100, 100 * length, 0.0)
    return pace


@given(st.integers(0, FEW), st.floats(0.0, 0.01), st.floats(0.0, 0.003))
def test_among_a_few_nothing_changes(others: int, hold: float, waits: float) -> None:
    assert pace_among(others, hold, waits).interval == INTERVAL


@given(st.integers(0, 1000), st.floats(0.001, 0.09))
def test_all_farmers_together_keep_the_lock_taken_for_less_than_half_of_the_time(others: int, hold: float) -> None:
    assert (others + 1) * hold / pace_among(others, hold).interval < 0.5


@given(st.integers(1, 1000), st.floats(0.001, 0.09))
def test_each_finds_the_lock_taken_for_less_than_a_hundredth_of_the_time_between_two_exchanges(
    others: int, hold: float
) -> None:
    """It is taken for that share of the time, and for as long as an exchange takes."""
    interval = pace_among(others, hold).interval
    taken = others * hold / interval
    assert taken * hold / interval < 0.01


def test_one_alone_comes_as_often_as_it_may_however_slow_the_disk_is() -> None:
    assert pace_among(0, 0.2).interval == INTERVAL


def test_before_the_first_exchange_it_is_thought_slow_and_one_that_is_quick_is_believed_at_once() -> None:
    pace = Pace(4, 0.0)
    pace.others = FEW
    assert pace.interval > INTERVAL
    pace.learn_exchange(0.0, 0.005)
    assert pace.interval == INTERVAL


def test_a_first_exchange_that_is_long_is_an_exception() -> None:
    """It turns a new list round."""
    pace = Pace(4, 0.0)
    pace.others = 2
    pace.learn_exchange(0.0, 10.0)
    assert pace.interval < 2 * INTERVAL


@given(st.integers(0, 500), st.floats(0.0, 1.0))
def test_one_who_waits_at_each_exchange_waits_for_less_than_a_hundredth_of_the_time(others: int, share: float) -> None:
    """As long as it waits for no more than a 75th of the interval that would be fair."""
    fair = pace_among(others).interval
    waits = share * fair / 75
    assert waits / pace_among(others, 0.01, waits).interval < 0.01


def test_however_busy_the_lock_is_one_comes_half_as_often_as_is_fair() -> None:
    assert pace_among(0, 0.01, 100.0).interval == 2 * INTERVAL
    assert pace_among(99, 0.01, 100.0).interval == pytest.approx(2 * pace_among(99, 0.01).interval)


def test_one_long_wait_and_one_long_exchange_are_exceptions() -> None:
    """A list of millions of lines is turned round once; a disk stalls now and then."""
    pace = pace_among(3)
    pace.learn_exchange(60.0, 60.01)
    assert pace.interval == INTERVAL
    pace.learn_exchange(0.0, 60.0)
    assert pace.interval == INTERVAL


def test_of_a_lock_that_is_not_busy_any_more_one_hears_soon() -> None:
    pace = pace_among(0, 0.01, 0.5)
    assert pace.interval > INTERVAL
    for _ in range(5):
        pace.learn_exchange(0.0, 0.01)
    assert pace.interval == INTERVAL


@given(st.integers(FEW, 1000), st.floats(0.01, 1000.0), st.integers(1, 128))
def test_who_comes_seldom_takes_enough_along_to_last_until_then(others: int, length: float, slots: int) -> None:
    pace = pace_among(others, 0.02, 0.0, length, slots)
    ahead = pace.want(0, slots, 10**9) - slots
    assert ahead >= 4000 or (ahead + 1) * length / slots >= pace.interval
    assert ahead * length / slots <= 0.6 + 1.4 * pace.interval


@given(st.integers(FEW, 1000), st.floats(0.01, 1000.0), st.integers(1, 128), st.integers(0, 10**6))
def test_nobody_takes_more_than_an_equal_share_beyond_what_it_does_at_once(
    others: int, length: float, slots: int, left: int
) -> None:
    pace = pace_among(others, 0.02, 0.0, length, slots)
    assert pace.want(0, slots, left) <= max(slots, INTERVAL * slots / length, left / (others + 1))


def test_what_has_ended_is_settled_as_seldom_as_one_comes() -> None:
    few, many = pace_among(0), pace_among(999)
    for pace in (few, many):
        pace.exchanged(0.0)
        pace.learn(1, 600.0, 0.0)
    held = Holding(backlog=100, idle=0, busy=128, done=3)
    assert few.is_due(1.0, held, 10**6)
    assert not many.is_due(many.interval - 1.0, held, 10**6)
    assert many.is_due(many.interval, held, 10**6)


def test_of_tasks_of_which_none_has_ended_nobody_claims_another_round() -> None:
    """They may take hours."""
    pace = pace_among(999)
    for now in (0.0, 2.0, 4.0, 400.0):
        assert not pace.is_due(now, Holding(backlog=0, idle=0, busy=4, done=0), 10**6)
        assert pace.want(0, 0, 10**6) == 0


# What was claimed too much of


def quiet_pace(seconds: float, others: int = 1) -> Pace:
    """A pace that has learned from tasks of 0.01 s; then all slots are busy, and for so long nothing ends."""
    pace = pace_that_knows(0.01)
    pace.others = others
    pace.exchanged(0.0)
    pace.is_due(seconds, Holding(50, 0, 4, 0), 0)
    return pace


def test_a_backlog_that_long_tasks_keep_waiting_goes_back_when_the_others_find_nothing() -> None:
    held = Holding(backlog=50, idle=0, busy=4, done=0)
    assert quiet_pace(2.0).surplus(2.0, held, 0) == 50
    assert quiet_pace(2.0).is_due(2.0, held, 0)


@pytest.mark.parametrize(
    ("seconds", "others", "idle", "left"),
    [(1.9, 1, 0, 0), (9.0, 0, 0, 0), (9.0, 1, 1, 0), (9.0, 1, 0, 1), (9.0, 1, 0, None)],
)
def test_it_does_not_go_back_too_soon_nor_without_need(
    seconds: float, others: int, idle: int, left: int | None
) -> None:
    held = Holding(backlog=50, idle=idle, busy=4, done=0)
    assert quiet_pace(seconds, others).surplus(seconds, held, left) == 0


@given(st.floats(1e-4, 1e4), st.integers(0, 10**4), st.integers(0, 128), st.integers(1, 10**6), st.integers(0, 1000))
def test_nobody_goes_to_the_store_to_ask_for_nothing(
    length: float, backlog: int, idle: int, left: int, others: int
) -> None:
    pace = pace_among(others, 0.02, 0.0, length, slots=128)
    assert not pace.runs_low(backlog, idle) or pace.want(backlog, idle, None) > 0


def test_what_went_back_is_not_claimed_again_at_once() -> None:
    pace = quiet_pace(2.0)
    held = Holding(backlog=0, idle=0, busy=4, done=0)
    for now in (2.0, 2.5, 3.0, 7.0, 60.0):
        assert not pace.is_due(now, held, 50)
        assert pace.want(0, 0, 50) == 0
    assert pace.want(0, 1, 50) == 1


def test_while_a_backlog_waits_one_looks_now_and_then_whether_others_have_work() -> None:
    """What is left in the store is known only from the last exchange."""
    pace = quiet_pace(2.0)
    held = Holding(backlog=50, idle=0, busy=4, done=0)
    assert not pace.is_due(3.9, held, 100)
    assert pace.is_due(4.0, held, 100)
    pace.exchanged(4.0)
    assert not pace.is_due(7.9, held, 100)
    assert pace.want(50, 0, 100) == 0


def test_one_without_work_looks_now_and_then_but_a_thousand_look_less_often() -> None:
    held = Holding(backlog=0, idle=4, busy=0, done=0)
    for pace, seconds in ((pace_among(1), 4.0), (pace_among(999, 0.02), 50.0)):
        pace.exchanged(0.0)
        assert not pace.is_due(seconds - 0.2, held, 0)
        assert pace.is_due(seconds + 0.2, held, 0)
