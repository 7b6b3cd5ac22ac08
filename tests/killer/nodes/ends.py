"""How the farmers of a round on nodes have ended, and what was wrong with it."""

from __future__ import annotations

import os
import signal

from ..farm import Farm, Violation
from ..processes import left_behind
from .jobs import Jobs
from .log import Log
from .witness import Farmer, Witness


class Ends:
    """Looks at every end once."""

    def __init__(self, farm: Farm, jobs: Jobs, witness: Witness, log: Log) -> None:
        self._farm = farm
        self._jobs = jobs
        self._witness = witness
        self._log = log
        self._judged: set[int] = set()

    def look(self) -> None:
        """At those that are new."""
        if self._witness.trouble:
            raise Violation(self._witness.trouble)
        for farmer in self._witness.farmers:
            if farmer.ended is not None and farmer.pid not in self._judged:
                self._judged.add(farmer.pid)
                if wrong := self._wrong_end(farmer):
                    about = f"{self._log.about(farmer)}\n{self._jobs.said}"
                    self._farm.violations.append(f"{farmer}: {wrong}\n{about}")

    def _wrong_end(self, farmer: Farmer) -> str:
        in_trouble = bool(self._log.troubles_of(farmer))
        if farmer.was_killed:
            was_hit = any(farmer.pid in hit.pids for hit in self._log.hits)
            return "" if was_hit or in_trouble else "killed, and not by us"
        if farmer.killed_by:
            early = farmer.killed_by in (signal.SIGTERM, signal.SIGUSR1) and not farmer.workers
            return "" if early and in_trouble else f"ended by signal {farmer.killed_by}"
        status = os.WEXITSTATUS(farmer.status)
        if status in (0, 1):
            return ""
        if status == 75 and in_trouble:
            return "" if self._is_stalled(farmer) else left_behind(f"{farmer.name}.")
        return f"exit {status}"

    def _is_stalled(self, farmer: Farmer) -> bool:
        """Whether its workers may have been stopped as it ended."""
        pids = {worker.pid for worker in farmer.workers}
        return any(stall.pids & pids for stall in self._log.stalls)
