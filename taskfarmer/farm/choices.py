"""The runner and the tasklist handler that a user chose by name, out of the INI files that define them."""

from __future__ import annotations

import importlib
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
        self._tasklist = tasklist
        self._named = [*([tasklist] if tasklist.endswith(".ini") else []), *config]
        self._tell = tell

    def runner(self, name: str, shell_mode: str, overlap: bool) -> Loaded:
        """A runner, not yet built: each worker builds its own. Raises UsageError."""
        definition = self._look_up("runner", name)
        offered = {"shell_mode": shell_mode, **({"overlap": True} if overlap and definition.file else {})}
        loaded = plugins.load(definition, *_BASES["runner"], offered)
        _refuse_without_launch(loaded)
        if overlap and "overlap" not in loaded.options:
            raise UsageError(f"--overlap: {loaded.cls.__name__} starts no steps of its own, SrunRunner does")
        return loaded

    def reader(self, name: str) -> Loaded:
        """A tasklist handler, not yet built. Raises UsageError."""
        definition = self._look_up("tasklist", name)
        if not definition.file and self._tasklist.endswith(".ini"):
            self._refuse_definitions()
        return plugins.load(definition, *_BASES["tasklist"], {})

    def _refuse_definitions(self) -> None:
        """Lines of an INI file are no commands, and some of them would do something."""
        if names := definitions.defined_in("tasklist", self._tasklist):
            raise UsageError(
                f"{self._tasklist}: a list of commands is wanted, this defines what --tasklist can name: {', '.join(names)}"
            )

    def _look_up(self, kind: str, name: str) -> Definition:
        found = definitions.look_up(kind, name, self._named)
        for place in found.passed_over:
            self._tell(f"{place.file}: its definition of {name} is not used: {place.refused}")
        return found.definition


class Described(NamedTuple):
    """A definition, for people: what its class says of itself; `trouble`: why it cannot be used; `missing`: what it
    needs and this host has not; `hidden`: where those stand that it wins over."""

    definition: Definition
    help: str
    options: list[Option]
    trouble: str = ""
    missing: str = ""
    hidden: tuple[str, ...] = ()


def described(kind: str, config: Sequence[str] = ()) -> Iterator[Described | UsageError]:
    """Every definition of a kind ("runner" or "tasklist"), those that win last, and what is wrong with some files."""
    hidden: dict[str, tuple[str, ...]] = {}
    for definition in definitions.every(kind, config):
        if isinstance(definition, UsageError):
            yield definition
            continue
        yield _described(definition)._replace(hidden=hidden.get(definition.name, ()))
        if not definition.is_ours:
            hidden[definition.name] = (*hidden.get(definition.name, ()), definition.place)


def described_class(kind: str, name: str, config: Sequence[str] = ()) -> Described:
    """A class of ours as if it were a definition, by its name. Raises UsageError, as who asks for a NAME is told."""
    for dotted, _ in classes(kind):
        if name in (dotted, dotted.rpartition(".")[2]):
            return _described(Definition(kind, name, dotted, {}))
    return _described(definitions.look_up(kind, name, config).definition)


def classes(kind: str) -> Iterator[tuple[str, str]]:
    """The classes of ours that nothing is defined with as long as the user defines nothing, and the first line of each."""
    module = importlib.import_module(f"taskfarmer.{kind}s")
    for name in module.__all__:
        if kind == "tasklist" and name not in ("TaskList", "ListTaskList"):
            yield f"{module.__name__}.{name}", _first_line(getattr(module, name))


def _described(definition: Definition) -> Described:
    base, positional = _BASES[definition.kind]
    try:
        cls = plugins.load_class(definition, base)
        return Described(definition, _first_line(cls), plugins.options_of(cls, positional))
    except UsageError as error:
        return Described(definition, "", [], str(error))


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def check(definition: Definition) -> str:
    """Build what is defined, though there is no list to read and no task to start; say what this host lacks for it.

    Raises UsageError.
    """
    base, positional = _BASES[definition.kind]
    loaded = plugins.load(definition, base, positional, {})
    if definition.kind == "tasklist":
        loaded.build(os.devnull, "no_workdir")
        return ""
    _refuse_without_launch(loaded)
    runner = loaded.build()
    try:
        runner.check(os.environ)
    except UsageError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        raise loaded.failed("cannot be checked", error) from error
    return ""


def room_of(loaded: Loaded) -> int | None:
    """Let a runner say what is missing here, and how many tasks it has room for, where it knows. Raises UsageError."""
    runner = loaded.build()
    try:
        runner.check(os.environ)
        room = runner.slots(os.environ)
        if not isinstance(room, int | None):
            raise TypeError(f"slots() must return a whole number or None; it returned {room!r:.60}")
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise loaded.failed("cannot be used here", error) from error
    return room


def _refuse_without_launch(loaded: Loaded) -> None:
    if loaded.cls.launch is Runner.launch and loaded.cls.run is Runner.run:  # type: ignore[attr-defined]
        raise UsageError(
            f"{loaded.definition.where}: {loaded.cls.__name__} has no launch(task, slot), which says how a command is started"
        )
