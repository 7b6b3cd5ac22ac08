"""Whether this node can be trusted: a broken one fails every task at once, and so eats the list.

When the first 20 attempts of a farmer, or 50 in a row, could not start or failed within a second, nothing more is
claimed or started until farmers of other hosts have given their next sign of life (system/presence.py), in which they
say how they fare. Does one fare well, this node is the sick one. Else it is the list, and we go on, and ask again only
after twice as many. So hosts that work through a bad stretch of the list together acquit each other.
"""

from __future__ import annotations

from typing import Callable

from taskfarmer.farm.notices import Notice, Trouble
from taskfarmer.model import Attempt, Outcome, Owner, State
from taskfarmer.stores.base import TaskSource
from taskfarmer.system.presence import Sign

#: Seconds: an attempt that fails earlier fails at once.
AT_ONCE = 1.0
_FEW, _FIRST, _IN_A_ROW = 5, 20, 50
#: How many farmers of other hosts are asked, however many there are.
_ASKED = 3
_LOOK_AGAIN = 1.0
_PATIENCE = 15.0


class Health:
    """How the attempts of this farmer fare, and what other hosts say when all fail.

    `trusted`: whatever fails, this node is never suspect. Times are seconds of a monotonic clock.
    """

    def __init__(self, store: TaskSource, tell: Callable[[Notice], None], trusted: bool = False) -> None:
        self.well = 0
        self.failing = 0
        self._store = store
        self._tell = tell
        self._trusted = trusted
        self._limit = _FIRST
        self._next = _IN_A_ROW
        self._asked: dict[Owner, Sign] = {}
        self._asked_at = self._looked_at = 0.0

    def note(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        state, outcome = attempt.outcome.state, attempt.outcome
        if state is State.FAILED and (attempt.wall < AT_ONCE or outcome is Outcome.NOT_STARTED):
            self.failing += 1
        elif state is not State.TOPROCESS:
            self.well += 1
            self.failing = 0
            self._limit = _IN_A_ROW

    @property
    def is_suspect(self) -> bool:
        """Whether so many attempts have failed at once that nothing more should be started here for now."""
        return self._is_compared and self.failing >= self._limit

    @property
    def most_to_start(self) -> int | None:
        """How many more tasks may be taken before others are asked; None while too few have failed to think of it."""
        few = _FEW if self.well else 1  # where nothing went well yet, the first failure makes careful
        if not self._is_compared or self.failing < few:
            return None
        return max(0, self._limit - self.failing)

    @property
    def _is_compared(self) -> bool:
        return not self._trusted and self._store.company.elsewhere > 0

    def examine(self, now: float) -> str | None:
        """While in suspicion: ask others, listen to them; why to stop, once one of them does well."""
        if not self.is_suspect:
            self._asked = {}
        elif not self._asked:
            self._ask(now)
        elif now - self._looked_at >= _LOOK_AGAIN:
            return self._listen(now)
        return None

    def _ask(self, now: float) -> None:
        self._asked_at = self._looked_at = now
        self._asked = self._signs(self._store.elsewhere(_ASKED))
        if self._asked:
            what = f"{self.failing} tasks in a row failed within a second: waiting to hear how other hosts fare"
            self._tell(Trouble(what))
        else:
            self._acquit()

    def _listen(self, now: float) -> str | None:
        self._looked_at = now
        signs = self._signs(list(self._asked))
        news = {owner: sign for owner, sign in signs.items() if sign != self._asked[owner]}
        for owner, sign in news.items():
            if sign.well and not sign.failing:
                return (
                    f"the last {self.failing} tasks failed within a second, while {owner.host} does well. "
                    "Is this node sick? --no-sick-node-stop goes on"
                )
        if len(news) == len(signs) or now - self._asked_at > _PATIENCE:
            self._tell(Trouble("other hosts fare no better: going on"))
            self._acquit()
        return None

    def _acquit(self) -> None:
        self._limit = self.failing + self._next
        self._next *= 2

    def _signs(self, owners: list[Owner]) -> dict[Owner, Sign]:
        return {owner: sign for owner in owners if (sign := self._store.sign(owner)) is not None}
