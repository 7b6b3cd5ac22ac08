"""A sweep: one command for each combination of values."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfarmer.errors import UsageError
from taskfarmer.tasklists import SweepTaskList

pytestmark = pytest.mark.quick


def sweep(command: str, quote: bool = True, **axes: str) -> list[str]:
    return list(SweepTaskList("study.ini", "study.ini_workdir", command, quote=quote, **axes))


def values(text: str) -> list[str]:
    return sweep("{x:raw}", x=text)


def test_the_last_axis_changes_fastest() -> None:
    made = sweep("sim {x} {y} {z} {id}", y="a, b", x="1..2", z="u")
    assert made == ["sim 1 a u 0", "sim 2 a u 1", "sim 1 b u 2", "sim 2 b u 3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1..5", "1 2 3 4 5"),
        ("1..10..4", "1 5 9"),
        ("5..1", "5 4 3 2 1"),
        ("5..1..2", "5 3 1"),
        ("5..1..-2", "5 3 1"),
        ("-2..+1", "-2 -1 0 1"),
        ("08..11", "08 09 10 11"),
        ("-05..5..5", "-05 000 005"),
        ("7..7", "7"),
        ("0..1..0.25", "0.00 0.25 0.50 0.75 1.00"),
        ("0.5..2", "0.5 1.5"),
        ("1..0..0.5", "1.0 0.5 0.0"),
        ("-0.1..0.1..0.1", "-0.1 0.0 0.1"),
        ("0..1..0.3", "0.0 0.3 0.6 0.9"),
        ("a,b , c", "a b c"),
        ("a, b,", "a b"),
        ("1..2, 5, 8..9", "1 2 5 8 9"),
        ("\n1..2\na, b\n\n3", "1 2 a b 3"),
        ("../a, a..b, .., 1.5, -x", "../a a..b .. 1.5 -x"),
        ('"1..3"', "1..3"),
        ("1e-3, 1e-4", "1e-3 1e-4"),
        ("é", "é"),
    ],
)
def test_values_are_what_is_written(text: str, expected: str) -> None:
    assert values(text) == expected.split(" ")


@pytest.mark.parametrize(
    "text",
    [
        "06:00", "06:00, 12:00, 18:00", "01:30:00", "1:2, 2:1, 16:9", "2020-21, 2021-22", "2020-01-31", "1-2, 3-4", "a-z", "x86-64",
        "HEAD~1..HEAD", "v1..main", "1.2.3", "1-800-5", "host:80", "::1", "[::1]:80", "chr1:100-200", "../1", "./..", "a...z",
        "run..", "arrange(x)", "1:a:b", "s3://b/1", "00:11:22:33:44:55", "-1", "1e-5", "C:1", "3-methyl", "T - 1", "1 to one",
    ],
)  # fmt: skip
def test_what_only_resembles_a_range_is_a_text(text: str) -> None:
    assert values(text) == text.split(", ")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *((text, text) for text in [
            "1..x", "1..10..", "1..10..x", "1 .. 10", "1..10 step 2", "x..10", "..10", "1..n", "1..$N", "1\u202610", "1..10;2",
            "0:10:", "0:", ":10", "0:10:2", "0:1:0.1", "-1:1:0.5", "0:100", "0:10", "1-10", "1 - 10", "1 to 10", "1->10",
            "range(10)", "{1..10}", "[1..10]", "1.0..2.0 0.1",
        ]),
        ("a, 1..x", "1..x"), ("1, 2, ..., 10", "..."), ("1, 2, \u2026, 10", "\u2026"), ("1..3, 5:8:", "5:8:"),
        ("range(1, 10)", "range(1"), ("np.linspace(0, 1)", "np.linspace(0"),
    ],
)  # fmt: skip
def test_what_was_meant_as_a_range_and_is_none_is_refused_unless_it_is_quoted(text: str, found: str) -> None:
    with pytest.raises(UsageError) as error:
        sweep("sim {x}", x=text)
    assert str(error.value) == (
        f'axis x: FIRST..LAST or FIRST..LAST..STEP is wanted, found {found}; "{found}" is a text'
    )
    assert values(f'"{text}"') == [text]


def test_quotes_keep_commas_and_blanks() -> None:
    assert values('"a, b", " c ", "say ""hi""", it\'s, 5" disk') == ["a, b", " c ", 'say "hi"', "it's", '5" disk']
    assert sweep("p {x}", x='""') == ["p ''"]


