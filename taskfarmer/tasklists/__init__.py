"""Tasklist handlers: how a user's list is read into commands. Pure readers: no lock, no state."""

from typing import TYPE_CHECKING, Any

from taskfarmer.tasklists.base import TaskList
from taskfarmer.tasklists.lines import ListTaskList

if TYPE_CHECKING:
    from taskfarmer.tasklists.sweep import SweepTaskList
    from taskfarmer.tasklists.table import TableTaskList
    from taskfarmer.tasklists.template import TemplateTaskList

__all__ = ["ListTaskList", "SweepTaskList", "TableTaskList", "TaskList", "TemplateTaskList"]

_LATER = {"SweepTaskList": "sweep", "TableTaskList": "table", "TemplateTaskList": "template"}


def __getattr__(name: str) -> Any:
    """The handlers that a list of commands does not need are loaded when they are asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
