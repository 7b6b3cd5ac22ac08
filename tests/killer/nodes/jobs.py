"""The jobs of a round: whatever job is over is submitted again, and one that has lost its node is cancelled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Iterator, NamedTuple

from slurm_lab import Slurm

from ..farm import Farm
from ..moments import now
from .log import Log
from .witness import Witness

_SCRIPTS = Path(__file__).parents[3] / "test"
_FLAGS = "--grace 0.5 --dead-after 10s -n 3"
#: A job that Slurm calls running, without a farmer for so long, is one that has lost its node: somebody cancels it.
_FORGOTTEN = 6.0
#: How often Slurm is asked for its jobs.
_LOOK_EVERY = 1.0


class Line(NamedTuple):
    """Words for `sbatch`, and how many jobs they make."""

    words: tuple[str, ...]
    members: int = 1


class Fleet(NamedTuple):
    """What a round keeps running."""

    name: str
    jobs: tuple[Line, ...]


_ALONE = Line(("slurm_test.sh",))
FLEETS = (
    Fleet("array", (Line(("--array=1-3", "--exclusive", "slurm_test.sh"), 3),)),
    Fleet("array on shared nodes", (Line(("--array=1-5", "slurm_test.sh"), 5),)),
    Fleet("srun", (Line(("--nodes=3", "srun_test.sh")), _ALONE)),
    Fleet("both", (Line(("--nodes=2", "srun_test.sh")), Line(("--array=1-3", "slurm_test.sh"), 3))),
)


class _Row(NamedTuple):
    """What `squeue` says of a job. `array`: the number of the whole array, of another job its own; `state`: PD, R, ..."""

    job: str
    array: str
    name: str
    state: str


class Jobs:
    """Those of one round. `quiet`: nothing more is submitted, and what has not begun is cancelled."""

    def __init__(self, fleet: Fleet, farm: Farm, slurm: Slurm, witness: Witness, log: Log) -> None:
        self.quiet = False
        self._fleet = fleet
        self._farm = farm
        self._slurm = slurm
        self._witness = witness
        self._log = log
        self._numbers = [0] * len(fleet.jobs)
        self._seen_with_farmer: dict[str, float] = {}
        self._looked_at = 0.0
        for name in ("slurm_test.sh", "srun_test.sh"):
            script = (_SCRIPTS / name).read_text()
            (farm.folder / name).write_text(script.replace("pytaskfarmer.py ", f"pytaskfarmer.py {_FLAGS} "))

    @property
    def said(self) -> str:
        """All that the jobs have printed."""
        files = sorted(self._farm.folder.glob("slurm-*.out"))
        return "".join(f"--- {file.name}\n{file.read_text(errors='replace')}" for file in files)

    def submit(self, *words: str) -> int:
        """A job with the list of this farm; its number."""
        return self._slurm.submit(self._farm.folder, *words, "tasks.txt")

    def keep_going(self) -> None:
        """Submit again what is over, cancel what was forgotten; Slurm is asked once a second."""
        if now() - self._looked_at < _LOOK_EVERY:
            return
        rows = [(row, self._silence(row)) for row in self._rows()]
        for row, silence in rows:
            if silence > _FORGOTTEN:
                self._seen_with_farmer[row.job] = now()
                self._cancel(row, row.job, "it was forgotten, and cancelled")
        if self.quiet:
            for row, _ in rows:
                if row.state == "PD":
                    self._cancel(row, row.name, "it was cancelled before it had begun")
        else:
            self._submit_again(Counter(int(row.array) for row, silence in rows if silence < _FORGOTTEN / 2))
        self._looked_at = now()

    def _rows(self) -> Iterator[_Row]:
        for line in self._slurm.say("squeue", "-h", "-r", "-o", "%A %F %i %t").splitlines():
            yield _Row(*line.split())

    def _silence(self, row: _Row) -> float:
        """For how many seconds a job has had no farmer though it runs."""
        is_working = any(farmer.job == row.job for farmer in self._witness.alive())
        if is_working or row.state == "PD":
            self._seen_with_farmer[row.job] = now()
        return now() - self._seen_with_farmer.setdefault(row.job, now())

    def _cancel(self, row: _Row, job: str, why: str) -> None:
        self._log.trouble(job, why)
        self._slurm.ask("scancel", row.name)

    def _submit_again(self, members: Counter[int]) -> None:
        """`members`: of how many jobs each array, or job, consists now."""
        for place, line in enumerate(self._fleet.jobs):
            if 2 * members[self._numbers[place]] < line.members:
                if self._farm.left() < 40:
                    self._farm.grow(30, 120)
                self._numbers[place] = self.submit(*line.words)
