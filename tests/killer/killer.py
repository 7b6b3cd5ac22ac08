"""One round on one host: attacks on N farmers while others work and ask, then the quiet end."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import NamedTuple, Sequence

from .attacks import Aim, Attack, Deed, Step, Target
from .crew import Crew
from .farm import Farm, Violation
from .hit import Hit
from .lasting import Lasting
from .moments import now
from .processes import marked, send
from .programs import Program
from .strikes import Strikes

#: A farmer that takes longer than this to come to its end, unhindered, hangs.
HANG = 180.0


class Terms(NamedTuple):
    """What kind of farm a round has."""

    farmers: int = 3
    brisk: bool = False  # many tasks that take no time
    soft: bool = False  # --lock soft

    def __str__(self) -> str:
        return f"{self.farmers} farmers, {'brisk' if self.brisk else 'mixed'} tasks{', --lock soft' * self.soft}"


class Killer:
    """A new farm, on which a plan is carried out. A context: what still runs at its end is killed."""

    def __init__(self, folder: Path, rng: random.Random, terms: Terms, program_path: Path | None = None) -> None:
        self.farm = Farm(folder, rng, terms.brisk, program_path)
        self.hits: list[Hit] = []
        self.hand_edits: list[float] = []
        self._stalled = Lasting()
        self._crew = Crew(self.farm, self.hits, terms.farmers, terms.soft)
        self._strikes = Strikes(self.farm, self._crew, self.hits, self._stalled, self._keep_going)
        self.farm.grow(60)

    def run(self, steps: Sequence[Step]) -> None:
        """Attack, then let the farm come to its end."""
        self._keep_going()
        for number, step in enumerate(steps):
            if self.farm.violations:
                raise Violation(f"after step {number}")
            self._strikes.step = number
            if isinstance(step, Attack):
                self._pass(step.wait)
                self._strikes.carry_out(step)
            else:
                self._do(step)
        self._come_to_the_end()

    def _keep_going(self) -> None:
        """Resume who was stalled long enough, start again who ended or died, look at how everybody ended."""
        self._stalled.undo_due()
        self._crew.keep_going()
        self.farm.judge_verbs()

    def _pass(self, seconds: float) -> None:
        until = now() + seconds
        self._keep_going()
        while (left := until - now()) > 0:
            time.sleep(min(left, 0.02))
            self._keep_going()

    # Other deeds

    def _do(self, deed: Deed) -> None:
        if deed is Deed.GROW:
            self.farm.grow(1, 20)
        elif not self.farm.is_loaded():
            return
        elif deed is Deed.BY_HAND:
            self._edit_by_hand()
        else:
            self.farm.ask(deed.value.split()[0])

    def _edit_by_hand(self) -> None:
        """The ancestor's way of trying again, allowed when no farmer is alive and nothing is half done."""
        self._stalled.undo_all()
        while self._running() or self._crew.workers():
            self._strikes.hit_everything(Attack(Aim.RANDOM, Target.EVERYTHING, signal.SIGKILL, 0, 0, 0, 0, False))
        self._crew.look()
        look = self.farm.start("status")  # does what a dead one's journal says
        if look.process.wait(HANG) not in (0, 1, 75):
            self.farm.violations.append(f"status: exit {look.process.returncode}\n{look.said}")
        failed = self.farm.workdir / "failed"
        with (self.farm.workdir / "toprocess").open("ab") as file:
            file.write(failed.read_bytes())
        failed.unlink()
        self.hand_edits.append(now())

    def _running(self) -> list[Program]:
        return [*self._crew.alive(), *(verb for verb in self.farm.verbs if verb.status() is None)]

    # The end

    def _come_to_the_end(self) -> None:
        self._stalled.undo_all()
        patience = now() + HANG
        while running := self._running():
            self._wait(running, patience)
        self._look()
        for _ in range(3):
            last = self.farm.start("-n", "4")
            while last.status() is None:
                self._wait([last], patience)
            self._crew.judge(last)
            if last.status() in (0, 1):
                return
        self.farm.violations.append(f"{last.pid}: unhindered and alone it ends with {last.status()}:\n{last.said}")

    def _wait(self, running: list[Program], patience: float) -> None:
        """A moment, for those that run; who hangs then says where."""
        if now() > patience:
            for program in running:
                send([program.pid], signal.SIGABRT)
                program.process.wait()
            raise Violation("hanging:\n" + "\n".join(f"{p.pid} {p.words}\n{p.said}" for p in running))
        time.sleep(0.02)
        self._look()

    def _look(self) -> None:
        """At how everybody ended."""
        self._crew.look()
        self.farm.judge_verbs()

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._strikes.close()
        for _ in range(3):
            for program in self.farm.programs:
                send([*program.workers(), *([program.pid] if program.status() is None else [])], signal.SIGKILL)
            send(marked(f"TASKFARMER_WORKDIR={self.farm.workdir}"), signal.SIGKILL)
            time.sleep(0.02)
        for program in self.farm.programs:
            program.process.wait()
