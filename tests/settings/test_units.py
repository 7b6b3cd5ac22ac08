"""Times and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfarmer.errors import UsageError
from taskfarmer.settings.units import format_time, parse_size, parse_time

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("1.5", 1.5), ("0", 0), ("15m", 900), ("0.5m", 30), ("1h30m", 5400), ("2h", 7200),
        ("1d", 86400), ("1d2h3m4s", 93784), ("01:30:00", 5400), ("1:30", 5400), ("00:00:10", 10), ("2-01:30:00", 178200),
        ("1h30", 3630),
    ],
)  # fmt: skip
def test_a_time_is_read_as_it_is_meant(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "-5", "5 m", "1m1h", "s", "1:2:3", "1:30:", "1e3", "nan", "inf", "90\n", "5w"],
)
def test_what_is_no_time_gets_a_sentence(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_time(text)
    assert repr(text) in str(error.value) and "1h30m" in str(error.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096), ("64k", 65536), ("64K", 65536), ("10M", 10 << 20), ("2GiB", 2 << 30), ("1.5g", 3 << 29),
        ("1 MB", 1 << 20), ("1t", 1 << 40), ("0", 0), ("12B", 12),
    ],
)  # fmt: skip
def test_a_size_is_read_as_it_is_meant(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1x", "1 k k", "10 apples", "1e6", "nan", "1,5k"])
def test_what_is_no_size_gets_a_sentence(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_size(text)
    assert repr(text) in str(error.value) and "10M" in str(error.value)


def test_a_time_is_shown_as_a_clock() -> None:
    assert [format_time(seconds) for seconds in (0, 3.9, 61, 3600, 93600)] == [
        "0:00:00", "0:00:03", "0:01:01", "1:00:00", "26:00:00",
    ]  # fmt: skip


@pytest.mark.quick
@given(st.integers(0, 10**7))
def test_what_is_shown_can_be_given_back(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds
