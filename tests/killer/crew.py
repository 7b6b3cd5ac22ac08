"""The farmers of a round on one host: whoever has ended or died is started again, and how it ended is looked at."""

from __future__ import annotations

import os
import signal

from .attacks import Target
from .farm import Farm
from .hit import Hit
from .processes import left_behind, processes
from .programs import STOPS, Program


class Crew:
    """So many farmers, each in a place of its own. `hits`: what is done to them."""

    def __init__(self, farm: Farm, hits: list[Hit], size: int, soft: bool) -> None:
        self.places: list[Program | None] = [None] * size
        self._farm = farm
        self._hits = hits
        self._flags = ["-n", "2", "--grace", "0.5", *(["--lock", "soft"] if soft else [])]

    def keep_going(self) -> None:
        """Start again who has ended or died."""
        for place in range(len(self.places)):
            if self._has_ended(place):
                self._farm.grow(10, 40)
            if self.places[place] is None:
                self.start(place)

    def look(self) -> None:
        """The same, but nobody is started again."""
        for place in range(len(self.places)):
            self._has_ended(place)

    def _has_ended(self, place: int) -> bool:
        """Empty a place if its farmer is no more; whether that has ended well."""
        farmer = self.places[place]
        if farmer is None or farmer.status() is None:
            return False
        self.places[place] = None
        self.judge(farmer)
        return farmer.status() in (0, 1)

    def start(self, place: int) -> Program:
        """A new farmer in this place."""
        farmer = self.places[place] = self._farm.start(*self._flags)
        return farmer

    def alive(self) -> list[Program]:
        """The living farmers."""
        return [farmer for farmer in self.places if farmer is not None and farmer.status() is None]

    def workers(self) -> list[tuple[int, Program]]:
        """Every living worker, and whose it is: also of farmers that are dead."""
        of_group = {program.pid: program for program in self._farm.programs}
        return [
            (pid, of_group[about.group])
            for pid, about in sorted(processes().items())
            if about.group in of_group and pid != about.group
        ]

    # How farmers end

    def judge(self, farmer: Program) -> None:
        """Look at its exit status, at what it said, and at what it has left."""
        wrong = self._wrong_status(farmer) or self._wrong_words(farmer) or self._wrong_remains(farmer)
        if wrong:
            told = f"(pid {farmer.pid}): {wrong}; signals {[number.name for number in farmer.signals]}"
            self._farm.violations.append(f"{farmer.words} {told}; it said:\n{farmer.said}")

    def _wrong_status(self, farmer: Program) -> str:
        status = farmer.status()
        assert status is not None
        if status == -signal.SIGKILL:
            return "" if signal.SIGKILL in farmer.signals else "killed, and not by us"
        stopped = [number for number in farmer.signals if number in STOPS]
        if status in (0, 1) or (status == 75 and stopped):
            return ""
        early = not farmer.said or "KeyboardInterrupt" in farmer.said
        if early and (status in [-number for number in stopped] or (status == 130 and signal.SIGINT in stopped)):
            return ""  # Python itself was not up yet
        return f"exit {status}"

    def _wrong_words(self, farmer: Program) -> str:
        interrupted = signal.SIGINT in farmer.signals and "KeyboardInterrupt" in farmer.said
        return "a traceback" if "Traceback" in farmer.said and not interrupted else ""

    def _wrong_remains(self, farmer: Program) -> str:
        assert farmer.ended is not None
        if farmer.status() == 75 and not farmer.stalled_workers:
            return left_behind(f"{os.uname().nodename}.{farmer.pid}.")
        return self._left_to_the_dead(farmer.ended) if farmer.status() in (0, 1) else ""

    def _left_to_the_dead(self, when: float) -> str:
        """Who ends well has taken over those that were dead by then, workers and all."""
        dead = {
            hit.victim
            for hit in self._hits
            if hit.attack.signal is signal.SIGKILL
            and hit.attack.target in (Target.GROUP, Target.EVERYTHING)
            and hit.time < when - 3.0
        }
        held = [path.parent.name for path in (self._farm.workdir / "running").glob("*/claims") if path.stat().st_size]
        left = [name for name in held if int(name.rsplit(".", 3)[1]) in dead]
        return f"ended well, and left tasks to the dead: {left}" if left else ""
