"""Proof that an owner on another host is dead: its presence is free, and it shows no sign of life for long enough.

Nothing here trusts a clock but this host's own, and that one only to tell whether this host was asleep itself. The
proof is ten samples, each a fresh read of the counter in `alive` while its lock is held; two samples are neither closer
together than a tenth of the window nor further apart than a fifth: else the observer was stalled, and begins again.

A counter that moves while we hold the lock is a lie of the lock: it does not exclude between these hosts. Where it is
known that locks do not, or there are none, having it means nothing: then everybody is watched, the living, too.
"""

from __future__ import annotations

import os
import time

from taskfarmer.system.presence import Sign, read_sign, seize

SAMPLES = 10
#: Without locks, only silence speaks, and a frozen process is silent, too: so it must last longer.
_WITHOUT_LOCKS = 4
#: Then it is said to be silent after so many samples in which nothing moved.
_SAMPLES_OF_SILENCE = 3
_NOTHING = -1


def clock() -> float:
    """Seconds, this host's sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Vigil:
    """Watches one owner through its `alive`; `window` is how many seconds of silence prove it dead.

    `alone`: while nobody holds its presence. Else only its farmer is asked for, whose workers may live on.
    `locks_exclude`: whether having its presence means anything.
    """

    def __init__(self, alive: str, window: float, alone: bool = True, locks_exclude: bool = True) -> None:
        self._alive = alive
        self._alone = alone
        self._locks_exclude = locks_exclude
        self._window = window
        self._factor = 1
        self._fd: int | None = None
        self._is_absent = False
        self._last: Sign | None = None
        self._sampled_at = float("-inf")
        self._samples = 0
        self._has_moved = False

    def proves_death(self, now: float) -> bool:
        """Whether it is dead. Ask again and again; `now` as `clock` tells it."""
        if (self._fd is None or self._is_absent) and not self._begin():
            return False
        if now - self._sampled_at >= self._spacing or self._finds_life():
            self._sample(now)
        return self._samples > SAMPLES

    @property
    def has_begun(self) -> bool:
        """Whether nobody else holds the owner's presence: it is dead, or the lock lies."""
        return self._fd is not None

    @property
    def finds_silence(self) -> bool:
        """Whether it may be dead: nobody holds its presence, and where that means nothing its counter stands still. One that
        is not there yet may be about to come."""
        means_something = self._factor == 1 and not self._is_absent
        return self.has_begun and (means_something or self._samples >= _SAMPLES_OF_SILENCE)

    @property
    def is_in_doubt(self) -> bool:
        """Whether nothing tells yet whether it lives."""
        return self.has_begun and not self.finds_silence and not self._has_moved

    def _finds_life(self) -> bool:
        return self.is_in_doubt and read_sign(self._alive) != self._last

    def close(self) -> None:
        """Let go of the owner's presence."""
        if self._fd is not None and self._fd != _NOTHING:
            os.close(self._fd)
        self._fd = None

    def _begin(self) -> bool:
        if not self._alone:
            self._fd = _NOTHING
            return True
        self._fd, self._is_absent = None, False
        try:
            fd = os.open(self._alive, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # A verb, one who died before it had shown itself, or one who is about to do so.
            self._fd, self._is_absent = _NOTHING, True
            return True
        seized = seize(fd)
        if seized and self._locks_exclude:
            self._fd = fd
            return True
        os.close(fd)
        if seized is False:
            return False
        self._fd = _NOTHING
        self._factor = _WITHOUT_LOCKS
        return True

    @property
    def _spacing(self) -> float:
        """The window is ours or that of the one we watch, whichever is longer."""
        return self._factor * max(self._window, self._last.window if self._last else 0.0) / SAMPLES

    def _sample(self, now: float) -> None:
        sign = read_sign(self._alive)
        self._has_moved = self._has_moved or (self._samples > 0 and sign != self._last)
        if sign != self._last or now - self._sampled_at > 2 * self._spacing:
            self._samples = 0
        self._samples += 1
        self._last, self._sampled_at = sign, now
