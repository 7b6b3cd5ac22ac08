"""What every store must do. A new store is a new line in `STORES`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest
from forked import die_now, folder_in_memory, in_child, start_child
from textfarm import TextFarm, ended, finished, work_off

from taskfarmer.errors import Fenced
from taskfarmer.model import Claim, Outcome, Owner, State
from taskfarmer.stores import slotfile
from taskfarmer.stores.base import Glance, Parting
from taskfarmer.system.leftovers import Leader
from taskfarmer.system.presence import Presence

pytestmark = pytest.mark.quick

STORES = {
    "text": TextFarm,
}

NASTY = (
    "plain",
    "double \"quotes\" and 'single' and `back`",
    "bytes that are no UTF-8: \udcff\udcfe\udc80",
    "ünï©ode \u2028 and \x85 stay in their line",
    "tab\tlone\rcr \x0c form feed \x1b[31m",
    "  leading blanks and trailing  ",
    "7 begins with a number",
    "$(date +%s) %d {} \\n \\",
    "long " + "x" * 200_000,
)


@pytest.fixture(params=STORES.values(), ids=STORES.keys())
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TextFarm]:
    with folder_in_memory(tmp_path) as folder:
        yield request.param(folder)


def ids(claims: list[Claim]) -> list[int]:
    return [claim.id for claim in claims]


def numbered(count: int) -> list[str]:
    return [f"echo {number}" for number in range(count)]


# Claiming


def test_claims_come_in_the_order_of_the_list(farm: TextFarm) -> None:
    farm.load(*numbered(12))
    with farm.farmer() as store:
        got = [claim for want in (1, 3, 5, 10) for claim in store.exchange([], want).claims]
        assert [(claim.id, claim.command) for claim in got] == list(enumerate(numbered(12)))
        store.exchange(finished(got), 0)


def test_each_claim_has_a_token_of_its_own(farm: TextFarm) -> None:
    farm.load(*numbered(5))
    with farm.farmer() as store:
        first = store.exchange([], 5).claims
        again = store.exchange([ended(claim, Outcome.INTERRUPTED) for claim in first], 0)
        second = store.exchange([], 5).claims
        assert again.claims == [] and ids(first) == ids(second)
        assert len({claim.token for claim in first + second}) == 10
        store.exchange(finished(second), 0)


def test_an_exchange_tells_what_is_left_finished_and_failed(farm: TextFarm) -> None:
    farm.load(*numbered(6))
    with farm.farmer() as store:
        first = store.exchange([], 4)
        assert (ids(first.claims), first.left, first.finished, first.failed) == ([0, 1, 2, 3], 2, 0, 0)
        outcomes = [ended(first.claims[0]), ended(first.claims[1]), ended(first.claims[2], Outcome.FAILED, 1)]
        second = store.exchange(outcomes, 1)
        assert (ids(second.claims), second.left, second.finished, second.failed) == ([4], 1, 2, 1)
        store.exchange(finished([first.claims[3], *second.claims]), 0)


def test_nothing_is_claimed_from_an_empty_store(farm: TextFarm) -> None:
    farm.load()
    with farm.farmer() as store:
        exchange = store.exchange([], 5)
        assert (exchange.claims, exchange.left, exchange.running_elsewhere) == ([], 0, 0)


def test_of_the_farmers_of_a_job_that_leave_at_the_same_time_one_is_the_last(
    farm: TextFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.load(*numbered(3))
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    with farm.farmer():
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        with farm.farmer() as one, farm.farmer() as two:
            settled = two.exchange([], 1).claims
            two.exchange(finished(settled), 0)
            assert one.leave_job() == Parting(is_last=False, waiting=2, settled=1)
            assert two.leave_job() == Parting(is_last=True, waiting=2, settled=1), "the other may not have ended yet"


def test_what_farmers_learn_of_lengths_is_added_up_and_told_to_all(farm: TextFarm) -> None:
    farm.load(*numbered(9))
    with farm.farmer() as one, farm.farmer() as two:
        assert one.exchange([], 1).lengths == {}
        assert one.exchange([], 0, (), {"2": 20, "4": 1}).lengths == {"2": 20, "4": 1}
        assert two.exchange([], 1, (), {"4": 7}).lengths == {"2": 20, "4": 8}
    with farm.farmer() as three:
        assert three.exchange([], 1).lengths == {"2": 20, "4": 8}


def test_two_owners_never_hold_the_same_task(farm: TextFarm) -> None:
    farm.load(*numbered(10))
    with farm.farmer() as one, farm.farmer() as two:
        mine, others = one.exchange([], 4).claims, two.exchange([], 4).claims
        mine += one.exchange([], 4).claims
        assert sorted(ids(mine + others)) == list(range(10))
        waiting = two.exchange([], 1)
        assert (waiting.claims, waiting.left, waiting.running_elsewhere) == ([], 0, 6)
        one.exchange(finished(mine), 0)
        two.exchange(finished(others), 0)
    assert {place for place, _ in farm.standing().values()} == {"finished"}


# Seeing the others without keeping them out


def test_a_glance_sees_what_an_exchange_would_tell(farm: TextFarm) -> None:
    farm.load(*numbered(6))
    with farm.farmer() as one, farm.farmer() as two:
        claims = one.exchange([], 3).claims
        held = two.exchange([], 2).claims
        one.exchange([ended(claims[0]), ended(claims[1], Outcome.FAILED, 1)], 0)
        assert two.glance() == Glance(left=1, finished=1, failed=1, running_elsewhere=1)
        assert one.glance() == Glance(left=1, finished=1, failed=1, running_elsewhere=2)
        two.exchange([], 0, held)
        assert one.glance() == Glance(left=3, finished=1, failed=1, running_elsewhere=0)
        one.exchange(finished(claims[2:]), 0)


def test_of_tasks_that_were_added_a_glance_does_not_tell_too_little(farm: TextFarm) -> None:
    farm.load(*numbered(1))
    with farm.farmer() as one, farm.farmer() as two:
        one.exchange([], 0)
        two.add(["true"] * 5)
        seen = one.glance()
        assert seen is None or seen.left == 6


def test_the_others_at_work_are_those_that_hold_claims(farm: TextFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    farm.load(*numbered(3))
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    with farm.farmer() as of_another_job:
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        with farm.farmer() as one, farm.farmer() as two:
            for store in (one, two):
                store.recover()
                assert not store.may_be_at_work(anybody=True), "to be there is not to be at work"
            elsewhere = of_another_job.exchange([], 1).claims
            assert one.may_be_at_work(anybody=True) and not two.may_be_at_work(anybody=False)
            held = two.exchange([], 2).claims
            assert not two.may_be_at_work(anybody=False)
            found = {(owner, tuple(ids)) for owner, ids in one.holdings(9)}
            assert found == {(of_another_job.owner, (0,)), (two.owner, (1, 2))}
            assert len(one.holdings(1)) == 1
            two.exchange(finished(held), 0)
            assert one.may_be_at_work(anybody=True)
            of_another_job.exchange(finished(elsewhere), 0)
            assert not one.may_be_at_work(anybody=True) and one.holdings(9) == []


def test_who_takes_over_from_the_one_that_was_at_work_is_at_work(farm: TextFarm) -> None:
    farm.load(*numbered(9))
    with farm.farmer() as one, farm.farmer() as two, farm.farmer() as three:
        one.recover()
        for works, follows in [(two, three), (three, two)] * 4:
            held = works.exchange([], 1).claims
            assert one.may_be_at_work(anybody=True)
            taken = follows.exchange([], 1).claims
            works.exchange(finished(held), 0)
            assert one.may_be_at_work(anybody=True)
            follows.exchange([], 0, taken)
            assert not one.may_be_at_work(anybody=True)


def test_of_a_thousand_others_a_few_are_asked_at_a_time_until_all_were(farm: TextFarm) -> None:
    farm.load(*numbered(1))
    strangers = [farm.stranger(f"n{number}") for number in range(200)]
    with farm.farmer() as store:
        store.recover()
        asked: list[Owner] = []
        claims_of = store._owners.claims_of
        store._owners.claims_of = lambda owner: (asked.append(owner), claims_of(owner))[1]  # type: ignore[method-assign]
        calls = 1
        while store.may_be_at_work(anybody=True):
            calls += 1
        assert sorted(asked) == sorted(strangers)
        assert calls >= 5


def test_of_the_owners_of_a_job_exactly_one_is_the_first(farm: TextFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    farm.load(*numbered(1))
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    with farm.farmer() as other:
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        with farm.farmer() as one, farm.farmer() as two:
            for store in (one, two, other):
                store.recover()
            assert one.is_first_of_job() != two.is_first_of_job()
            assert other.is_first_of_job()
            first, second = sorted((one, two), key=lambda store: store.owner)
            assert first.is_first_of_job()
            first.leave()
            second.recover()
            assert second.is_first_of_job(), "it takes the other's place"


def test_outside_of_a_job_everybody_is_the_first(farm: TextFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("PBS_JOBID", raising=False)
    farm.load(*numbered(1))
    with farm.farmer() as one, farm.farmer() as two:
        for store in (one, two):
            store.recover()
            assert store.is_first_of_job()


# Settling


def test_each_outcome_leaves_its_task_where_it_says(farm: TextFarm) -> None:
    outcomes = list(Outcome)
    farm.load(*numbered(len(outcomes)))
    with farm.farmer() as store:
        claims = store.exchange([], len(outcomes)).claims
        store.exchange([ended(claim, outcome) for claim, outcome in zip(claims, outcomes)], 0)
    standing = farm.standing()
    for id, outcome in enumerate(outcomes):
        assert standing[id] == (outcome.state.value, f"echo {id}")


def test_settling_and_claiming_are_one_exchange(farm: TextFarm) -> None:
    farm.load(*numbered(4))
    with farm.farmer() as store:
        first = store.exchange([], 2).claims
        second = store.exchange(finished(first), 2)
        assert ids(second.claims) == [2, 3] and second.finished == 2
        store.exchange(finished(second.claims), 0)


def test_interrupted_tasks_go_back_first_in_their_order_and_the_attempt_counts(farm: TextFarm) -> None:
    farm.load(*numbered(6))
    with farm.farmer() as store:
        claims = store.exchange([], 4).claims
        assert [claim.attempt for claim in claims] == [1, 1, 1, 1]
        back = store.exchange([ended(claim, Outcome.INTERRUPTED) for claim in claims[1:]], 5)
        assert back.claims == [], "what was given back must not be claimed in the same breath"
        again = store.exchange(finished(claims[:1]), 6).claims
        assert ids(again) == [1, 2, 3, 4, 5]
        assert [claim.attempt for claim in again] == [2, 2, 2, 1, 1]
        assert [claim.failures for claim in again] == [0, 0, 0, 0, 0], "an interruption uses up no retry"
        store.exchange(finished(again), 0)


def test_claims_that_were_never_started_go_back_in_their_order_without_an_attempt(farm: TextFarm) -> None:
    farm.load(*numbered(6))
    with farm.farmer() as store:
        claims = store.exchange([], 4).claims
        store.exchange([], 0, claims[1:])
        again = store.exchange([], 6).claims
        assert ids(again) == [1, 2, 3, 4, 5]
        assert {claim.attempt for claim in again} == {1}
        store.exchange(finished(claims[:1] + again), 0)


def test_a_token_settles_once_and_is_refused_then(farm: TextFarm) -> None:
    farm.load(*numbered(2))
    with farm.farmer() as store:
        claims = store.exchange([], 2).claims
        assert store.exchange(finished(claims[:1]), 0).refused == []
        late = store.exchange([ended(claims[0], Outcome.FAILED, 1), ended(claims[1])], 0)
        assert late.refused == [claims[0].token]
    assert {place for place, _ in farm.standing().values()} == {"finished"}


def test_a_foreign_token_is_refused(farm: TextFarm) -> None:
    farm.load(*numbered(3))
    with farm.farmer() as one, farm.farmer() as two:
        mine = one.exchange([], 2).claims
        foreign = mine[1]._replace(token=4711)
        assert two.exchange(finished([foreign]), 0).refused == [4711]
        assert one.exchange(finished(mine), 0).refused == []
    assert farm.standing()[1][0] == "finished" and farm.standing()[2][0] == "toprocess"


# Trying again


def test_failed_tasks_are_retried_behind_the_rest_and_fail_at_last(farm: TextFarm) -> None:
    farm.load(*numbered(3))
    order = []
    with farm.farmer(retries=2) as store:
        while claims := store.exchange([], 1).claims:
            order.append((claims[0].id, claims[0].attempt, claims[0].failures))
            store.exchange([ended(claims[0], Outcome.FAILED if claims[0].id == 0 else Outcome.FINISHED, 1)], 0)
    assert order == [(0, 1, 0), (1, 1, 0), (2, 1, 0), (0, 2, 1), (0, 3, 2)]
    assert {id: place for id, (place, _) in farm.standing().items()} == {0: "failed", 1: "finished", 2: "finished"}


def test_tries_are_counted_across_owners(farm: TextFarm) -> None:
    farm.load("false")
    for attempt, failures in ((1, 0), (2, 1)):
        with farm.farmer(retries=1) as store:
            claims = store.exchange([], 1).claims
            assert (claims[0].attempt, claims[0].failures) == (attempt, failures)
            store.exchange([ended(claims[0], Outcome.FAILED, 1)], 0)
    assert farm.standing()[0][0] == "failed"


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.NOT_ENDED])
def test_a_task_that_was_cancelled_or_may_still_run_is_not_retried(farm: TextFarm, outcome: Outcome) -> None:
    farm.load("sleep 600")
    with farm.farmer(retries=3) as store:
        store.exchange([ended(store.exchange([], 1).claims[0], outcome)], 0)
    assert farm.standing()[0][0] == "failed"


def test_retries_end_however_many_were_asked_for(farm: TextFarm) -> None:
    farm.load("false")
    tried = 0
    with farm.farmer(retries=260) as store:
        while tried < 265 and (claims := store.exchange([], 1).claims):
            tried += 1
            store.exchange([ended(claims[0], Outcome.FAILED, 1)], 0)
    assert tried == 261
    assert farm.standing()[0][0] == "failed"


def fail_all(farm: TextFarm, count: int) -> None:
    farm.load(*numbered(count))
    with farm.farmer() as store:
        store.exchange([ended(claim, Outcome.FAILED, 1) for claim in store.exchange([], count).claims], 0)


def test_requeue_puts_every_failed_task_behind_the_rest(farm: TextFarm) -> None:
    fail_all(farm, 3)
    with farm.farmer() as store:
        store.add(["new"])
        assert store.requeue(None) == 3
        assert store.requeue(None) == 0
        claims = store.exchange([], 9).claims
        assert [claim.command for claim in claims] == ["new", "echo 0", "echo 1", "echo 2"]
        assert [claim.attempt for claim in claims] == [1, 2, 2, 2]
        store.exchange(finished(claims), 0)


def test_requeue_puts_back_only_the_named(farm: TextFarm) -> None:
    fail_all(farm, 4)
    with farm.farmer() as store:
        assert store.requeue([3, 1, 99]) == 2
        claims = store.exchange([], 9).claims
        assert ids(claims) == [1, 3]
        store.exchange(finished(claims), 0)
    assert {id: place for id, (place, _) in farm.standing().items()} == {
        0: "failed", 1: "finished", 2: "failed", 3: "finished",
    }  # fmt: skip


def test_a_requeued_task_has_all_its_retries_again(farm: TextFarm) -> None:
    farm.load("false")
    for _ in range(2):
        with farm.farmer(retries=1) as store:
            tries = 0
            while claims := store.exchange([], 1).claims:
                tries += 1
                store.exchange([ended(claims[0], Outcome.FAILED, 1)], 0)
            assert tries == 2
            assert store.requeue([0]) == 1


# Adding, counting, telling


def test_added_tasks_get_new_ids_behind_the_rest(farm: TextFarm) -> None:
    farm.load(*numbered(2))
    with farm.farmer() as store:
        added = store.add(["a", "b"])
        assert (added.total, added.new, added.dropped, added.left) == (4, 2, 0, 4)
        claims = store.exchange([], 9).claims
        assert [(claim.id, claim.command) for claim in claims] == [(0, "echo 0"), (1, "echo 1"), (2, "a"), (3, "b")]
        assert store.add(["c"]).total == 5
        claims += store.exchange([], 9).claims
        assert ids(claims) == [0, 1, 2, 3, 4]
        store.exchange(finished(claims), 0)


def test_adding_nothing_changes_nothing(farm: TextFarm) -> None:
    farm.load(*numbered(2))
    store = farm.open()
    assert (store.add([]).new, store.add([]).total) == (0, 2)


@pytest.mark.parametrize("count", [5_000, 9_000])
def test_ten_thousand_tasks_keep_their_order(farm: TextFarm, count: int) -> None:
    farm.load(*numbered(10))
    with farm.farmer() as store:
        claims = store.exchange([], 3).claims
        assert store.add(f"more {number}" for number in range(count)).total == count + 10
        claims += store.exchange([], 3).claims + store.exchange([], count * 2).claims
        claims += store.exchange([], count * 2).claims
        assert ids(claims) == list(range(count + 10))
        assert claims[-1].command == f"more {count - 1}"
        assert store.exchange(finished(claims), 0).finished == count + 10


def test_counts_and_records_tell_where_each_task_stands(farm: TextFarm) -> None:
    farm.load(*numbered(5))
    with farm.farmer() as store:
        claims = store.exchange([], 3).claims
        store.exchange([ended(claims[0]), ended(claims[1], Outcome.FAILED, 1)], 0)
        reader = farm.open()
        counts = {State.TOPROCESS: 2, State.RUNNING: 1, State.FINISHED: 1, State.FAILED: 1}
        assert reader.counts() == counts
        for state, count in counts.items():
            assert len(list(reader.records(state))) == count
        found = {record.task.id: (record.state, record.task.command) for record in reader.records()}
        assert found == {
            0: (State.FINISHED, "echo 0"), 1: (State.FAILED, "echo 1"), 2: (State.RUNNING, "echo 2"),
            3: (State.TOPROCESS, "echo 3"), 4: (State.TOPROCESS, "echo 4"),
        }  # fmt: skip
        assert [record.owner for record in reader.records() if record.owner] == [store.owner]
        store.exchange(finished(claims[2:]), 0)


def test_a_reader_sees_each_task_once_while_another_works(farm: TextFarm) -> None:
    farm.load(*numbered(60))

    def work() -> None:
        with farm.farmer() as store:
            while True:
                claims = store.exchange([], 5).claims
                store.exchange([], 0, claims[::2])
                store.exchange([ended(claim, Outcome.INTERRUPTED) for claim in claims[1::2]], 0)

    worker = start_child(work)
    try:
        reader = farm.open()
        states: set[State] = set()
        readings = 0
        while readings < 300 or states != {State.TOPROCESS, State.RUNNING}:
            readings += 1
            records = list(reader.records())
            assert sorted(record.task.id for record in records) == list(range(60))
            states |= {record.state for record in records}
        reader.close()
    finally:
        os.kill(worker, 9)
        os.waitpid(worker, 0)


def test_commands_pass_through_every_state_unharmed(farm: TextFarm) -> None:
    farm.load()
    with farm.farmer(retries=1) as store:
        store.add(NASTY)
        claims = store.exchange([], 99).claims
        assert [claim.command for claim in claims] == list(NASTY)
        store.exchange([ended(claim, Outcome.INTERRUPTED) for claim in claims], 0)
        claims = store.exchange([], 99).claims
        store.exchange([], 0, claims)
        claims = store.exchange([], 99).claims
        assert [claim.command for claim in claims] == list(NASTY)
        store.exchange([ended(claim, Outcome.FAILED, 1) for claim in claims], 0)
        claims = store.exchange([], 99).claims
        store.exchange([ended(claim, Outcome.FAILED, 1) for claim in claims], 0)
        assert [record.task.command for record in store.records(State.FAILED)] == list(NASTY)
        assert store.requeue(None) == len(NASTY)
        claims = store.exchange([], 99).claims
        assert [claim.command for claim in claims] == list(NASTY)
        store.exchange(finished(claims), 0)
        assert [record.task.command for record in store.records(State.FINISHED)] == list(NASTY)


# The dead


def claim_then_die(farm: TextFarm, want: int, outcomes: dict[int, Outcome]) -> None:
    """In a child: join, claim, let the worker write down some outcomes, and die."""

    def work() -> None:
        store = farm.open()
        presence = store.join(2)
        claims = {claim.id: claim for claim in store.exchange([], want).claims}
        assert len(claims) == want
        with open(farm.slot_file(store, 1), "ab") as slot:
            slot.write(slotfile.start_line(1, Leader(1, 0)) + b"torn\nstart 1 2 3 deadbeef\n")
            for id, outcome in outcomes.items():
                slot.write(slotfile.end_line(ended(claims[id], outcome, 3)))
        assert presence
        die_now()

    assert in_child(work) == -9


def test_what_a_dead_owner_had_finished_is_settled_and_the_rest_comes_back_first(farm: TextFarm) -> None:
    farm.load(*numbered(8))
    claim_then_die(farm, 5, {1: Outcome.FINISHED, 2: Outcome.FAILED, 4: Outcome.INTERRUPTED})
    with farm.farmer() as store:
        before = store.exchange([], 0)
        assert before.left == 3
        (recovered,) = store.recover()
        assert (recovered.settled, recovered.requeued, recovered.killed) == (3, 2, 0)
        assert store.recover() == []
        after = store.exchange([], 9)
        assert (ids(after.claims), after.finished, after.failed) == ([0, 3, 4, 5, 6, 7], 1, 1)
        assert [claim.attempt for claim in after.claims] == [2, 2, 2, 1, 1, 1]
        store.exchange(finished(after.claims), 0)
    standing = farm.standing()
    assert sorted(standing) == list(range(8))
    assert [id for id, (place, _) in standing.items() if place == "failed"] == [2]


def test_a_dead_owners_retries_are_those_of_who_recovers(farm: TextFarm) -> None:
    farm.load(*numbered(2))
    claim_then_die(farm, 1, {0: Outcome.FAILED})
    with farm.farmer(retries=1) as store:
        store.recover()
        claims = store.exchange([], 9).claims + store.exchange([], 9).claims
        assert [(claim.id, claim.failures) for claim in claims] == [(1, 0), (0, 1)]
        store.exchange(finished(claims), 0)


def test_tasks_of_several_dead_owners_come_back(farm: TextFarm) -> None:
    farm.load(*numbered(9))
    for _ in range(3):
        claim_then_die(farm, 2, {})
    assert sorted(id for id, _ in work_off(farm)) == list(range(9))
    assert {place for place, _ in farm.standing().values()} == {"finished"}


def test_an_owner_that_died_before_it_claimed_leaves_nothing(farm: TextFarm) -> None:
    farm.load(*numbered(2))
    assert in_child(lambda: (farm.open().join(2), die_now())) == -9
    with farm.farmer() as store:
        (recovered,) = store.recover()
        assert (recovered.settled, recovered.requeued) == (0, 0)
        assert store.recover() == []


def test_a_living_owner_is_not_recovered(farm: TextFarm) -> None:
    farm.load(*numbered(4))
    with farm.farmer() as living, farm.farmer() as other:
        claims = living.exchange([], 2).claims
        assert other.recover() == []
        assert living.exchange(finished(claims), 0).refused == []


def test_an_owner_whose_worker_lives_is_not_recovered(farm: TextFarm) -> None:
    farm.load(*numbered(4))
    worker_is_ready, ready = os.pipe()
    hang_up, line = os.pipe()

    def worker(alive: str) -> None:
        os.close(line)
        presence = Presence(alive)
        os.write(ready, b"x")
        os.read(hang_up, 1)
        presence.close()

    def farmer() -> None:
        store = farm.open()
        presence = store.join(1)
        store.exchange([], 2)
        start_child(lambda: (presence.close(), worker(str(farm.slot_file(store).with_name("alive")))))
        os.read(worker_is_ready, 1)
        die_now()

    assert in_child(farmer) == -9
    os.close(ready)
    with farm.farmer() as store:
        assert store.recover() == []
        assert store.exchange([], 0).left == 2
        os.close(line)  # now the worker ends, too
        assert os.read(worker_is_ready, 1) == b"", "the worker holds this pipe until it is gone"
        (recovered,) = store.recover()
        assert recovered.requeued == 2
    assert sorted(id for id, _ in work_off(farm)) == [0, 1, 2, 3]


def test_an_owner_is_seen_by_its_sign_of_life(farm: TextFarm) -> None:
    farm.load(*numbered(1))
    with farm.farmer() as store:
        store.join(1).beat(well=3, failing=2)
        sign = store.sign(store.owner)
        assert sign and (sign.well, sign.failing) == (3, 2)
    assert store.sign(store.owner) is None, "it has left"


def test_elsewhere_are_owners_of_other_hosts(farm: TextFarm) -> None:
    farm.load(*numbered(1))
    strangers = {farm.stranger(f"other{number}") for number in range(5)}
    with farm.farmer(), farm.farmer() as store:
        assert set(store.elsewhere(9)) == strangers
        assert len(set(store.elsewhere(3)) & strangers) == 3
        assert store.elsewhere(0) == []


def test_an_owner_that_was_taken_over_is_fenced(farm: TextFarm) -> None:
    farm.load(*numbered(3))
    silent = farm.open()
    presence = silent.join(1)
    claims = silent.exchange([], 2).claims
    presence.close()  # its proof of life is lost: as after a cut, seen from others

    def other() -> None:
        with farm.farmer() as store:
            farm.take_over(store, silent)

    assert in_child(other) == 0
    with pytest.raises(Fenced):
        silent.exchange(finished(claims), 1)
    assert sorted(id for id, _ in work_off(farm)) == [0, 1, 2]
    assert sorted(farm.standing()) == [0, 1, 2]


def test_an_owner_that_is_just_joining_is_not_taken_for_dead(farm: TextFarm) -> None:
    """Many farmers start in the same second: one has made its folder and has not yet taken its presence."""
    farm.load(*numbered(3))
    with farm.farmer() as other:
        joining = farm.open()
        (farm.path / "running" / str(joining.owner)).mkdir()
        assert other.recover() == []
        presence = joining.join(1)
        claims = joining.exchange([], 3).claims
        assert other.recover() == []
        joining.exchange(finished(claims), 0)
        joining.leave()
        presence.close()
    assert {place for place, _ in farm.standing().values()} == {"finished"}


def test_a_lost_workers_recorded_ends_are_known(farm: TextFarm) -> None:
    farm.load(*numbered(3))
    with farm.farmer(slots=2) as store:
        claims = store.exchange([], 3).claims
        with open(farm.slot_file(store, 1), "ab") as slot:
            slot.write(slotfile.end_line(ended(claims[1], Outcome.KILLED, 9)))
        (attempt,) = store.ended(1, claims)
        assert (attempt.claim, attempt.outcome, attempt.status, attempt.slot) == (claims[1], Outcome.KILLED, 9, 1)
        assert store.ended(0, claims) == []
        store.exchange(finished(claims), 0)
