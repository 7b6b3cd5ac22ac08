"""Tasklist handlers: how a user's list is read into commands. Pure readers: no lock, no state."""

from taskfarmer.tasklists.base import TaskList
from taskfarmer.tasklists.lines import ListTaskList

__all__ = ["ListTaskList", "TaskList"]
