"""Definitions: INI sections that give a runner or a tasklist handler a name. Where they stand, and which of them wins.

    [mine]                                  a name, for --runner or --tasklist
    Runner = my_runners.Polite              (or TaskList = ...) the class; what has neither is no business of ours
    level = 5                               any other key: an option of the class, text as it is written

Read, the later winning: the package's `runners.d/`; `~/.pytaskfarmer/runners.d/*.ini` and `tasklists.d/*.ini`; `./*.ini`;
files that were named. Nothing is interpolated (`%` and `$` are the user's), keys keep their case, `[DEFAULT]` is a section
like any other. A file that does not hold the section that is looked for is not even parsed, so it cannot be in the way.
What a stranger may write is not obeyed: files in the current directory must be mine or root's, and so must modules beside
a file that is.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Iterator, Mapping, NamedTuple, Sequence

from taskfarmer.errors import UsageError

if TYPE_CHECKING:
    from configparser import ConfigParser

#: For each kind: the key that makes a section one of these.
KEYS = {"runner": "Runner", "tasklist": "TaskList"}

_PACKAGE = os.path.join(os.path.dirname(__file__), "runners.d")
_FOLDERS = ("runners.d", "tasklists.d")
_NAMES_A_CLASS = re.compile(rf"^[ \t]*({'|'.join(KEYS.values())})[ \t]*[=:]", re.MULTILINE)
_HEADER = re.compile(r"^\[(.+)\]", re.MULTILINE)
_LARGEST = 1 << 20


class Definition(NamedTuple):
    """One definition: its dotted class name, the text of its options, and where it stands (`file` "": built in)."""

    kind: str
    name: str
    dotted: str
    options: Mapping[str, str]
    file: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}" if self.file else "the program itself"

    @property
    def where(self) -> str:
        """File, line and section, as errors name them."""
        return f"{self.place} [{self.name}]"

    @property
    def is_ours(self) -> bool:
        """Whether it comes with the program."""
        return not self.file or os.path.dirname(self.file) == _PACKAGE

    @property
    def identity(self) -> str:
        """What it amounts to, as one word per definition: another identity may read the same list differently."""
        import json

        if not self.file:
            return self.name
        return f"{self.dotted} {json.dumps(self.options, ensure_ascii=True)}"


BUILT_IN = {
    "runner": Definition("runner", "default", "taskfarmer.runners.basic.BasicRunner", {}),
    "tasklist": Definition("tasklist", "default", "taskfarmer.tasklists.ListTaskList", {}),
}


class Place(NamedTuple):
    """A file that may hold definitions, and why it is not obeyed ("": it is)."""

    file: str
    refused: str = ""


def places(named: Sequence[str] = ()) -> list[Place]:
    """Every INI file that may hold definitions, the later winning. `named` ones must be readable. Raises UsageError."""
    home = os.path.join(os.path.expanduser("~"), ".pytaskfarmer")
    found = [Place(file) for folder in _FOLDERS for file in _ini_files(os.path.join(home, folder))]
    for file in named:
        if not os.access(file, os.R_OK) or not os.path.isfile(file):
            raise UsageError(f"{file}: an INI file that I can read is wanted")
    asked_for = {os.path.realpath(file) for file in named}
    found += [Place(file, _refusal(file)) for file in _ini_files("") if os.path.realpath(file) not in asked_for]
    return [Place(file) for file in _ini_files(_PACKAGE)] + found + [Place(file) for file in named]


def _ini_files(folder: str) -> list[str]:
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return []  # not there, as usual, or not ours to look into
    return [os.path.join(folder, name) for name in sorted(names) if name.endswith(".ini") and name[0] != "."]


def _refusal(file: str) -> str:
    """Why a file in the current directory is not obeyed."""
    reason = not_mine_alone(file)
    return f"{reason} (chmod go-w, or --config names it all the same)" if reason else ""


def not_mine_alone(file: str) -> str:
    """Why what a file says may be a stranger's; "" if only root and I can have written it."""
    try:
        about = os.stat(file)
    except OSError as error:
        return error.strerror or "it cannot be read"
    if about.st_uid not in (0, os.geteuid()):
        return "it belongs to somebody else"
    if about.st_mode & stat.S_IWOTH or (about.st_mode & stat.S_IWGRP and not _is_my_own_group(about.st_gid)):
        return "others may write it"
    return ""


def _is_my_own_group(gid: int) -> bool:
    """Whether a group is the one that many systems make for each user, with the user's name and nobody else in it."""
    import grp
    import pwd

    try:
        group, me = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == me.pw_name and set(group.gr_mem) <= {me.pw_name}


