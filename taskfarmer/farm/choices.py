"""The runner and the tasklist handler that a user chose by name, out of the INI files that define them."""

from __future__ import annotations

import os
from typing import Callable, Iterator, NamedTuple, Sequence

from taskfarmer.errors import UsageError
from taskfarmer.runners.base import Runner
from taskfarmer.settings import definitions, plugins
from taskfarmer.settings.definitions import Definition
from taskfarmer.settings.plugins import Loaded, Option

#: What a class must be derived from, and how many arguments its constructor gets before the options.
_BASES: dict[str, tuple[type | None, int]] = {"runner": (Runner, 0), "tasklist": (None, 2)}


class Choices:
    """What may be chosen for one list. `config`: INI files that the user named; `tell` hears what is not obeyed."""

    def __init__(self, tasklist: str, config: Sequence[str], tell: Callable[[str], None]) -> None:
        # A list that is an INI file may hold its own definitions, as a sweep does.
        self._named = [*([tasklist] if tasklist.endswith(".ini") else []), *config]
        self._tell = tell

    def runner(self, name: str, shell_mode: str, overlap: bool) -> Loaded:
        """A runner, not yet built: each worker builds its own. Raises UsageError."""
        definition = self._look_up("runner", name)
        offered = {"shell_mode": shell_mode, **({"overlap": True} if overlap and definition.file else {})}
        loaded = plugins.load(definition, *_BASES["runner"], offered)
        if overlap and "overlap" not in loaded.options:
            raise UsageError(f"--overlap: {loaded.cls.__name__} starts no steps of its own, SrunRunner does")
        return loaded

    def reader(self, name: str) -> Loaded:
        """A tasklist handler, not yet built. Raises UsageError."""
        return plugins.load(self._look_up("tasklist", name), *_BASES["tasklist"], {})

    def _look_up(self, kind: str, name: str) -> Definition:
        found = definitions.look_up(kind, name, self._named)
        for place in found.passed_over:
            self._tell(f"{place.file}: its definition of {name} is not used: {place.refused}")
        return found.definition


class Described(NamedTuple):
    """A definition, for people: what its class says of itself; `trouble`: why it cannot be used."""

    definition: Definition
    help: str
    options: list[Option]
    trouble: str = ""


def described(kind: str, config: Sequence[str] = ()) -> Iterator[Described | UsageError]:
    """Every definition of a kind ("runner" or "tasklist"), those that win last, and what is wrong with some files."""
    base, positional = _BASES[kind]
    for definition in definitions.every(kind, config):
        if isinstance(definition, UsageError):
            yield definition
            continue
        try:
            cls = plugins.load_class(definition, base)
            about = (cls.__doc__ or "").strip().partition("\n")[0]
            yield Described(definition, about, plugins.options_of(cls, positional))
        except UsageError as error:
            yield Described(definition, "", [], str(error))


def check(definition: Definition) -> None:
    """Build what is defined, though there is no list to read and no task to start. Raises UsageError."""
    base, positional = _BASES[definition.kind]
    plugins.load(definition, base, positional, {}).build(*(os.devnull, "no_workdir")[:positional])
