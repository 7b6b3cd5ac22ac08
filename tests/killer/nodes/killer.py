"""Carries a plan out against the farmers of jobs on the nodes of a real Slurm, and keeps a log of what it hit.

Whatever job is over is submitted again. Of what becomes of farmers that were not hit themselves, only of their job, their
node or their slurmstepd, the witness knows.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

from slurm_lab import NODES, PATIENCE, Slurm

import taskfarmer

from ..attacks import Aim, Deed
from ..farmers import Program, Sight, is_stopped, marked, now, sight_of
from ..killer import HANG, Violation, Watch, left_behind, wait_precisely
from ..tasks import SCRIPT, lines
from .attacks import Attack, Blow, Step
from .witness import Farmer, Process, Witness

_SCRIPTS = Path(__file__).parents[3] / "test"
_FLAGS = "--grace 0.5 --dead-after 10s -n 3"
#: A job that Slurm calls running, without a farmer for so long, is one that has lost its node: somebody cancels it.
_FORGOTTEN = 6.0
_PATIENCE_WITH_AN_AIM = 2.0
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


class Terms(NamedTuple):
    """What kind of farm a round has."""

    fleet: Fleet
    brisk: bool = False  # many tasks that take no time

    def __str__(self) -> str:
        return f"{self.fleet.name}, {'brisk' if self.brisk else 'mixed'} tasks"


class Hit(NamedTuple):
    """One attack as it happened. `victim`: a farmer's name; `pids`: outer ones, of all that got the signal."""

    time: float
    step: int
    attack: Attack
    node: str
    job: str
    victim: str
    pids: frozenset[int]
    sight: Sight

    def __str__(self) -> str:
        sight = f"{'starting up, ' if self.sight.starting else ''}{self.sight.claims} claims"
        sight += f", in an exchange ({self.sight.exchange})" if self.sight.exchange else ""
        told = ", and Slurm is told" if self.attack.blow is Blow.POWER and self.attack.told else ""
        return (
            f"{self.time:.2f} {self.step}: {self.attack.blow.value}{told}, {self.attack.aim.value}: "
            f"{self.node}, job {self.job}, farmer {self.victim} ({sight}) {sorted(self.pids)}"
        )


class Trouble(NamedTuple):
    """Something after which Slurm may end what runs of a job, which has this number or this name."""

    time: float
    job: str
    what: str


class Stall(NamedTuple):
    """From when to when these were stopped (outer pids), or all of a job."""

    begin: float
    end: float
    pids: frozenset[int]
    job: str


class Due(NamedTuple):
    """What is to be undone, and when; `job`: of which it is."""

    time: float
    undo: Callable[[], None]
    job: str = ""


