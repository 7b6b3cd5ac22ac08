"""Commands made from a template and from values: `prog --in {line} --out {stem}.out`.

    {name}      the value of that field, quoted for the shell
    {name:raw}  the value as it is
    {{name}}    the text {name}

Nothing else is read: `${name}`, `{}`, `{a,b}` and `awk '{print $1}'` are the shell's.
"""

from __future__ import annotations

import re
from typing import Iterable, Mapping

from taskfarmer.errors import UsageError
from taskfarmer.tasklists.quoting import Reader, Spell, Unreadable

_FIELD = re.compile(r"(?<!\$)(?:\{(\{[^\W\d]\w*(?::\w+)?\})\}|\{([^\W\d]\w*)(?::(\w+))?\})")
#: What a command can differ by without any field.
_NUMBER_OF_TASK = re.compile(r"\b(?:PROC_NUMBER|TASKFARMER_TASK_ID)\b").search


class Template:
    """A command with fields. Raises UsageError where a value could not be quoted."""

    def __init__(self, text: str, quote: bool = True) -> None:
        self._quote = quote
        self._raw = False
        self._steps: list[tuple[str, Spell, str]] = []
        self._begin = ""
        try:
            self._parse(text.strip())
        except Unreadable as error:
            raise UsageError(
                f"command: one line is wanted, found {error}; end a line with \\ to go on in the next, or join commands with ;"
            ) from error
        if not self._begin and not self._steps:
            raise UsageError("command: a command is wanted, found nothing")
        self.fields = frozenset(name for name, _, _ in self._steps)
        self._is_always_the_same = self.fields <= {"workdir"} and not _NUMBER_OF_TASK(text)

    def check(self, known: Iterable[str]) -> None:
        """Raise UsageError for a field that is not among the known ones, and where all tasks would be the same."""
        names = list(known)
        if self._is_always_the_same:
            but = " but {workdir}" if self.fields else ""
            raise UsageError(
                f"command: a field is wanted, found none{but}: the same command would run for each task; known: {_listed(names)}"
            )
        for field, _, _ in self._steps:
            if field not in names:
                raise UsageError(
                    f"command: {{{field}}} is no field; known: {_listed(names)}. Braces meant for the shell: {{{{{field}}}}}"
                )

    def fill(self, values: Mapping[str, str]) -> str:
        """The command with these values. Raises UsageError if it would not be one line."""
        command = self._begin
        for name, spell, text in self._steps:
            command += spell(values[name]) + text
        if self._raw and "\n" in command:
            raise UsageError("command: one line is wanted, but an unquoted value holds a newline")
        return command

    def _parse(self, text: str) -> None:
        reader = Reader()
        literal, at = "", 0
        for match in _FIELD.finditer(text):
            literal += text[at : match.start()]
            at = match.end()
            if match[1]:
                literal += match[1]
                continue
            self._append_text(reader.read(literal))
            literal = ""
            self._steps.append((match[2], self._spelling(match, reader, text[at:]), ""))
        self._append_text(reader.read(literal + text[at:]))

    def _append_text(self, text: str) -> None:
        if self._steps:
            name, spell, _ = self._steps[-1]
            self._steps[-1] = name, spell, text
        else:
            self._begin = text

    def _spelling(self, match: re.Match[str], reader: Reader, following: str) -> Spell:
        field, name, how = match[0], match[2], match[3]
        if how not in (None, "raw"):
            raise UsageError(f"command: {field}: only {{{name}:raw}} is known. Braces meant for the shell: {{{field}}}")
        if how == "raw" or not self._quote:
            self._raw = True
            return str
        try:
            return reader.spelling(following)
        except Unreadable as error:
            raise UsageError(
                f"command: {field} stands {error}, where it cannot be quoted. Put it in a variable before "
                f'(X={field}; ... "$X" ...), or write {{{name}:raw}} for the value as it is'
            ) from error


def _listed(names: Iterable[str]) -> str:
    return " ".join(f"{{{name}}}" for name in names if name.isidentifier())
