"""What is said of words that mean nothing here, and what may have been meant."""

from __future__ import annotations

import argparse
import re

from taskfarmer.cli import PROGRAM, VERBS

#: What people type who come from other programs.
_ELSEWHERE = {"-j": "-n", "--jobs": "-n", "-P": "-n", "--max-procs": "-n"}


def plain(message: str) -> str:
    """One of argparse's messages in our words."""
    message = re.sub(r"^argument (\S+): expected one argument$", r"\1: a value is wanted", message)
    message = re.sub(r"^argument (\S+): ignored explicit argument (.*)$", r"\1 takes no value, found \2", message)
    return re.sub(r"^argument (\S+): ", r"\1: ", message)


def unknown_words(words: list[str], parser: argparse.ArgumentParser, otherwise: str) -> str:
    """What to say of words that are left over: the first flag among them, else the first word."""
    from difflib import get_close_matches

    flag = next((word.partition("=")[0] for word in words if word.startswith("-") and word != "--"), None)
    if flag is None:
        found = [*re.findall("'(.*?)'", otherwise), words[0]]
        return f"{otherwise} {words[0]!r}{next(filter(None, map(meant, found)), '')}"
    if flag in _ELSEWHERE and "-n" in parser._option_string_actions:
        return f"{flag}: there is no such flag; did you mean {_ELSEWHERE[flag]}?"
    flags = [flag for action in parser._actions if action.help != argparse.SUPPRESS for flag in action.option_strings]
    close = get_close_matches(flag, flags, 1, 0.75)
    return f"{flag}: there is no such flag" + (f"; did you mean {close[0]}?" if close else "")


def meant(word: str) -> str:
    """What to add where no file is wanted or found: the command that was meant, "" if the word is like none."""
    from difflib import get_close_matches

    if word in VERBS:
        return f"; a command comes first: {PROGRAM} {word} ..."
    close = get_close_matches(word, (*VERBS, "--help", "--version"), 1, 0.75)
    return f"; did you mean {close[0]}?" if close else ""


def check_given(word: str | None, name: str, parser: argparse.ArgumentParser) -> None:
    """Say that a word is wanted which is not there, or is empty: an unset variable in a script."""
    if not word:
        parser.error(f"a {name} is wanted" + ("" if word is None else ", found ''"))