class Killer:
    """One round: a new farm, a plan, the quiet end. What it found wrong on the way is in `violations`."""

    def __init__(
        self, folder: Path, rng: random.Random, terms: Terms, slurm: Slurm, program_path: Path | None = None
    ) -> None:
        self.folder = folder.resolve()
        self.workdir = self.folder / "tasks.txt_workdir"
        self.hits: list[Hit] = []
        self.troubles: list[Trouble] = []
        self.stalls: list[Stall] = []
        self.requeues: list[tuple[float, float]] = []
        self.violations: list[str] = []
        self.commands: list[str] = []
        self._sizes: list[int] = []
        self._terms = terms
        self._rng = rng
        self._slurm = slurm
        self._program_path = program_path or Path(taskfarmer.__file__).parents[1]
        self._jobs: list[int | None] = [None] * len(terms.fleet.jobs)
        self._verbs: list[Program] = []
        self._programs: list[Program] = []
        self._due: list[Due] = []
        self._judged: set[int] = set()
        self._seen_with_farmer: dict[str, float] = {}
        self._looked_at = 0.0
        self._step = 0
        self._quiet = False
        for name in ("locks", "said"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "task.sh").write_text(SCRIPT)
        (self.folder / "effects").touch()
        (self.workdir / "running").mkdir(parents=True)
        for name in ("slurm_test.sh", "srun_test.sh"):
            script = (_SCRIPTS / name).read_text()
            (self.folder / name).write_text(script.replace("pytaskfarmer.py ", f"pytaskfarmer.py {_FLAGS} "))
        self._watch = Watch(self.workdir, self.folder / "effects")
        self.witness = Witness(self.folder)
        self._grow(120)

    # The round

    def run(self, steps: Sequence[Step]) -> None:
        """Attack, then let the farm come to its end."""
        self._wait_for_a_farmer()
        for self._step, step in enumerate(steps):
            if self.violations:
                raise Violation(f"after step {self._step}")
            if isinstance(step, Attack):
                self._strike(step)
            else:
                self._do(step)
        self._come_to_the_end()

    def _come_to_the_end(self) -> None:
        self._quiet = True
        self._finish_what_is_due()
        patience = now() + HANG
        while self.witness.alive() or self._verbs:
            self._keep_going()
            self._check_patience(patience)
            time.sleep(0.05)
        self._slurm.clear()
        self._work_on(patience)
        for number in range(NODES):
            last = self._last_farmer(f"n{1 + number}", patience)
            if "Traceback" in self.said:
                self.violations.append(f"a traceback:\n{self.said}")
            if os.WIFEXITED(last.status) and os.WEXITSTATUS(last.status) in (0, 1):
                return
        self.violations.append(f"unhindered and alone it does not come to an end: {last}\n{self.said}")

    def _work_on(self, patience: float) -> None:
        """A farmer on each node, unhindered."""
        job = self._slurm.submit(self.folder, "--nodes", str(NODES), "srun_test.sh", "tasks.txt")
        while str(job) in self._slurm.say("squeue", "-h", "-o", "%A").split():
            self._judge_the_ended()
            self._check_patience(patience)
            time.sleep(0.2)

    def _last_farmer(self, node: str, patience: float) -> Farmer:
        """One farmer, alone and unhindered."""
        before = len(self.witness.farmers)
        job = self._slurm.submit(self.folder, "--nodelist", node, "slurm_test.sh", "tasks.txt")
        while len(self.witness.farmers) == before or self.witness.alive():
            self._check_patience(patience)
            time.sleep(0.05)
        self._judge_the_ended()
        self._slurm.say("scancel", str(job))  # if work was left, it has asked to be started again
        return self.witness.farmers[-1]

    def _check_patience(self, patience: float) -> None:
        if now() > patience:
            hanging = self.witness.alive()
            for farmer in hanging:
                os.kill(farmer.pid, signal.SIGABRT)  # it then says where it hangs
            time.sleep(1.0)
            names = "\n".join(map(str, hanging))
            raise Violation(f"hanging:\n{names}\n{self.said}\n{self._slurm.say('squeue', '-a')}")

    @property
    def said(self) -> str:
        """All that the jobs have printed."""
        files = sorted(self.folder.glob("slurm-*.out"))
        return "".join(f"--- {file.name}\n{file.read_text(errors='replace')}" for file in files)

    def __enter__(self) -> Killer:
        self._before = dict(self._slurm.env)
        self._slurm.env |= {"PYTHONFAULTHANDLER": "1", "PYTHONPATH": str(self._program_path)}
        self.witness.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        """End everything that still belongs to this farm, and give everything its power back."""
        try:
            self._finish_what_is_due()
            self._slurm.cancel_all()
            for pid in marked(f"TASKFARMER_WORKDIR={self.workdir}"):
                _kill(pid, signal.SIGKILL)
            for farmer in self.witness.alive():
                _kill(farmer.pid, signal.SIGKILL)
            self._slurm.clear()
        finally:
            self.witness.__exit__(*exc)
            self._watch.close()
            self._slurm.env = self._before

    # Jobs

    def _keep_going(self) -> None:
        """Undo what has lasted long enough, submit again what is over, look at how everybody has ended."""
        for item in list(self._due):
            if item.time <= now():
                self._due.remove(item)
                item.undo()
        for verb in [verb for verb in self._verbs if verb.status() is not None]:
            self._verbs.remove(verb)
            self._judge_verb(verb)
        self._judge_the_ended()
        if now() - self._looked_at >= _LOOK_EVERY:
            self._look_at_jobs()
            self._looked_at = now()

    def _look_at_jobs(self) -> None:
        rows = self._slurm.say("squeue", "-h", "-r", "-o", "%A %F %i %t").splitlines()
        working = {farmer.job for farmer in self.witness.alive()}
        members: Counter[int] = Counter()
        for job, array, name, state in map(str.split, rows):
            if job in working or state == "PD":
                self._seen_with_farmer[job] = now()
            silent = now() - self._seen_with_farmer.setdefault(job, now())
            members[int(array)] += silent < _FORGOTTEN / 2
            if silent > _FORGOTTEN:
                self._seen_with_farmer[job] = now()
                self._note_trouble(job, "it was forgotten, and cancelled")
                self._ask("scancel", name)
        if self._quiet:
            for _, _, name, state in map(str.split, rows):
                if state == "PD":
                    self._note_trouble(name, "it was cancelled before it had begun")
                    self._ask("scancel", name)
            return
        for place, line in enumerate(self._terms.fleet.jobs):
            if 2 * members[self._jobs[place] or 0] < line.members:
                if self._left() < 40:
                    self._grow(self._rng.randrange(30, 120))
                self._jobs[place] = self._slurm.submit(self.folder, *line.words, "tasks.txt")

    def _left(self) -> int:
        """How many tasks have not ended."""
        ended = (self.workdir / name for name in ("finished", "failed"))
        return len(self.commands) - sum(path.read_bytes().count(b"\n") for path in ended if path.exists())

    def _wait_for_a_farmer(self) -> None:
        begun, patience = now(), now() + PATIENCE
        self._keep_going()
        while not self.witness.alive():
            if self._due and now() > begun + 3.0:
                self._finish_what_is_due()
            if now() > patience:
                raise Violation(f"no farmer was started:\n{self._slurm.say('squeue')}\n{self._slurm.say('sinfo')}")
            time.sleep(0.02)
            self._keep_going()

    def _pass(self, seconds: float) -> None:
        until = now() + seconds
        while now() < until:
            self._keep_going()
            time.sleep(0.02)

    def _finish_what_is_due(self) -> None:
        while self._due:
            self._due.pop(0).undo()

    def _ask(self, *words: str) -> None:
        """Ask Slurm for something that may have become impossible in the meantime."""
        subprocess.run(words, env=self._slurm.env, capture_output=True, timeout=PATIENCE)

    # Attacks

    def _strike(self, attack: Attack) -> None:
        """Attack until somebody is hit: who was meant may have gone in that instant."""
        hits, patience = len(self.hits), now() + HANG
        while len(self.hits) == hits:
            if now() > patience:
                raise Violation(f"nobody could be hit: {attack}\n{self._slurm.say('squeue')}")
            self._pass(attack.wait)
            self._wait_for_a_farmer()
            self._attack(attack)

    def _attack(self, attack: Attack) -> None:
        farmer, worker = self._aim(attack)
        if attack.delay and attack.aim is not Aim.START_UP:
            wait_precisely(attack.delay)
        alive = self.witness.alive()
        if farmer and farmer.ended is None:
            alive = [farmer]
        elif at_work := [farmer for farmer in alive if farmer.workers]:
            alive = at_work
        if not alive:
            return
        farmer = alive[attack.who % len(alive)]
        if attack.blow is Blow.POWER:
            self._cut_power(attack, farmer)
            return
        self._wake(farmer.job)  # killing what is suspended would leave its tasks suspended
        if attack.blow is Blow.FARMER:
            self._kill(attack, farmer, [farmer])
        elif attack.blow is Blow.WORKER:
            workers = farmer.alive()
            if workers:
                chosen = worker if worker in workers else workers[attack.who % len(workers)]
                self._kill(attack, farmer, [chosen])
        elif attack.blow is Blow.GROUP:
            self._kill(attack, farmer, [farmer, *farmer.alive()])
        elif attack.blow is Blow.STEPD:
            self._kill_stepd(attack, farmer)
        elif attack.blow is Blow.SUSPEND:
            self._suspend(attack, farmer)
        elif attack.blow is Blow.STALL:
            self._stall(attack, farmer)
        else:
            self._scancel(attack, farmer)

    def _aim(self, attack: Attack) -> tuple[Farmer | None, Process | None]:
        """Wait for the moment; who is to be hit, if that is known by then."""
        patience = now() + _PATIENCE_WITH_AN_AIM
        if attack.aim is Aim.EXCHANGE:
            return self._next_in_an_exchange(patience), None
        if attack.aim is Aim.START_UP:
            return self._next_started(attack, patience), None
        if attack.aim is Aim.TASK_START:
            return self._next_task(patience, "start")
        if attack.aim is Aim.TASK_END:
            return self._next_task(patience, "ok", "fail")
        return None, None

    def _next_in_an_exchange(self, patience: float) -> Farmer | None:
        self._watch.forget()
        while now() < patience:
            if "journal" in self._watch.wait(0.05):
                farmer = self._author()
                if farmer is not None and farmer.ended is None:
                    _kill(farmer.pid, signal.SIGSTOP)  # it stays there until it is hit
                    return farmer
        return None

    def _author(self) -> Farmer | None:
        for _ in range(20):
            try:
                title = (self.workdir / "journal").read_bytes().partition(b"\n")[0].decode(errors="replace")
            except FileNotFoundError:
                return None
            if farmer := self.witness.find(title.rpartition(" ")[2]):
                return farmer
        return None

    def _next_started(self, attack: Attack, patience: float) -> Farmer | None:
        before = len(self.witness.farmers)
        while now() < patience:
            self._keep_going()
            if len(self.witness.farmers) > before:
                farmer = self.witness.farmers[before]
                wait_precisely(max(0.0, farmer.begun + attack.delay - now()))
                return farmer
            time.sleep(0.002)
        return None

    def _next_task(self, patience: float, *events: str) -> tuple[Farmer | None, Process | None]:
        path = self.folder / "effects"
        size = path.stat().st_size
        while now() < patience:
            self._watch.wait(0.05)
            with path.open("rb") as file:
                file.seek(size)
                for line in file.read().decode().splitlines():
                    words = line.split()
                    if len(words) == 7 and words[2] in events:
                        return self.witness.find(words[3]), self.witness.worker(words[3], int(words[4]))
        return None, None

    def _sight(self, farmer: Farmer) -> Sight:
        """Stop it, so that what it was doing is certain."""
        _kill(farmer.pid, signal.SIGSTOP)
        patience = now() + 0.05
        while not is_stopped(farmer.pid) and now() < patience:
            pass
        folders = list((self.workdir / "running").glob(f"{farmer.name}.*"))
        return sight_of(farmer.pid, self.workdir, folders, starting=not folders)

    def _note(self, attack: Attack, farmer: Farmer, pids: Sequence[int], sight: Sight) -> None:
        hit = Hit(now(), self._step, attack, farmer.node, farmer.job, farmer.name, frozenset(pids), sight)
        self.hits.append(hit)

    def _note_trouble(self, job: str, what: str) -> None:
        self.troubles.append(Trouble(now(), job, what))

    # What is done

    def _cut_power(self, attack: Attack, farmer: Farmer) -> None:
        node = farmer.node
        if len(self._slurm.without_power) == NODES - 1:
            self._finish_what_is_due()  # somebody must be there to take over
        sight = self._sight(farmer)
        there = [other for other in self.witness.alive() if other.node == node]
        pids = [process.pid for other in there for process in (other, *other.alive())]
        self._note(attack, farmer, pids, sight)
        self._note_loss_of(node)
        self._slurm.cut_power(node)
        if attack.told:
            self._ask("scontrol", "update", f"nodename={node}", "state=down", "reason=no power")
        self._due.append(Due(now() + attack.pause, lambda: self._give_power(node, attack.told)))
        self._wait_until_dead(node)
        self._note_loss_of(node)  # of those, too, that were started in that instant

    def _note_loss_of(self, node: str) -> None:
        for job in {farmer.job for farmer in self.witness.farmers if farmer.node == node}:
            self._note_trouble(job, f"{node} lost its power")

    def _wait_until_dead(self, node: str) -> None:
        patience = now() + 5.0
        while left := [farmer for farmer in self.witness.alive() if farmer.node == node]:
            if now() > patience:
                raise Violation(f"without power, and alive: {left[0]}")
            time.sleep(0.005)

    def _give_power(self, node: str, told: bool) -> None:
        self._slurm.give_power(node)
        if told:
            self._ask("scontrol", "update", f"nodename={node}", "state=resume")

    def _kill(self, attack: Attack, farmer: Farmer, processes: Sequence[Process]) -> None:
        sight = self._sight(farmer)
        pids = [process.pid for process in processes]
        self._note(attack, farmer, pids, sight)
        if attack.blow is Blow.GROUP:
            _kill_group(farmer.pid, signal.SIGKILL)  # at one instant: nobody can be forked meanwhile
        else:
            for pid in pids:
                _kill(pid, signal.SIGKILL)
        if farmer not in processes:
            _kill(farmer.pid, signal.SIGCONT)
        else:
            self._note_trouble(farmer.job, f"{farmer.name} was killed")

    def _kill_stepd(self, attack: Attack, farmer: Farmer) -> None:
        parent = _parent(farmer.pid)
        if parent is None or Path(f"/proc/{parent}/comm").read_text().strip() != "slurmstepd":
            return  # killed before
        self._note(attack, farmer, [parent], self._sight(farmer))
        _kill(farmer.pid, signal.SIGCONT)
        self._note_trouble(farmer.job, "its slurmstepd was killed")
        _kill(parent, signal.SIGKILL)

    def _scancel(self, attack: Attack, farmer: Farmer) -> None:
        sight = self._sight(farmer)
        _kill(farmer.pid, signal.SIGCONT)
        self._note(attack, farmer, [], sight)
        self._note_trouble(farmer.job, attack.blow.value)
        is_batch = int(_variable(farmer.pid, "SLURM_STEP_ID") or -1) < 0
        to = ["--full"] if is_batch and attack.blow is not Blow.CANCEL else []
        self._ask(*attack.blow.value.split(), *to, farmer.job_name)

    def _suspend(self, attack: Attack, farmer: Farmer) -> None:
        job, name, begin = farmer.job, farmer.job_name, now()
        self._note(attack, farmer, [], self._sight(farmer))
        _kill(farmer.pid, signal.SIGCONT)
        self._ask("scontrol", "suspend", name)

        def resume() -> None:
            self._ask("scontrol", "resume", name)
            self.stalls.append(Stall(begin, now(), frozenset(), job))

        self._due.append(Due(now() + attack.pause, resume, job))

    def _wake(self, job: str) -> None:
        for item in list(self._due):
            if item.job == job:
                self._due.remove(item)
                item.undo()

    def _stall(self, attack: Attack, farmer: Farmer) -> None:
        begin = now()
        pids = [process.pid for process in (farmer, *farmer.alive())]
        self._note(attack, farmer, pids, self._sight(farmer))
        _kill_group(farmer.pid, signal.SIGSTOP)

        def go_on() -> None:
            _kill_group(farmer.pid, signal.SIGCONT)
            self.stalls.append(Stall(begin, now(), frozenset(pids), ""))

        self._due.append(Due(now() + attack.pause, go_on))

    # Other deeds

    def _do(self, deed: Deed) -> None:
        if deed is Deed.GROW:
            self._grow(self._rng.randrange(10, 40))
        elif (self.workdir / "farm.json").exists() and (self.workdir / "farm.json").read_bytes():
            words = [deed.value.split()[0], "--json", "tasks.txt"]
            verb = Program(self.folder, len(self._programs), words, self._program_path)
            self._programs.append(verb)
            self._verbs.append(verb)

    def _grow(self, count: int) -> None:
        new = lines(self._rng, count * 10 if self._terms.brisk else count, self._terms.brisk)
        with (self.folder / "tasks.txt").open("a") as file:
            file.write("".join(f"{line}\n" for line in new))
        self.commands += new
        self._sizes.append(len(self.commands))

    # How everything ends

    def _judge_verb(self, verb: Program) -> None:
        assert verb.ended is not None
        if verb.words[0] == "retry":
            self.requeues.append((verb.begun, verb.ended))
            wrong = "" if verb.status() == 0 else f"exit {verb.status()}"
        else:
            wrong = verb.wrong_counts(self._sizes)
        if wrong or "Traceback" in verb.said:
            self.violations.append(f"{verb.words}: {wrong or 'a traceback'}; it said:\n{verb.said}")

    def _judge_the_ended(self) -> None:
        if self.witness.trouble:
            raise Violation(self.witness.trouble)
        for farmer in self.witness.farmers:
            if farmer.ended is not None and farmer.pid not in self._judged:
                self._judged.add(farmer.pid)
                if wrong := self._wrong_end(farmer):
                    self.violations.append(f"{farmer}: {wrong}\n{self.about(farmer)}\n{self.said}")

    def _wrong_end(self, farmer: Farmer) -> str:
        assert farmer.ended is not None
        in_trouble = any(True for _ in self.troubles_of(farmer))
        if os.WIFSIGNALED(farmer.status):
            if farmer.was_killed:
                was_hit = any(farmer.pid in hit.pids for hit in self.hits)
                return "" if was_hit or in_trouble else "killed, and not by us"
            early = farmer.killed_by in (signal.SIGTERM, signal.SIGUSR1) and not farmer.workers
            return "" if early and in_trouble else f"ended by signal {farmer.killed_by}"
        status = os.WEXITSTATUS(farmer.status)
        if status in (0, 1):
            return ""
        if status == 75 and in_trouble:
            is_stalled = any(stall.pids & {worker.pid for worker in farmer.workers} for stall in self.stalls)
            return "" if is_stalled else left_behind(f"{farmer.name}.")
        return f"exit {status}"

    def troubles_of(self, farmer: Farmer) -> Iterator[Trouble]:
        """What may have made Slurm end a farmer."""
        return (trouble for trouble in self.troubles if trouble.job in (farmer.job, farmer.job_name))

    def about(self, farmer: Farmer) -> str:
        """What was done to a farmer, its job and its node."""
        hits = [str(hit) for hit in self.hits if hit.job == farmer.job or hit.node == farmer.node]
        return "\n".join([*hits, *map(str, self.troubles_of(farmer))]) or "(nothing was done to it)"


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # gone in the meantime


def _kill_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(os.getpgid(pid), number)
    except ProcessLookupError:
        pass  # gone in the meantime


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _variable(pid: int, name: str) -> str | None:
    try:
        entries = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((value for entry in entries for key, _, value in [entry.partition("=")] if key == name), None)
