"""Recovery of dead owners: what they left running is ended, what had ended is settled, all else is to be run again.

It is an exchange like any other. The dead owner's `claims` goes with it, before all else in its folder: that is the fence
for one that was thought dead and is not (stores/claims.py). A task that may still run, and that we cannot end, is not
given to anybody: it is stranded.
"""

from __future__ import annotations

import os
from typing import Callable

from taskfarmer.model import Outcome, Owner
from taskfarmer.stores.base import Company, Recovered
from taskfarmer.stores.lines import STATE_FILES, owner_file, parse_claims
from taskfarmer.stores.placing import Placing, append, no_lines
from taskfarmer.stores.tidy import Tidy
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import files, leftovers, process


class Recovery:
    """Recovers the dead among the other owners of `workdir`. `company` is what was seen of all when it last looked."""

    def __init__(self, workdir: Workdir, tidy: Tidy, placing: Placing, tell: Callable[[str], None]) -> None:
        self.company = Company()
        self._workdir = workdir
        self._owners = workdir.owners
        self._tidy = tidy
        self._placing = placing
        self._tell = tell
        self._told_stranded: set[Owner] = set()
        #: The dead whose tasks were stranded when it last looked.
        self.stranded: set[Owner] = set()

    def recover(self) -> list[Recovered]:
        """Take over the claims of dead owners; what they left running on this host is ended first."""
        around = self._owners.look_around()
        living = around.living_here + around.living_elsewhere
        self.company = Company(living, around.living_elsewhere, around.silent, in_doubt=around.in_doubt)
        self.stranded.clear()
        recovered = []
        for owner in around.dead:
            # Before the lock: killing and waiting is no file work.
            killed, runs_on = self._end_leftovers(owner) if owner.host == self._workdir.owner.host else (0, "")
            unended = self._unended(owner) if runs_on else 0
            if unended:
                self._leave_stranded(owner, unended, runs_on)
            else:
                recovered.append(self.take_over(owner, killed))
        return recovered

    def _end_leftovers(self, owner: Owner) -> tuple[int, str]:
        """End what a dead owner left running: how many processes that were, and what may still run."""
        try:
            user = os.stat(self._owners.folder(owner)).st_uid
        except FileNotFoundError:
            return 0, ""  # somebody else was quicker
        mark, leaders = f"{process.OWNER_VARIABLE}={owner}", self._owners.leaders(owner)
        killed = leftovers.kill_marked(mark, leaders=leaders)
        return killed, leftovers.may_run_on(owner, user, mark, leaders=leaders)

    def _unended(self, owner: Owner) -> int:
        """How many of a dead owner's tasks may be running."""
        ends = self._owners.ends(owner)
        return sum(held.token not in ends for held in self._owners.claims_of(owner))

    def _leave_stranded(self, owner: Owner, tasks: int, runs_on: str) -> None:
        self.company = self.company._replace(stranded=self.company.stranded + tasks)
        self.stranded.add(owner)
        if owner not in self._told_stranded:
            self._told_stranded.add(owner)
            user = os.stat(self._owners.folder(owner)).st_uid
            or_else = "" if user == os.geteuid() else f", or {files.user_name(user)} starts a farmer"
            self._tell(
                f"{owner.host} (pid {owner.pid}) is gone, but {runs_on} may be what it left running, and "
                f"cannot be ended from here: its tasks ({tasks}) wait until those are gone{or_else}"
            )

    def take_over(self, owner: Owner, killed: int = 0) -> Recovered:
        """Take over the claims of an owner that is known to be dead; `killed` processes of its were ended for that."""
        settled = requeued = 0
        with self._tidy.section(STATE_FILES) as section:
            claims = files.read_file(os.path.join(self._workdir.path, owner_file(owner, "claims")))
            if claims is not None:
                self._placing.read_attempts(section)
                ends = self._owners.ends(owner)
                lines = no_lines()
                for held in parse_claims(claims):
                    end = ends.get(held.token)
                    self._placing.place(lines, held.id, held.command, end.outcome if end else Outcome.OWNER_LOST)
                    settled, requeued = settled + bool(end), requeued + (not end)
                lines["toprocess"].reverse()
                append(section, lines)
                section.journal.remove(owner_file(owner, "claims"))
        self._owners.remove(owner)
        return Recovered(owner, settled, requeued, killed)
