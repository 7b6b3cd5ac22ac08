"""Runners: the classes that say how a command is started. They spell, they do not start.

Each is loaded when it is asked for: a thousand nodes start at once, and most use one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskfarmer.runners.apptainer import ApptainerRunner
    from taskfarmer.runners.base import Runner
    from taskfarmer.runners.basic import BasicRunner
    from taskfarmer.runners.podman import PodmanRunner
    from taskfarmer.runners.shifter import ShifterRunner
    from taskfarmer.runners.srun import SrunRunner

__all__ = ["ApptainerRunner", "BasicRunner", "PodmanRunner", "Runner", "ShifterRunner", "SrunRunner"]

_HOMES = {
    "ApptainerRunner": "apptainer",
    "BasicRunner": "basic",
    "PodmanRunner": "podman",
    "Runner": "base",
    "ShifterRunner": "shifter",
    "SrunRunner": "srun",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
