"""Runners and tasklist handlers by name: a definition is a class and its options. Nothing is imported until chosen."""

import importlib
from typing import Any, NamedTuple

from taskfarmer.errors import UsageError


class Definition(NamedTuple):
    """One definition: its dotted class name and keyword arguments."""

    dotted: str
    options: dict[str, Any]


RUNNERS = {"default": Definition("taskfarmer.runners.basic.BasicRunner", {})}
TASKLISTS = {"default": Definition("taskfarmer.tasklists.lines.ListTaskList", {})}


def look_up(kind: str, name: str, known: dict[str, Definition]) -> Definition:
    """The definition of that name. Raises UsageError that lists the known ones."""
    if name not in known:
        raise UsageError(f"--{kind} {name}: there is no such {kind} definition; known: {', '.join(sorted(known))}")
    return known[name]


def load_class(definition: Definition) -> type:
    """Import the class a definition names."""
    module, _, name = definition.dotted.rpartition(".")
    loaded: type = getattr(importlib.import_module(module), name)
    return loaded
