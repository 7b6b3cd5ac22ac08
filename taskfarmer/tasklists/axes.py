"""The values of one axis of a sweep, as written.

    a, b, "c, d"       a value each: blanks around it are not part of it, quotes keep commas and blanks, "" is a quote
    1..10              whole numbers, the last one included; 01..10 as wide as 10; 10..1 downwards
    0..1..0.1          in steps: 0.0 0.1 ... 1.0, each with as many digits behind the point as the longest of the three

Several lines, and both kinds, may be mixed. What looks like a range and is none (1..x, 0:10:2) is refused: a text in quotes
is always a text.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator, Sequence

from taskfarmer.errors import UsageError

_ITEM = re.compile(r'[ \t]*(?:"((?:[^"]|"")*)"[ \t]*|((?!")[^,]*))(?:,|\Z)')
_N = r"[-+]?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"({_N})\.\.({_N})(?:\.\.({_N}))?").fullmatch
#: What looks like a range, and is none. Times of day (06:00, 1:30:00) and paths (1../a) do not.
_MEANT_AS_RANGE = re.compile(
    r"[-+]?[\d.]*\d[\d.eE+-]*\.\.[\d.eE+-]*"  # 1..  1...10  1e-3..1e-1
    rf"|{_N}\s*\.\.(?!/).*|\w*\s*\.\.\s*{_N}"  # 1..x  1 .. 10  x..10  ..10
    rf"|(?:{_N}\s*)?…(?:\s*{_N})?|\.\.\."  # 1…10  ...
    rf"|{_N}:|{_N}:{_N}:|:{_N}|:{_N}:{_N}|{_N}::{_N}|(?!\d\d?:[0-5]\d:[0-5]\d\Z){_N}:{_N}:{_N}"  # 0:  0:10:  :10  0:10:2
    rf"|[{{[(]\s*{_N}\s*(?:\.\.|:).*|(?:np\.|numpy\.)?(?:a?range|linspace|logspace|seq)\(.*"  # {1..10}  range(10)
).fullmatch
#: What looks like one when it is all that an axis has: 0:10  1-10  1 to 10
_MEANT_ALONE = re.compile(rf"(?!\d\d:\d\d\Z){_N}(?::|\s*(?:-|–|->|to)\s*){_N}").fullmatch


Values = Iterable[str]


class Range:
    """Numbers in equal steps, counted in units of the last digit: no step is lost or added by rounding."""

    def __init__(self, units: range, digits: int, width: int) -> None:
        self._units = units
        self._digits = digits
        self._width = width

    def __iter__(self) -> Iterator[str]:
        return map(self._text, self._units)

    def _text(self, unit: int) -> str:
        text = str(abs(unit)).zfill(self._digits + 1)
        if self._digits:
            text = f"{text[: -self._digits]}.{text[-self._digits :]}"
        return ("-" * (unit < 0) + text).zfill(self._width)


def parse_axis(name: str, text: str) -> list[Values]:
    """The values of an axis, in parts that can be gone through again and again. Raises UsageError."""
    if _MEANT_ALONE(text.strip()):
        raise _no_range(name, text.strip())
    parts: list[Values] = []
    for line in text.splitlines():
        parts.extend(_parse_line(name, line.strip()))
    if not parts:
        raise UsageError(f"axis {name}: a value is wanted, found none; write 1..10, or a, b, c")
    return parts


def _parse_line(name: str, line: str) -> Iterator[Values]:
    at = 0
    while at < len(line):
        item = _ITEM.match(line, at)
        if item is None:
            raise UsageError(f'axis {name}: "..." and then a comma is wanted, found {line[at:]!r:.60}')
        at = item.end()
        quoted, plain = item.groups()
        if quoted is not None:
            yield [quoted.replace('""', '"')]
        elif plain.strip():
            yield _parse_plain(name, plain.strip())
        else:
            raise UsageError(
                f'axis {name}: a value is wanted between commas, found none in {line!r:.60}; "" is the empty one'
            )


def _parse_plain(name: str, text: str) -> Values:
    found = _RANGE(text)
    if found:
        return _range(name, text, found.groups())
    if _MEANT_AS_RANGE(text):
        raise _no_range(name, text)
    return [text]


def _no_range(name: str, text: str) -> UsageError:
    return UsageError(f'axis {name}: FIRST..LAST or FIRST..LAST..STEP is wanted, found {text}; "{text}" is a text')


def _range(name: str, text: str, numbers: Sequence[str | None]) -> Range:
    wholes, fractions = zip(*(number.partition(".")[::2] for number in numbers if number))
    digits = max(map(len, fractions))
    first, last, *steps = (int(whole + fraction.ljust(digits, "0")) for whole, fraction in zip(wholes, fractions))
    step = steps[0] if steps else 10**digits
    if step == 0 or (step < 0 and first < last):
        raise UsageError(f"axis {name}: {text} never arrives; the step must lead from {numbers[0]} to {numbers[1]}")
    step = -abs(step) if first > last else abs(step)
    padded = any(re.match(r"[-+]?0\d", whole) for whole in wholes[:2])
    width = max(len(whole.lstrip("+")) for whole in wholes[:2]) + (digits + 1 if digits else 0) if padded else 0
    return Range(range(first, last + (1 if step > 0 else -1), step), digits, width)
