"""`runners` and `tasklists`: what is defined, where, and with which options."""

from __future__ import annotations

from typing import Iterable, Iterator, Sequence

from taskfarmer.cli import PROGRAM, flags, streams
from taskfarmer.errors import UsageError
from taskfarmer.farm import choices
from taskfarmer.farm.choices import Described
from taskfarmer.settings.plugins import Option


def main(kind: str, words: Sequence[str]) -> int:
    """Print it; 0, or 2 when something that was asked for is not there or cannot be built."""
    args = flags.parse_definitions(kind, words)
    found = list(choices.described(kind, args.config))
    winning = {one.definition.name: one for one in found if isinstance(one, Described)}
    chosen = [winning.get(name) or choices.described_class(kind, name, args.config) for name in args.names]
    chosen = chosen or list(winning.values())
    if args.check:
        chosen = [_checked(one) for one in chosen]
    troubles = [str(one) for one in found if isinstance(one, UsageError)]
    if args.json:
        streams.say(_json(chosen, troubles))
    else:
        streams.say("\n".join(line for one in chosen for line in _lines(one, bool(args.names), args.check)))
        for trouble in troubles:
            streams.complain(f"{PROGRAM}: {trouble}")
        if not args.names:
            streams.say("\n".join(_what_else(kind)))
    return 2 if args.check and (troubles or any(one.trouble for one in chosen)) else 0


def _checked(one: Described) -> Described:
    try:
        return one if one.trouble else one._replace(missing=choices.check(one.definition))
    except UsageError as error:
        return one._replace(trouble=str(error))


# For people


def _lines(one: Described, at_length: bool, is_checked: bool) -> Iterator[str]:
    definition = one.definition
    yield f"{definition.name:<12} {definition.dotted}"
    if one.help:
        yield _wrapped(one.help, "  ", "  ")
    yield f"  defined in {definition.place}"
    for place in one.hidden:
        yield f"  wins over the one in {place}"
    for key, text in definition.options.items():
        yield from _value(key, text)
    unsaid = [option for option in one.options if option.name not in definition.options]
    if at_length:
        yield from map(_option, unsaid)
    elif unsaid:
        what = "can also have" if definition.options else "can have"
        yield _wrapped(f"{what}: {', '.join(one.name for one in unsaid)}")
    if one.trouble:
        yield f"  WRONG: {one.trouble}"
    elif one.missing:
        yield f"  ok: it can be built, but not used here: {one.missing}"
    elif is_checked:
        yield "  ok: it can be built"


def _value(key: str, text: str) -> Iterator[str]:
    """As it may stand in the file."""
    first, *more = text.splitlines() or [""]
    yield f"  {key} = {first}".rstrip()
    yield from (f"      {line}" for line in more)


def _option(option: Option) -> str:
    default = f"default {option.default}" if option.default else "must be given"
    about = f"{option.help} ({option.type}, {default})" if option.help else f"{option.type}, {default}"
    return _wrapped(f"{option.name}: {about}")


def _what_else(kind: str) -> Iterator[str]:
    yield ""
    classes = list(choices.classes(kind))
    if classes:
        yield _wrapped("To define more: these classes come with the program. docs/lists.md has examples.", "", "")
        for dotted, about in classes:
            yield f"  {dotted}"
            yield _wrapped(about, "      ", "      ")
    yield _wrapped(f"What the options mean: {PROGRAM} {kind}s NAME", "", "")


def _wrapped(text: str, indent: str = "  ", then: str = "      ") -> str:
    import textwrap

    return textwrap.fill(
        text, flags.width(), initial_indent=indent, subsequent_indent=then,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


# For programs


def _json(chosen: Iterable[Described], troubles: Sequence[str]) -> str:
    import json

    return json.dumps(
        {
            "definitions": [
                {
                    "name": one.definition.name,
                    "class": one.definition.dotted,
                    "file": one.definition.file or None,
                    "line": one.definition.line or None,
                    "wins_over": list(one.hidden),
                    "values": dict(one.definition.options),
                    "help": one.help,
                    "options": [option._asdict() for option in one.options],
                    "trouble": one.trouble or None,
                    "missing": one.missing or None,
                }
                for one in chosen
            ],
            "troubles": list(troubles),
        }
    )
