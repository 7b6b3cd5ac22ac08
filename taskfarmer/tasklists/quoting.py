"""Values in shell commands: how one is spelled so that bash makes exactly that value of it again.

That depends on the quotes in which it is put, so a command is read as bash reads it, as far as needed for that:

    prog a          bare        a b  ->  'a b'
    prog 'x a'      single      it's ->  'x it'\\''s'     (out of the quotes, and in again)
    prog "x a"      double      $1   ->  "x "'$1'""
    prog $'x a'     ANSI C      a b  ->  $'x ''a b'$''

A spelled value never holds a newline (`$'\\n'` instead): a command is one line. Where it cannot be told what bash would
make of a value, there is no place for one: in backticks, in `${...}`, in arithmetic, and behind some of their like.
"""

from __future__ import annotations

import re
from typing import Callable

Spell = Callable[[str], str]

_KEYWORDS = "if|then|else|elif|fi|case|esac|for|select|while|until|do|done|in|function|time|coproc"
_PLAIN = re.compile(rf"(?!(?:{_KEYWORDS})\Z)[A-Za-z0-9_@%+:./-]+").fullmatch
_SPECIAL_IN_DOUBLE = re.compile(r'[$`"\\\n]').search

_BARE, _PAREN, _SINGLE, _DOUBLE, _ANSI = "bare", "( )", "single quotes", "double quotes", "$' '"
_BACKTICKS, _PARAMETER, _ARITHMETIC = "backticks", "${ }", "arithmetic"
_WORDS = _BARE, _PAREN

_TOKEN = re.compile(
    r"""\\.? | \$[$?!#@*0-9-] | \$\(\( | \$[({['] | \(\( | ["'`()}\n] | \bcase\b""", re.VERBOSE | re.DOTALL
)
_OPENS = {
    "$((": (_ARITHMETIC, _ARITHMETIC),  # each closing parenthesis ends one
    "$(": (_PAREN,),
    "${": (_PARAMETER,),
    "`": (_BACKTICKS,),
}
_REDIRECTS = re.compile(r"\d*[<>]").match
#: What a plain value would become part of: a variable's name, a home folder's.
_TAKES_MORE = re.compile(r"(?:\$\w+|~[\w.+-]*)\Z").search


class Unreadable(Exception):
    """What stands around a value, as words after `stands`: `in backticks`."""


def quote(value: str) -> str:
    """A value as one bash word, without a newline in it."""
    return "'" + value.replace("'", "'\\''").replace("\n", "'$'\\n''") + "'"


class Reader:
    """Reads a command piece by piece and knows in which quotes it has arrived."""

    def __init__(self) -> None:
        self._inside = [_BARE]
        self._lost = ""
        self._last = ""

    def read(self, text: str) -> str:
        """Read on. Returns the text without escaped newlines. Raises Unreadable for any other newline."""
        kept = []
        at = 0
        while at < len(text):
            if self._inside[-1] == _SINGLE:
                end = self._read_single(text, at)
                kept.append(text[at:end])
            else:
                token = _TOKEN.search(text, at)
                end = token.end() if token else len(text)
                kept.append(text[at : token.start() if token else end])
                if token and not (token[0] == "\\\n" and self._inside[-1] != _ANSI):
                    self._take(token[0])
                    kept.append(token[0])
            at = end
        self._last = "".join(kept)
        return self._last

    def spelling(self, following: str) -> Spell:
        """How a value is spelled here, if that text follows it. Raises Unreadable if nobody can tell."""
        inside = self._inside[-1]
        if inside in (_BACKTICKS, _PARAMETER, _ARITHMETIC):
            raise Unreadable(f"in {inside}")
        if self._lost:
            raise Unreadable(f"behind {self._lost}")
        if inside != _SINGLE and (len(self._last) - len(self._last.rstrip("\\"))) % 2:
            raise Unreadable("behind a backslash")
        joined = bool(_TAKES_MORE(self._last))
        if inside == _SINGLE:
            return _in_single
        if inside == _ANSI:
            return _in_ansi
        if inside == _DOUBLE:
            return _out_of_double if joined else _in_double
        return quote if joined or _REDIRECTS(following.replace("\\\n", "")) else _bare  # `1>` is not the word 1

    def _read_single(self, text: str, at: int) -> int:
        end = text.find("'", at)
        if "\n" in text[at : end if end >= 0 else None]:
            raise Unreadable("a newline")
        if end < 0:
            return len(text)
        self._inside.pop()
        return end + 1

    def _take(self, token: str) -> None:
        inside = self._inside[-1]
        if token[-1] == "\n":
            raise Unreadable("a newline")
        if token[0] == "\\":
            return
        if inside == _BACKTICKS:
            self._close(token == "`")
        elif inside == _ANSI:
            self._close(token == "'")
        elif token == "$[":
            self._lost = "$[ ]"
        elif token in _OPENS:
            self._inside.extend(_OPENS[token])
        elif inside == _DOUBLE:
            self._close(token == '"')
        elif inside in _WORDS:
            self._take_in_words(token)
        else:
            self._take_in_expression(token)

    def _take_in_words(self, token: str) -> None:
        if token == "'":
            self._inside.append(_SINGLE)
        elif token == '"':
            self._inside.append(_DOUBLE)
        elif token == "$'":
            self._inside.append(_ANSI)
        elif token == "((":
            self._inside.extend((_ARITHMETIC, _ARITHMETIC))
        elif token == "(":
            self._inside.append(_PAREN)
        elif token == ")":
            self._close(self._inside[-1] == _PAREN)
        elif token == "case" and not set(self._inside) <= set(_WORDS):
            self._lost = "case in $( )"  # whose `pattern)` closes nothing

    def _take_in_expression(self, token: str) -> None:
        """In `${...}` and arithmetic. What quotes mean there depends on much."""
        inside = self._inside[-1]
        if token in ("'", '"', "$'"):
            self._lost = f"quotes in {inside}"
        elif inside == _PARAMETER:
            self._close(token == "}")
        elif token in ("(", "(("):
            self._inside.extend([_ARITHMETIC] * len(token))
        elif token == ")":
            self._inside.pop()

    def _close(self, ends: bool) -> None:
        if ends:
            self._inside.pop()


def _bare(value: str) -> str:
    return value if _PLAIN(value) else quote(value)


def _in_single(value: str) -> str:
    return f"'{quote(value)}'" if "'" in value or "\n" in value else value


def _in_double(value: str) -> str:
    return _out_of_double(value) if _SPECIAL_IN_DOUBLE(value) else value


def _out_of_double(value: str) -> str:
    return f'"{quote(value)}"'


def _in_ansi(value: str) -> str:
    return f"'{quote(value)}$'"
