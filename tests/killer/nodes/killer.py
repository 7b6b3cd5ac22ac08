"""One round on nodes: attacks on the farmers of jobs, then the quiet end.

Of what becomes of farmers that were not hit themselves, only of their job, their node or their slurmstepd, the witness knows.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple, Sequence

from slurm_lab import NODES, PATIENCE, Slurm

from ..attacks import Deed
from ..farm import Farm, Violation
from ..killer import HANG
from ..lasting import Lasting
from ..moments import Moments, now
from ..processes import marked, send
from .aims import Aims
from .attacks import Attack, Step
from .ends import Ends
from .jobs import Fleet, Jobs
from .log import Hit, Log
from .strikes import Strikes
from .witness import Farmer, Witness


class Terms(NamedTuple):
    """What kind of farm a round has."""

    fleet: Fleet
    brisk: bool = False  # many tasks that take no time

    def __str__(self) -> str:
        return f"{self.fleet.name}, {'brisk' if self.brisk else 'mixed'} tasks"


class Killer:
    """A new farm, on which a plan is carried out. A context: at its end everything is killed, and every node has power."""

    def __init__(
        self, folder: Path, rng: random.Random, terms: Terms, slurm: Slurm, program_path: Path | None = None
    ) -> None:
        self.farm = Farm(folder, rng, terms.brisk, program_path)
        self.log = Log()
        self.witness = Witness(self.farm.folder)
        self.jobs = Jobs(terms.fleet, self.farm, slurm, self.witness, self.log)
        self._slurm = slurm
        self._lasting = Lasting()
        self._moments = Moments(self.farm.workdir, self.farm.effects)
        self._aims = Aims(self._moments, self.witness, self._keep_going)
        self._strikes = Strikes(self.farm, slurm, self.witness, self.log, self._lasting)
        self._ends = Ends(self.farm, self.jobs, self.witness, self.log)
        self.farm.grow(120)

    @property
    def hits(self) -> list[Hit]:
        """Every attack as it happened."""
        return self.log.hits

    def run(self, steps: Sequence[Step]) -> None:
        """Attack, then let the farm come to its end."""
        self._wait_for_a_farmer()
        for number, step in enumerate(steps):
            if self.farm.violations:
                raise Violation(f"after step {number}")
            self.log.step = number
            if isinstance(step, Attack):
                self._strike(step)
            else:
                self._do(step)
        self._come_to_the_end()

    def _keep_going(self) -> None:
        """Undo what has lasted long enough, submit again what is over, look at how everybody has ended."""
        self._lasting.undo_due()
        self._look()
        self.jobs.keep_going()

    def _look(self) -> None:
        self.farm.judge_verbs()
        self._ends.look()

    def _strike(self, attack: Attack) -> None:
        """Attack until somebody is hit: who was meant may have gone in that instant."""
        hits, patience = len(self.hits), now() + HANG
        while len(self.hits) == hits:
            if now() > patience:
                raise Violation(f"nobody could be hit: {attack}\n{self._slurm.say('squeue')}")
            self._pass(attack.wait)
            self._wait_for_a_farmer()
            meant = self._aims.take(attack)
            if farmer := self._victim(attack, meant.farmer):
                self._strikes.strike(attack, farmer, meant.worker)

    def _victim(self, attack: Attack, meant: Farmer | None) -> Farmer | None:
        """Who was meant, else one that is at work, else whoever lives."""
        if meant and meant.ended is None:
            return meant
        alive = self.witness.alive()
        found = [farmer for farmer in alive if farmer.workers] or alive
        return found[attack.who % len(found)] if found else None

    def _do(self, deed: Deed) -> None:
        if deed is Deed.GROW:
            self.farm.grow(10, 40)
        elif self.farm.is_loaded():
            self.farm.ask(deed.value.split()[0])

    # Waiting

    def _wait_for_a_farmer(self) -> None:
        begun, patience = now(), now() + PATIENCE
        self._keep_going()
        while not self.witness.alive():
            if now() > begun + 3.0:
                self._lasting.undo_all()
            if now() > patience:
                raise Violation(f"no farmer was started:\n{self._slurm.say('squeue')}\n{self._slurm.say('sinfo')}")
            time.sleep(0.02)
            self._keep_going()

    def _pass(self, seconds: float) -> None:
        until = now() + seconds
        while now() < until:
            self._keep_going()
            time.sleep(0.02)

    def _check_patience(self, patience: float) -> None:
        """Who hangs says where."""
        if now() > patience:
            hanging = self.witness.alive()
            send([farmer.pid for farmer in hanging], signal.SIGABRT)
            time.sleep(1.0)
            names = "\n".join(map(str, hanging))
            raise Violation(f"hanging:\n{names}\n{self.jobs.said}\n{self._slurm.say('squeue', '-a')}")

    # The end

    def _come_to_the_end(self) -> None:
        self.jobs.quiet = True
        self._lasting.undo_all()
        patience = now() + HANG
        while self.witness.alive() or self.farm.verbs:
            self._keep_going()
            self._check_patience(patience)
            time.sleep(0.05)
        self._slurm.clear()
        self._work_on(patience)
        for number in range(NODES):
            last = self._last_farmer(f"n{1 + number}", patience)
            if "Traceback" in self.jobs.said:
                self.farm.violations.append(f"a traceback:\n{self.jobs.said}")
            if os.WIFEXITED(last.status) and os.WEXITSTATUS(last.status) in (0, 1):
                return
        self.farm.violations.append(f"unhindered and alone it does not come to an end: {last}\n{self.jobs.said}")

    def _work_on(self, patience: float) -> None:
        """A farmer on each node, unhindered."""
        job = self.jobs.submit("--nodes", str(NODES), "srun_test.sh")
        while str(job) in self._slurm.say("squeue", "-h", "-o", "%A").split():
            self._look()
            self._check_patience(patience)
            time.sleep(0.2)

    def _last_farmer(self, node: str, patience: float) -> Farmer:
        """One farmer, alone and unhindered."""
        before = len(self.witness.farmers)
        job = self.jobs.submit("--nodelist", node, "slurm_test.sh")
        while len(self.witness.farmers) == before or self.witness.alive():
            self._check_patience(patience)
            time.sleep(0.05)
        self._look()
        self._slurm.say("scancel", str(job))  # if work was left, it has asked to be started again
        return self.witness.farmers[-1]

    # A context

    def __enter__(self) -> Killer:
        self._before = dict(self._slurm.env)
        self._slurm.env |= {"PYTHONFAULTHANDLER": "1", "PYTHONPATH": str(self.farm.program_path)}
        self.witness.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._lasting.undo_all()
            self._slurm.cancel_all()
            send(marked(f"TASKFARMER_WORKDIR={self.farm.workdir}"), signal.SIGKILL)
            send([farmer.pid for farmer in self.witness.alive()], signal.SIGKILL)
            self._slurm.clear()
        finally:
            self.witness.__exit__(*exc)
            self._moments.close()
            self._slurm.env = self._before
