"""What one owner holds: claims taken, settled and given back, one exchange after the other; and the fence.

`running/OWNER/claims` is written by its owner alone, within an exchange, whole: a line for each claim that it holds then
(stores/lines.py). Whoever takes the owner over removes the file. So an owner that finds anything but what it left there
is fenced: its tasks are others' now.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import Mapping, Sequence

from taskfarmer.errors import Fenced
from taskfarmer.model import Attempt, Claim, State
from taskfarmer.stores import waiting
from taskfarmer.stores.base import Exchange
from taskfarmer.stores.journal import Pending
from taskfarmer.stores.lines import TASK_FILES, claim_line, decode, encode, owner_file, task_line, tasks_of
from taskfarmer.stores.placing import Placing, append, no_lines
from taskfarmer.stores.section import Section
from taskfarmer.stores.tidy import Tidy
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import files

_FARM_AGE = 2.0  # seconds until a pause or a request is noticed


class Claims:
    """The claims of the owner of `workdir`."""

    def __init__(self, workdir: Workdir, tidy: Tidy, placing: Placing) -> None:
        self._workdir = workdir
        self._tidy = tidy
        self._placing = placing
        self._name = owner_file(workdir.owner, "claims")
        self._held: dict[int, tuple[Claim, bytes]] = {}
        self._left_claims = b""  # what our `claims` held when we last left it
        self._serial = 0
        self._pending: _Plan | None = None
        self._settled_by_pending: frozenset[int] = frozenset()
        self._unheard: list[Claim] = []  # claimed by an exchange that raised Pending

    @property
    def are_none(self) -> bool:
        """Whether nothing is held, and nothing may come to be held by an exchange that is yet to be done."""
        return not self._held and self._pending is None

    @property
    def count(self) -> int:
        """How many are held."""
        return len(self._held)

    def exchange(
        self,
        settled: Sequence[Attempt],
        want: int,
        unstarted: Sequence[Claim],
        lengths: Mapping[str, int],
    ) -> Exchange:
        """Settle, give back, claim. See TaskSource."""
        plan = _Plan()
        farm_age = 0.0 if lengths else _FARM_AGE  # what is to be replaced is read afresh
        try:
            with self._tidy.section(partial(self._files_to_touch, settled), farm_age) as section:
                self._collect_pending(section)
                self._compare(self._read(section))
                self._placing.read_attempts(section)
                self._settle(section, settled, unstarted, plan)
                paused = section.farm.get("paused")
                if want and not plan.gives_back and not paused:
                    self._claim(section, want, plan)
                self._write(section, plan)
                if lengths and section.left:
                    _learn(section, lengths)
                left = section.left
                elsewhere = 0
                if not (left or plan.claims):
                    elsewhere = self._held_by_others(section, len(self._held) - len(plan.dropped))
        except Pending:
            self._pending = plan
            raise
        self._adopt(plan)
        self._settled_by_pending = frozenset()
        unheard, self._unheard = self._unheard, []
        return Exchange(
            unheard + plan.claims,
            plan.refused,
            left,
            section.sizes["finished"].lines,
            section.sizes["failed"].lines,
            elsewhere,
            paused,
            list(section.farm.get("requests", ())),
            section.farm.get("lengths", {}),
            self._workdir.waited,
        )

    def _files_to_touch(self, settled: Sequence[Attempt], section: Section) -> set[str]:
        states = {attempt.outcome.state for attempt in settled}
        names = {"toprocess", *(state.value for state in states)}
        go_behind = self._placing.may_go_behind(states)
        if go_behind or (section.sizes["toprocess"].lines == 0 and section.sizes["later"].lines):
            names.add("later")
        if go_behind or State.TOPROCESS in states or self._placing.is_behind(section):
            names.add("attempts")
        return names

    # Settling

    def _settle(self, section: Section, settled: Sequence[Attempt], unstarted: Sequence[Claim], plan: _Plan) -> None:
        lines = no_lines()
        back: list[tuple[int, bytes]] = []
        for claim in unstarted:
            if claim.token in self._held:
                plan.dropped.append(claim.token)
                back.append((claim.token, task_line(claim.id, encode(claim.command))))
        for attempt in settled:
            claim = attempt.claim
            if claim.token not in self._held:
                if claim.token not in self._settled_by_pending:
                    plan.refused.append(claim.token)
                continue
            plan.dropped.append(claim.token)
            self._placing.place(lines, claim.id, encode(claim.command), attempt.outcome)
            if attempt.outcome.state is State.TOPROCESS:
                back.append((claim.token, lines["toprocess"].pop()))
        back.sort(reverse=True)  # the first that was claimed is the next again
        lines["toprocess"] = [line for _, line in back]
        plan.gives_back = bool(back)
        plan.grows_later = bool(lines["later"])
        append(section, lines)

    # Claiming

    def _claim(self, section: Section, want: int, plan: _Plan) -> None:
        attempts = self._placing.attempts
        for id, command in waiting.take(section, want, plan.grows_later):
            self._serial += 1
            claim = Claim(self._serial, id, attempts.total(id) + 1, attempts.counted(id), decode(command))
            plan.claims.append(claim)
            plan.lines.append(claim_line(claim.token, id, claim.attempt, command))

    def _write(self, section: Section, plan: _Plan) -> None:
        if plan.dropped or plan.claims:
            dropped = frozenset(plan.dropped)
            kept = [line for token, (_, line) in self._held.items() if token not in dropped]
            plan.claims_text = b"".join(kept + plan.lines)
            section.journal.replace(self._name, self._left_claims, plan.claims_text)

    def _held_by_others(self, section: Section, mine: int) -> int:
        """How many tasks stand in no file and are not ours: known without looking at each owner."""
        self._workdir.read_farm_again()
        standing = sum(section.sizes[name].lines for name in TASK_FILES)
        return max(0, tasks_of(section.farm) - standing - mine)

    # What came of it

    def _adopt(self, plan: _Plan) -> None:
        for token in plan.dropped:
            del self._held[token]
        for claim, line in zip(plan.claims, plan.lines):
            self._held[claim.token] = (claim, line)
        if plan.claims_text is not None:
            self._left_claims = plan.claims_text

    def _collect_pending(self, section: Section) -> None:
        """After a disk gave up in the middle: entering has done what was written down; `claims` says if anything was."""
        plan, self._pending = self._pending, None
        if plan is not None and self._read(section) == plan.claims_text:
            self._settled_by_pending |= frozenset(plan.dropped)
            self._adopt(plan)
            self._unheard += plan.claims

    # The fence

    def look_for_a_fence(self) -> None:
        """Raise Fenced if we were taken over. Without the lock: only we and who takes us over write our `claims`."""
        if self._pending is None:
            self._compare(files.read_file(os.path.join(self._workdir.path, self._name)))

    def _read(self, section: Section) -> bytes | None:
        try:
            # Without O_CREAT: an owner whose folder is being removed must not come back.
            return files.read_all(section.journal.file(self._name, create=False))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return None

    def _compare(self, content: bytes | None) -> None:
        if content != self._left_claims:
            raise Fenced(
                f"{self._workdir.path}: another farmer took over the tasks of {self._workdir.owner}, "
                f"of which it saw no sign of life"
            )


class _Plan:
    """What an exchange will have changed in memory once it is done."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.lines: list[bytes] = []
        self.dropped: list[int] = []
        self.refused: list[int] = []
        self.gives_back = False
        self.grows_later = False
        self.claims_text: bytes | None = None


def _learn(section: Section, lengths: Mapping[str, int]) -> None:
    """Add to what `farm.json` says of how long attempts take."""
    known = section.farm.get("lengths", {})
    section.set_farm(
        {**section.farm, "lengths": {step: known.get(step, 0) + lengths.get(step, 0) for step in {*known, *lengths}}}
    )
