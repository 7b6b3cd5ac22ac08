"""What may stand behind a flag: the types of argparse, each of which says what is wanted.

`-n` and `-v` may stand without a value: the next word counts as one only if it looks like one, so that `-n list.txt`
means the flag alone and then the list.
"""

from __future__ import annotations

import argparse
from typing import Callable, Sequence

from taskfarmer.errors import UsageError
from taskfarmer.settings.units import parse_size, parse_time
from taskfarmer.system.presence import BEAT

EVERY_CORE = "every"
_YES_OR_NO = {"0": 0, "1": 1, "2": 2, "true": 1, "false": 0, "yes": 1, "no": 0}


def with_values(words: Sequence[str]) -> list[str]:
    """Give `-n` and `-v` the value they mean where they stand alone."""
    alone = {"-n": EVERY_CORE, "--proc": EVERY_CORE, "-v": "1", "--verbose": "1"}
    out: list[str] = []
    for index, word in enumerate(words):
        out.append(word)
        if word == "--":
            return out + list(words[index + 1 :])
        if word in alone:
            following = words[index + 1] if index + 1 < len(words) else ""
            if not _is_value(following, is_level=alone[word] == "1"):
                out[-1:] = [word, alone[word]]
    return out


def _is_value(word: str, is_level: bool) -> bool:
    if word.lstrip("+-").isdigit():
        return True
    return is_level and word.lower() in _YES_OR_NO


def slots(text: str) -> int | str:
    """A number of slots; alone it means every core."""
    return text if text == EVERY_CORE else positive(text)


def level(text: str) -> int:
    """How much is said."""
    return _YES_OR_NO[text.lower()] if text.lower() in _YES_OR_NO else count(text)


def place(text: str) -> str:
    """The name of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("a value is wanted, found ''")
    return text


def count(text: str) -> int:
    """A whole number."""
    return at_least(0, text)


def positive(text: str) -> int:
    """A whole number from 1."""
    return at_least(1, text)


def at_least(least: int, text: str) -> int:
    """A whole number from `least`."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number is wanted, found {text!r}") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"at least {least} is wanted, found {number}")
    return number


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """One of some words."""

    def check(text: str) -> str:
        if text in allowed:
            return text
        choice = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        raise argparse.ArgumentTypeError(f"{choice} is wanted, found {text!r}")

    return check


def time(text: str) -> float:
    """Seconds, of a time as in settings/units.py."""
    try:
        return parse_time(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def silence(text: str) -> float:
    """Seconds after which a silent farmer is dead."""
    seconds = time(text)
    if seconds < 2 * BEAT:
        raise argparse.ArgumentTypeError(f"at least {2 * BEAT:g}s is wanted (two signs of life), found {text!r}")
    return seconds


def size(text: str) -> int:
    """Bytes, of a size as in settings/units.py."""
    try:
        return parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
