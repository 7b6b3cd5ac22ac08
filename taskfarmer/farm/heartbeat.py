"""A farmer's sign of life, and the leash on which its workers run when that cannot be given.

Others take the tasks of a farmer over when it has been silent for long enough (system/vigil.py). So one that is cut off
from a shared filesystem must have ended its tasks by then, though it may itself hang in a read that never returns: a
thread of the farmer gives the sign every few seconds and notes when the disk had it, in memory that it shares with its
workers; they end what they run when that is half a window ago. A farmer that was stopped or suspended is not cut off.
On a disk of this host alone nobody can be cut off, and no leash is needed.
"""

from __future__ import annotations

import struct
import time
from mmap import mmap
from threading import Event, Thread
from typing import Callable

from taskfarmer.system import proctable
from taskfarmer.system.presence import BEAT, Presence
from taskfarmer.system.vigil import clock

_PATIENCE_AT_THE_END = 1.0
_AGAIN = 0.5


class Contact:
    """When the disk last acknowledged a sign of life: written by the farmer, read by its workers. Seconds of `clock`.

    Made before the workers are forked. `window`: the silence after which others think us dead.
    """

    def __init__(self, window: float) -> None:
        self._longest = window / 2
        self._shared = mmap(-1, 8)
        self.renew()

    def renew(self) -> None:
        """The disk has just acknowledged a sign of life."""
        struct.pack_into("d", self._shared, 0, clock())

    def last(self) -> float:
        """When it last did."""
        return float(struct.unpack_from("d", self._shared, 0)[0])

    def is_silent(self, since: float | None = None) -> bool:
        """Whether that was too long ago for anything to be begun; `since`: as one sees it who did not look before."""
        return clock() - max(self.last(), since or 0.0) > self._longest


class Leash:
    """A worker's look at its farmer's contact: a thread, since the worker itself may hang in a write to the same disk.

    `end_task` is called when nothing of ours may run any more, again and again until there is contact.
    """

    def __init__(self, contact: Contact, farmer: int, end_task: Callable[[], None]) -> None:
        self._contact = contact
        self._farmer = farmer
        self._end_task = end_task
        self._looked_at = self._since = clock()
        #: Whether it was torn since somebody last set this to False.
        self.was_torn = False

    def start(self) -> None:
        """Watch until the worker ends."""
        Thread(target=self._watch, name="leash", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(BEAT if not self.was_torn else _AGAIN)
            if self.is_torn():
                self.was_torn = True
                self._end_task()

    def is_torn(self) -> bool:
        """Whether what runs must be ended. Time in which nobody could look does not count."""
        now = clock()
        if now - self._looked_at > 2 * BEAT or proctable.is_stopped(self._farmer):
            self._since = now  # we, or our farmer, were suspended: it is given the time to say so
        self._looked_at = now
        return self._contact.is_silent(self._since)


class Heartbeat:
    """Moves the counter every few seconds, whatever the farmer is doing. A context around its work.

    `vitals` says how the tasks fare (system/presence.py, Sign).
    """

    def __init__(self, presence: Presence, vitals: Callable[[], tuple[int, int]], contact: Contact | None) -> None:
        self._presence = presence
        self._vitals = vitals
        self._contact = contact
        self._beat_at = clock()
        self._ending = Event()
        self._thread = Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join(_PATIENCE_AT_THE_END)  # it may hang in a write; nothing else hangs with it

    def _beat_on(self) -> None:
        while not self._ending.wait(BEAT):
            self.beat()

    def beat_if_older(self, seconds: float) -> None:
        """Give a sign of life now if the last one is that old: somebody may be waiting for it."""
        if clock() - self._beat_at >= seconds:
            self.beat()

    def beat(self) -> None:
        """Give a sign of life now."""
        self._beat_at = clock()
        try:
            self._presence.beat(*self._vitals())
        except OSError:
            return  # not acknowledged, which is what `contact` then says
        if self._contact is not None:
            self._contact.renew()
