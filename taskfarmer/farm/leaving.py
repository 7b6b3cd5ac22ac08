"""When a farmer that is out of work leaves. Pure decisions.

Out of work it is when no task waits in the store, and none is held here. It stays, asleep, while another farmer of the
same batch job (with --wait-for-others: any other) holds tasks: should that one die, or give something back, there is
somebody to do it. Who holds nothing is waited for by nobody, so two farmers never wait for each other. And it stays while
a farmer of another host is silent: soon that is dead or not, and if nobody else is left, its tasks are ours. The same of
one on this host of which only the workers live.

Else it leaves at once. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

#: How often it looks at the others; of a thousand that wait, each looks less often.
_OFTEN, _SELDOM, _LOOKS_A_SECOND = 1.0, 10.0, 100.0
_WORTH_SAYING = 10.0


class Leaving:
    """One farmer's decision. `waits`: whether it waits for others that are at work at all."""

    def __init__(self, waits: bool) -> None:
        self._waits = waits
        self._since: float | None = None
        self._look_at = 0.0
        self._is_told = False
        #: Whether we have looked since we ran out of work, and saw nobody to wait for.
        self.is_free = False

    def has_work(self) -> None:
        """There is something to do."""
        self._since = None
        self.is_free = False

    @property
    def has_looked(self) -> bool:
        """Whether the others were looked at since we ran out of work."""
        return self._since is not None

    def look_is_due(self, now: float, others: int) -> bool:
        """Whether to look at the others now: at once when we run out of work, and then every now and then."""
        if self._since is None:
            self._since = self._look_at = now
        if now < self._look_at or self.is_free:
            return False
        self._look_at = now + min(_SELDOM, max(_OFTEN, others / _LOOKS_A_SECOND))
        return True

    def asks_who_works(self, running_elsewhere: int) -> bool:
        """Whether it matters who else is at work."""
        return self._waits and running_elsewhere > 0

    def saw(self, at_work: bool, silent: int) -> None:
        """What we saw when we looked: whether somebody whom we wait for may be at work, and how many are silent."""
        self.is_free = not at_work and not silent

    def begins_to_last(self, now: float) -> bool:
        """Whether it is time to say that we stay; true once."""
        if self._since is None or self.is_free or self._is_told or now - self._since < _WORTH_SAYING:
            return False
        self._is_told = True
        return True
