"""What an owner sees of the others at a glance: without keeping anybody out, and at a cost that does not grow with them.

For those that ask every second or so while they have nothing to do. What they see may be an exchange old.
"""

from __future__ import annotations

import os
import random
from itertools import islice
from typing import Collection

from taskfarmer.model import Owner
from taskfarmer.stores.base import Glance
from taskfarmer.stores.lines import TASK_FILES, parse_sizes, tasks_of
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import files

#: How many owners' claims are read at a time: what an exchange may cost.
_MOST = 40


class Sight:
    """What the owner of `workdir` sees of those who were there when it last looked around."""

    def __init__(self, workdir: Workdir) -> None:
        self._workdir = workdir
        self._owners = workdir.owners
        self._at_work: Owner | None = None
        self._to_ask: list[Owner] = []

    def glance(self, mine: int) -> Glance | None:
        """How the farm stands, from `sizes` alone, if `mine` tasks are ours; None if that does not tell."""
        sizes, farm = parse_sizes(files.read_file(os.path.join(self._workdir.path, "sizes"))), self._workdir.farm
        if sizes is None or farm is None:
            return None
        elsewhere = tasks_of(farm) - sum(sizes[name].lines for name in TASK_FILES) - mine
        if elsewhere < 0:
            return None  # tasks were added that we do not know of
        left = sizes["toprocess"].lines + sizes["later"].lines
        return Glance(left, sizes["finished"].lines, sizes["failed"].lines, elsewhere)

    def is_first_of_job(self) -> bool:
        """Whether no other owner of our batch job comes before us, but for silent ones."""
        mates = [owner for owner in self._owners.seen if owner.is_mate_of(self._workdir.owner)]
        return all(self._workdir.owner < owner or self._owners.is_silent(owner) for owner in mates)

    def may_be_at_work(self, anybody: bool, but: Collection[Owner]) -> bool:
        """Whether another owner of our batch job, or any other, may hold claims.

        Whom we have found at work is asked first. When it is not any more, all are asked, a few each time: nobody is at
        work once none was. Those that have just died count: their tasks will come back.
        """
        if self._at_work is not None and self._at_work not in but and self._owners.claims_of(self._at_work):
            return True
        if self._at_work is not None or not self._to_ask:
            self._to_ask = [
                o for o in self._owners.seen if o not in but and (anybody or o.is_mate_of(self._workdir.owner))
            ]
            random.shuffle(self._to_ask)
        few, self._to_ask = self._to_ask[:_MOST], self._to_ask[_MOST:]
        self._at_work = next((owner for owner in few if self._owners.claims_of(owner)), None)
        return self._at_work is not None or bool(self._to_ask)

    def holdings(self, most: int) -> list[tuple[Owner, list[int]]]:
        """Up to `most` others that hold claims, each with the ids of its tasks."""
        held = ((owner, [one.id for one in self._owners.claims_of(owner)]) for owner in self._owners.seen[:_MOST])
        return list(islice(((owner, ids) for owner, ids in held if ids), most))
