"""What can go wrong that is not a defect of ours: each error is a sentence for a person.

An error says what was wanted, what was found and where, then what is allowed. `cli` prints it and exits
with `exit_status`; nobody else needs to know the number.
"""

from __future__ import annotations


class FarmError(Exception):
    """Something in the user's hands keeps the farm from going on."""

    exit_status = 2


class UsageError(FarmError):
    """A flag, a name or a file that was given cannot be used. Nothing was touched."""


class StateError(FarmError):
    """A file of the workdir holds what we never wrote there."""


class LockError(FarmError):
    """The farm's lock cannot be had, or cannot be trusted."""


class DiskError(FarmError):
    """The disk refuses what must be written. Nothing is lost; start again when it has room."""

    exit_status = 75


class RequeueError(FarmError):
    """The batch system does not start the job again. The work that is left waits for whoever starts it."""

    exit_status = 75


class LockBusy(FarmError):
    """Somebody kept the lock for as long as we could wait. Nothing is lost: what is ours is taken over when we are gone."""

    exit_status = 75


class Fenced(FarmError):
    """Our claims were taken over: we were silent for so long that others thought us dead."""

    exit_status = 75


class Interrupted(FarmError):
    """A stop was asked for before anything was begun."""

    exit_status = 75


class WorkdirGone(DiskError):
    """Somebody removed the workdir under us."""


class MeetingError(FarmError):
    """Processes that were to find something out together did not come, did not answer, or one has left."""
