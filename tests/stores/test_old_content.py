"""A filesystem shows a farmer what was there before: it stops, and claims nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from textfarm import TextFarm, finished

from taskfarmer.errors import LockError
from taskfarmer.stores.lines import STATE_FILES

pytestmark = pytest.mark.quick


def seen(farm: TextFarm) -> dict[str, bytes]:
    """What stands in the files that an exchange looks at."""
    return {name: farm.file(name).read_bytes() for name in (*STATE_FILES, "sizes") if farm.file(name).exists()}


def show(farm: TextFarm, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        farm.file(name).write_bytes(content)


@pytest.fixture
def farm(tmp_path: Path) -> TextFarm:
    farm = TextFarm(tmp_path)
    farm.load(*(f"echo {number}" for number in range(8)))
    return farm


def test_a_farmer_that_is_shown_less_than_it_has_written_claims_nothing(farm: TextFarm) -> None:
    with farm.farmer() as store:
        before = seen(farm)
        claims = store.exchange([], 2).claims
        now = seen(farm)
        show(farm, before)
        with pytest.raises(LockError, match="shows old content"):
            store.exchange([], 2)
        show(farm, now)
        store.exchange(finished(claims), 0)
    assert farm.ids("finished") == [0, 1]


def test_a_farmer_that_is_shown_less_than_it_has_seen_claims_nothing(farm: TextFarm) -> None:
    with farm.farmer() as one, farm.farmer() as other:
        before = seen(farm)
        claims = one.exchange([], 2).claims
        other.exchange([], 0)
        now = seen(farm)
        show(farm, before)
        with pytest.raises(LockError, match="shows old content"):
            other.exchange([], 2)
        show(farm, now)
        one.exchange(finished(claims), 0)


def test_two_who_were_shown_the_same_find_out_before_they_claim_again(farm: TextFarm) -> None:
    with farm.farmer() as one, farm.farmer() as other:
        before = seen(farm)
        claims = one.exchange([], 2).claims
        show(farm, before)
        others = other.exchange([], 3).claims
        with pytest.raises(LockError, match="found that of another"):
            one.exchange([], 2)
        assert others and claims
        other.exchange([], 0, others)


def test_who_has_seen_nothing_yet_takes_things_as_they_are(farm: TextFarm) -> None:
    before = seen(farm)
    with farm.farmer() as one:
        one.exchange([], 0, one.exchange([], 2).claims)
    show(farm, before)
    with farm.farmer() as other:
        other.exchange(finished(other.exchange([], 8).claims), 0)
    assert sorted(farm.ids("finished")) == list(range(8))
