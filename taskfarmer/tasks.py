"""The ancestor's name for the tasklist handler; it holds for ever."""

from taskfarmer.tasklists.lines import ListTaskList

__all__ = ["ListTaskList"]
