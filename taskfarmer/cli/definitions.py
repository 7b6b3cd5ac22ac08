"""`runners` and `tasklists`: what is defined, where, and with which options."""

from __future__ import annotations

import sys
from typing import Sequence

from taskfarmer.cli import flags
from taskfarmer.errors import UsageError
from taskfarmer.farm import choices
from taskfarmer.farm.choices import Described


def main(kind: str, words: Sequence[str]) -> int:
    """Print it; 0, or 2 when something that was asked for is not there or cannot be built."""
    args = flags.parse_definitions(kind, words)
    found = list(choices.described(kind, args.config))
    winning = {one.definition.name: one for one in found if isinstance(one, Described)}
    for name in args.names:
        if name not in winning:
            raise UsageError(f"{name}: there is no {kind} of that name; there are: {', '.join(winning)}")
    chosen = [winning[name] for name in args.names] or list(winning.values())
    if args.check:
        chosen = [_checked(one) for one in chosen]
    troubles = [str(one) for one in found if isinstance(one, UsageError)]
    if args.json:
        print(_json(chosen, troubles))
    else:
        print("\n".join(_text(one, bool(args.names), args.check) for one in chosen))
        for trouble in troubles:
            print(f"{flags.PROGRAM}: {trouble}", file=sys.stderr)
    return 2 if args.check and (troubles or any(one.trouble for one in chosen)) else 0


def _checked(one: Described) -> Described:
    try:
        if not one.trouble:
            choices.check(one.definition)
    except UsageError as error:
        return one._replace(trouble=str(error))
    return one


def _text(one: Described, at_length: bool, is_checked: bool) -> str:
    definition = one.definition
    lines = [f"{definition.name:<12} {definition.dotted}", f"  defined in {definition.place}"]
    if one.help:
        lines.insert(1, f"  {one.help}")
    for option in one.options:
        if option.name in definition.options:
            lines.append(f"  {option.name} = {_short(definition.options[option.name])}")
        elif at_length or not definition.options:
            lines.append(f"  {option.name}: {option.help or option.type} ({option.type}, {_default(option.default)})")
    lines += [
        f"  {key} = {_short(text)}"
        for key, text in definition.options.items()
        if key not in {option.name for option in one.options}
    ]
    if one.trouble:
        lines.append(f"  WRONG: {one.trouble}")
    elif is_checked:
        lines.append("  ok: it can be built")
    return "\n".join(lines)


def _default(text: str) -> str:
    return f"default {text}" if text else "must be given"


def _short(text: str) -> str:
    return text.replace("\n", " | ").strip(" |")


def _json(chosen: Sequence[Described], troubles: Sequence[str]) -> str:
    import json

    return json.dumps(
        {
            "definitions": [
                {
                    "name": one.definition.name,
                    "class": one.definition.dotted,
                    "file": one.definition.file or None,
                    "line": one.definition.line or None,
                    "values": dict(one.definition.options),
                    "help": one.help,
                    "options": [option._asdict() for option in one.options],
                    "trouble": one.trouble or None,
                }
                for one in chosen
            ],
            "troubles": list(troubles),
        }
    )