@given(first=st.decimals(-50, 50, places=2), last=st.decimals(-50, 50, places=2), step=st.decimals("0.1", 9, places=1))
def test_no_rounding_gathers_over_many_steps(first: Decimal, last: Decimal, step: Decimal) -> None:
    sign = 1 if first <= last else -1
    count = int(abs(last - first) / step) + 1
    expected = [f"{first + sign * index * step:.2f}" for index in range(count)]
    assert values(f"{first:.2f}..{last:.2f}..{step}") == [text.replace("-0.00", "0.00") for text in expected]


def test_values_are_quoted_unless_that_is_not_wanted() -> None:
    assert sweep("sim {x}", x='"$(date)", a b') == ["sim '$(date)'", "sim 'a b'"]
    assert sweep("sim {x}", quote=False, x='"--a 1", --b') == ["sim --a 1", "sim --b"]


def test_an_axis_may_be_named_as_anything() -> None:
    made = sweep("sim {path} {id} {größe}", path="a", id="7", größe="1")
    assert made == ["sim a 7 1"]


@pytest.mark.parametrize(
    ("command", "axes", "sentence"),
    [
        ("sim", {}, "an axis is wanted, found none"),
        ("sim {x}", {"x": ""}, "axis x: a value is wanted, found none"),
        ("sim {x}", {"x": "\n \n"}, "axis x: a value is wanted, found none"),
        ("sim {x}", {"x": "a,,b"}, "axis x: a value is wanted between commas, found none in 'a,,b'"),
        ("sim {x}", {"x": '"a'}, 'axis x: "..." and then a comma is wanted, found \'"a\''),
        ("sim {x}", {"x": '"a" b'}, 'axis x: "..." and then a comma is wanted, found'),
        ("sim {x}", {"x": "1..10..0"}, "axis x: 1..10..0 never arrives"),
        ("sim {x}", {"x": "1..10..-1"}, "axis x: 1..10..-1 never arrives"),
        ("sim {x}", {"x": "1...10"}, "axis x: FIRST..LAST or FIRST..LAST..STEP is wanted, found 1...10"),
        ("sim {x}", {"x": "1.."}, "axis x: FIRST..LAST or FIRST..LAST..STEP is wanted, found 1.."),
        ("sim {x}", {"x": "1e-3..1e-1"}, "axis x: FIRST..LAST or FIRST..LAST..STEP is wanted, found 1e-3..1e-1"),
        ("sim {x} {z}", {"x": "1", "y": "2"}, "command: {z} is no field; known: {x} {y} {id} {workdir}."),
        ("sim {x}", {"x": "1", "y": "1..9"}, "axis y: command has no {y}"),
        ("sim {x}", {"x": "1", "learning-rate": "1"}, "axis learning-rate: a name of letters, digits and _ is wanted"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_be_meant_is_refused(command: str, axes: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        sweep(command, **axes)
    assert sentence in str(error.value)


def test_axes_are_gone_through_again_and_again() -> None:
    tasklist = SweepTaskList("study.ini", "w", "sim {x} {y}", x="1..3", y="1..2, a")
    assert list(tasklist) == list(tasklist)
    assert len(set(tasklist)) == 9


def test_a_list_that_would_not_be_read_is_refused(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("one\n")
    with pytest.raises(UsageError, match="the INI file of the sweep is wanted as its tasklist, found .*words.txt"):
        SweepTaskList(str(words), "w", "sim {x}", x="1..3")
