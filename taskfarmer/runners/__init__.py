"""Runners: the classes that say how a command is started. They spell, they do not start."""

from taskfarmer.runners.base import Runner
from taskfarmer.runners.basic import BasicRunner

__all__ = ["BasicRunner", "Runner"]
