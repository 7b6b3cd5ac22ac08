"""A node on which everything fails at once leaves the list to others; a list on which everything fails is worked through."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Farm, wait_until
from farmhands import ended

from taskfarmer.farm.health import Health
from taskfarmer.farm.notices import Notice, Trouble
from taskfarmer.model import Attempt, Claim, Outcome, Owner
from taskfarmer.stores.base import Company
from taskfarmer.system.presence import Sign

pytestmark = pytest.mark.quick


# The decision


class Elsewhere:
    """What a farmer may know of others: their last signs of life. Nothing else is asked of it."""

    def __init__(self, **signs: Sign) -> None:
        self.signs = {Owner(host, 1, 1, "a"): sign for host, sign in signs.items()}
        self.company = Company(len(signs), len(signs))

    def elsewhere(self, most: int) -> list[Owner]:
        return list(self.signs)[:most]

    def sign(self, owner: Owner) -> Sign | None:
        return self.signs.get(owner)

    def say(self, host: str, well: int, failing: int) -> None:
        owner = Owner(host, 1, 1, "a")
        self.signs[owner] = Sign(self.signs[owner].beats + 1, well, failing)


def fail(health: Health, times: int, outcome: Outcome = Outcome.FAILED, wall: float = 0.01) -> None:
    for token in range(times):
        health.note(Attempt(Claim(token, token, 1, 0, "x"), outcome, 1, 0.0, wall))


def health_beside(store: Elsewhere) -> tuple[Health, list[str]]:
    said: list[str] = []

    def hear(notice: Notice) -> None:
        assert isinstance(notice, Trouble)
        said.append(notice.message)

    return Health(store, hear), said  # type: ignore[arg-type]


def test_the_first_twenty_failures_are_suspect_and_later_fifty_in_a_row() -> None:
    health, _ = health_beside(Elsewhere(n2=Sign(7, 100, 0)))
    fail(health, 19)
    assert not health.is_suspect
    fail(health, 1, Outcome.NOT_STARTED, wall=3.0)
    assert health.is_suspect
    fail(health, 1, Outcome.FINISHED)
    fail(health, 49)
    assert not health.is_suspect
    fail(health, 1)
    assert health.is_suspect


def test_what_fails_after_a_while_or_was_stopped_is_not_suspect() -> None:
    health, _ = health_beside(Elsewhere(n2=Sign(7, 100, 0)))
    fail(health, 100, wall=1.5)
    fail(health, 100, Outcome.INTERRUPTED)
    fail(health, 100, Outcome.WORKER_LOST)
    assert not health.is_suspect


def test_a_farmer_without_others_is_never_held_up() -> None:
    health, said = health_beside(Elsewhere())
    fail(health, 200)
    assert health.examine(0.0) is None
    assert not health.is_suspect and health.most_to_start is None and said == []


def test_what_may_be_eaten_is_little_once_suspicion_rises() -> None:
    """A node that fails fast must not have claimed the whole list by the time others are asked."""
    health, _ = health_beside(Elsewhere(n2=Sign(7, 100, 0)))
    assert health.most_to_start is None
    fail(health, 1)
    assert health.most_to_start == 19, "nothing has gone well here yet"
    fail(health, 25)
    assert health.most_to_start == 0
    fail(health, 1, Outcome.FINISHED)
    fail(health, 4)
    assert health.most_to_start is None, "a few failures among many tasks are no reason to slow down"
    fail(health, 8)
    assert health.most_to_start == 38


def test_what_another_host_said_before_does_not_count() -> None:
    store = Elsewhere(n2=Sign(7, 100, 0))
    health, said = health_beside(store)
    fail(health, 20)
    assert [health.examine(now) for now in (0.0, 2.0, 4.0)] == [None] * 3
    assert health.is_suspect and len(said) == 1
    store.say("n2", 101, 0)
    reason = health.examine(6.0)
    assert reason and "n2 does well" in reason


@pytest.mark.parametrize("well, failing", [(0, 0), (100, 3), (0, 30)])
def test_a_host_that_fares_no_better_acquits_us(well: int, failing: int) -> None:
    store = Elsewhere(n2=Sign(7, 100, 0))
    health, said = health_beside(store)
    fail(health, 20)
    health.examine(0.0)
    store.say("n2", well, failing)
    assert health.examine(2.0) is None
    assert not health.is_suspect and said[-1] == "other hosts fare no better: going on"
    fail(health, 50)
    assert health.is_suspect, "others are asked again after more"
    health.examine(3.0)
    store.say("n2", well, failing)
    health.examine(5.0)
    fail(health, 99)
    assert not health.is_suspect, "and each time later: a list on which most fail is not held up for long"


def test_silence_of_others_is_not_waited_for_for_ever() -> None:
    health, _ = health_beside(Elsewhere(n2=Sign(7, 100, 0)))
    fail(health, 20)
    health.examine(0.0)
    assert health.examine(14.0) is None and health.is_suspect
    assert health.examine(16.0) is None and not health.is_suspect


def test_those_who_leave_are_not_waited_for() -> None:
    store = Elsewhere(n2=Sign(7, 100, 0))
    health, _ = health_beside(store)
    fail(health, 20)
    health.examine(0.0)
    store.signs.clear()
    assert health.examine(2.0) is None and not health.is_suspect


# Two hosts


def wait_for_finished(farm: Farm, count: int = 1) -> None:
    wait_until(lambda: len(farm.lines("finished")) >= count, what=f"{count} finished tasks")


def test_a_sick_node_leaves_the_list_to_a_healthy_one(farm: Farm) -> None:
    farm.write(*['[ -z "$SICK" ] && { [ -e go ] || sleep 0.3; }'] * 400)
    healthy = farm.start_on("n2", "-n", "2")
    wait_for_finished(farm)
    status, said = ended(farm.start_on("n1", "-n", "4", SICK="yes"))
    Path(farm.folder / "go").touch()
    assert status == 75, said
    assert "n2 does well" in said and "--no-sick-node-stop" in said, said
    failed = len(farm.lines("failed"))
    assert 20 <= failed < 60, said
    status, said = ended(healthy)
    assert status == 1, said
    farm.assert_each_task_stands_once(400)
    assert len(farm.lines("failed")) == failed, "the healthy one failed none"


def test_a_bad_list_is_worked_through_by_all(farm: Farm) -> None:
    farm.write(*["sleep 0.02; exit 3"] * 300)
    farmers = [farm.start_on(host, "-n", "2") for host in ("n1", "n2")]
    for farmer in farmers:
        status, said = ended(farmer, timeout=60)
        assert status in (1, 75), said  # 75: it left while the other still ran the last ones
        assert "Is this node sick" not in said
    assert len(farm.lines("failed")) == 300