class Found(NamedTuple):
    """The definition that wins, and the places that seem to have one of that name, too, but are not obeyed."""

    definition: Definition
    passed_over: list[Place]


def look_up(kind: str, name: str, named: Sequence[str] = ()) -> Found:
    """The definition of that name that wins. Raises UsageError that says where was looked, and what there is."""
    built_in = BUILT_IN[kind] if name == BUILT_IN[kind].name else None
    # The package's own files say of what is built in only the same again: a usual start parses nothing.
    candidates = [place for place in places(named) if not built_in or os.path.dirname(place.file) != _PACKAGE]
    passed_over = [place for place in candidates if place.refused and _seems_to_have(name, _text(place.file))]
    for place in reversed(candidates):
        if not place.refused and (definition := _find(kind, name, place.file)):
            return Found(definition, passed_over)
    if built_in:
        return Found(built_in, passed_over)
    sentence = f"--{kind} {name}: there is no {kind} of that name"
    for place in passed_over:
        raise UsageError(f"{sentence} that I may use: {place.file} has one, but {place.refused}")
    for place in candidates:
        if name in _HEADER.findall(_text(place.file)):
            raise UsageError(f"{sentence}; the section [{name}] in {place.file} has no line `{KEYS[kind]} = CLASS`")
    known = sorted({BUILT_IN[kind].name, *_names(kind, candidates)})
    raise UsageError(f"{sentence}; there are: {', '.join(known)} (see `pytaskfarmer.py {kind}s`)")


def defined_in(kind: str, file: str) -> list[str]:
    """The names that one file defines."""
    return list(_names(kind, [Place(file)]))


def _names(kind: str, candidates: Sequence[Place]) -> Iterator[str]:
    for place in candidates:
        if not place.refused and _names_a_class(text := _text(place.file)):
            for name in _HEADER.findall(text):
                try:
                    if _find(kind, name, place.file):
                        yield name
                except UsageError:
                    pass  # only what can be used is offered; the broken one is told by who asks for it


def every(kind: str, named: Sequence[str] = ()) -> Iterator[Definition | UsageError]:
    """Every definition of a kind, those that win last, and what is wrong with files that cannot be read."""
    yield BUILT_IN[kind]
    for place in places(named):
        text = _text(place.file)
        if not _names_a_class(text):
            continue
        if place.refused:
            yield UsageError(f"{place.file}: not used: {place.refused}")
            continue
        try:
            parser = _parse(place.file, text)
            for name in parser.sections():
                if definition := _definition(kind, name, place.file, text, parser):
                    yield definition
        except UsageError as error:
            yield error


def _find(kind: str, name: str, file: str) -> Definition | None:
    text = _text(file)
    return _definition(kind, name, file, text, _parse(file, text)) if _seems_to_have(name, text) else None


def _seems_to_have(name: str, text: str) -> bool:
    return f"[{name}]" in text and _names_a_class(text)


def _names_a_class(text: str) -> bool:
    return bool(_NAMES_A_CLASS.search(text))


def _definition(kind: str, name: str, file: str, text: str, parser: ConfigParser) -> Definition | None:
    if not parser.has_section(name):
        return None
    values = dict(parser.items(name))
    keys = [key for key in KEYS.values() if key in values]
    if KEYS[kind] not in keys:
        return None
    line = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"[{name}]"))
    if len(keys) > 1:
        raise UsageError(f"{file}:{line} [{name}]: one of {' and '.join(keys)} is wanted, found both")
    dotted = values.pop(KEYS[kind])
    return Definition(kind, name, dotted, values, file, line)


def _text(file: str) -> str:
    """What a file says; "" if it cannot be read, or is too large to be what we look for."""
    try:
        with open(file, encoding="utf-8-sig", errors="surrogateescape") as lines:
            text = lines.read(_LARGEST + 1)
    except OSError:
        return ""
    return text if len(text) <= _LARGEST else ""


def _parse(file: str, text: str) -> ConfigParser:
    import configparser

    # No section is the default of all others, and none can have this name.
    parser = configparser.ConfigParser(interpolation=None, default_section="\n")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text, file)
    except configparser.DuplicateSectionError as error:
        raise UsageError(f"{file}:{error.lineno} [{error.section}]: this section stands in the file twice") from error
    except configparser.DuplicateOptionError as error:
        raise UsageError(
            f"{file}:{error.lineno} [{error.section}] {error.option}: this key stands in the section twice"
        ) from error
    except configparser.MissingSectionHeaderError as error:
        raise UsageError(f"{file}:{error.lineno}: a [section] is wanted first, found {error.line.strip()!r}") from error
    except configparser.ParsingError as error:
        number, line = error.errors[0]
        raise UsageError(f"{file}:{number}: `key = value` is wanted, found {line}") from error
    return parser
