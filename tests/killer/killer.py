"""Carries out a plan against N farmers, starts them again when they end or die, and keeps a log of what it hit."""

from __future__ import annotations

import ctypes
import os
import random
import select
import signal
import struct
import time
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import taskfarmer

from .attacks import Aim, Attack, Deed, Step, Target
from .farmers import STOPS, Program, Sight, is_stopped, marked, now, processes
from .tasks import SCRIPT, lines

_PATIENCE_WITH_AN_AIM = 3.0
#: A farmer that takes longer than this to come to its end, unhindered, hangs.
HANG = 180.0


class Hit(NamedTuple):
    """One attack as it happened. `pids`: all that got the signal; `victim` is the farmer's pid that they belong to."""

    time: float
    step: int
    attack: Attack
    victim: int
    pids: list[int]
    what: str  # "farmer", "worker", or the verb that was hit
    sight: Sight
    tasks: int  # how many workers among them had a running task

    def __str__(self) -> str:
        sight = f"{'starting up, ' if self.sight.starting else ''}{self.sight.claims} claims"
        sight += f", in an exchange ({self.sight.exchange})" if self.sight.exchange else ""
        return (
            f"{self.time:.2f} {self.step}: {self.attack.signal.name} to {self.attack.target.value}, "
            f"{self.attack.aim.value}: {self.what} {self.victim} ({sight}, {self.tasks} tasks running) {self.pids}"
        )


class Terms(NamedTuple):
    """What kind of farm a round has."""

    farmers: int = 3
    brisk: bool = False  # many tasks that take no time
    soft: bool = False  # --lock soft

    def __str__(self) -> str:
        return f"{self.farmers} farmers, {'brisk' if self.brisk else 'mixed'} tasks{', --lock soft' * self.soft}"


class Violation(Exception):
    """A promise is broken; the text is the evidence."""


class Killer:
    """One round: a new farm, a plan, the quiet end. What it found wrong on the way is in `violations`."""

    def __init__(self, folder: Path, rng: random.Random, terms: Terms, program_path: Path | None = None) -> None:
        self.folder = folder.resolve()
        self.workdir = self.folder / "tasks.txt_workdir"
        self.hits: list[Hit] = []
        self.requeues: list[tuple[float, float]] = []
        self.hand_edits: list[float] = []
        self.violations: list[str] = []
        self.programs: list[Program] = []
        self.commands: list[str] = []
        self._sizes: list[int] = []  # how many lines the list has had
        self._terms = terms
        self._rng = rng
        self._program_path = program_path or Path(taskfarmer.__file__).parents[1]
        self._farmers: list[Program | None] = [None] * terms.farmers
        self._verbs: list[Program] = []
        self._stalled: list[tuple[float, Callable[[], None]]] = []
        self._step = 0
        self._quiet = False
        for name in ("locks", "said"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "task.sh").write_text(SCRIPT)
        (self.folder / "effects").touch()
        self.workdir.mkdir()  # so that it can be watched from the first moment on
        self._watch = Watch(self.workdir, self.folder / "effects")
        self._grow(60)

    # The round

    def run(self, steps: list[Step]) -> None:
        """Attack, then let the farm come to its end."""
        self._keep_going()
        for self._step, step in enumerate(steps):
            if self.violations:
                raise Violation(f"after step {self._step}")
            if isinstance(step, Attack):
                self._pass(step.wait)
                self._attack(step)
            else:
                self._do(step)
        self._come_to_the_end()

    def _come_to_the_end(self) -> None:
        self._resume(at_once=True)
        self._quiet = True
        patience = now() + HANG
        while self._running():
            self._keep_going()
            self._check_patience(patience)
            time.sleep(0.02)
        for _ in range(3):
            last = self._start(["-n", "4", "tasks.txt"])
            while last.status() is None:
                self._check_patience(patience)
                time.sleep(0.02)
            self._judge(last)
            if last.status() in (0, 1):
                return
        self.violations.append(f"{last.pid}: unhindered and alone it ends with {last.status()}:\n{last.said}")

    def _check_patience(self, patience: float) -> None:
        if now() > patience:
            hanging = self._running()
            for program in hanging:
                os.kill(program.pid, signal.SIGABRT)
                program.process.wait()
            raise Violation("hanging:\n" + "\n".join(f"{p.pid} {p.words}\n{p.said}" for p in hanging))

    def clear_away(self) -> None:
        """End everything that still belongs to this farm."""
        self._watch.close()
        for _ in range(3):
            for program in self.programs:
                _signal([*program.workers(), *([program.pid] if program.status() is None else [])], signal.SIGKILL)
            _signal(list(marked(f"TASKFARMER_WORKDIR={self.workdir}")), signal.SIGKILL)
            time.sleep(0.02)
        for program in self.programs:
            program.process.wait()

    # Farmers

    def _start(self, words: list[str]) -> Program:
        program = Program(self.folder, len(self.programs), words, self._program_path)
        self.programs.append(program)
        return program

    def _start_farmer(self, place: int) -> Program:
        lock = ["--lock", "soft"] if self._terms.soft else []
        program = self._start(["-n", "2", "--grace", "0.5", *lock, "tasks.txt"])
        self._farmers[place] = program
        return program

    def _running(self) -> list[Program]:
        alive = [farmer for farmer in self._farmers if farmer is not None and farmer.status() is None]
        return alive + [verb for verb in self._verbs if verb.status() is None]

    def _keep_going(self) -> None:
        """Start again who ended or died, resume who was stalled long enough, look at how everybody ended."""
        self._resume()
        for place, farmer in enumerate(self._farmers):
            if farmer is not None and farmer.status() is not None:
                self._farmers[place] = None
                self._judge(farmer)
                if farmer.status() in (0, 1) and not self._quiet:
                    self._grow(self._rng.randrange(10, 40))
            if self._farmers[place] is None and not self._quiet:
                self._start_farmer(place)
        for verb in [verb for verb in self._verbs if verb.status() is not None]:
            self._verbs.remove(verb)
            self._judge(verb)

    def _pass(self, seconds: float) -> None:
        until = now() + seconds
        self._keep_going()
        while (left := until - now()) > 0:
            time.sleep(min(left, 0.02))
            self._keep_going()

    def _resume(self, at_once: bool = False) -> None:
        for item in list(self._stalled):
            if at_once or item[0] <= now():
                self._stalled.remove(item)
                item[1]()

    # Attacks

    def _attack(self, attack: Attack) -> None:
        victim = self._aim(attack)
        if victim is None:
            victim = self._any(attack.who)
        if attack.delay and attack.aim is not Aim.START_UP:
            wait_precisely(attack.delay)
        if isinstance(victim, int):
            program = self._program_of(victim)
            if program is None:
                return
            if attack.target is Target.WORKER:
                self._strike(attack, program, [victim], "worker")
                return
            victim = program
        if attack.target is Target.EVERYTHING:
            for program in [p for p in self.programs if p.status() is None or p.workers()]:
                self._strike(attack, program, _group(program), "farmer")
        elif attack.target is Target.WORKER:
            workers = self._all_workers()
            if workers:
                worker, program = workers[attack.who % len(workers)]
                self._strike(attack, program, [worker], "worker")
        elif attack.target is Target.GROUP:
            self._strike(attack, victim, _group(victim), "farmer")
        elif victim.status() is None:
            self._strike(attack, victim, [victim.pid], "farmer")

    def _aim(self, attack: Attack) -> Program | int | None:
        """Wait for the moment; who is to be hit: a program, or the pid of a worker."""
        if attack.aim is Aim.EXCHANGE:
            return self._next_in_an_exchange()
        if attack.aim is Aim.START_UP:
            program = self._fresh(attack)
            wait_precisely(attack.delay)
            return program
        if attack.aim is Aim.OPENING:
            return self._next_in_an_exchange(self._fresh(attack), attack.who % 4)
        if attack.aim is Aim.TASK_START:
            return self._next_task("start")
        if attack.aim is Aim.TASK_END:
            return self._next_task("ok", "fail")
        return None

    def _fresh(self, attack: Attack) -> Program:
        """A farmer that is started now, in the place of one that is killed for it."""
        place = attack.who % len(self._farmers)
        farmer = self._farmers[place]
        if farmer is not None:
            if farmer.status() is None:
                strike = attack._replace(aim=Aim.RANDOM, target=Target.GROUP, signal=signal.SIGKILL)
                self._strike(strike, farmer, _group(farmer), "farmer")
                farmer.process.wait()
            self._keep_going()
            fresh = self._farmers[place]
            if fresh is not None and fresh.begun > now() - 0.005:
                return fresh
        return self._farmers[place] or self._start_farmer(place)

    def _any(self, who: int) -> Program:
        alive = [farmer for farmer in self._farmers if farmer is not None]
        return alive[who % len(alive)]

    def _next_in_an_exchange(self, wanted: Program | None = None, times: int = 0) -> Program | None:
        """Who next has the journal; or the moment at which a certain one has it for the n-th time."""
        patience = now() + _PATIENCE_WITH_AN_AIM
        self._watch.forget()
        while now() < patience and (wanted is None or wanted.status() is None):
            if not any(name == "journal" for name in self._watch.wait(0.05)):
                self._resume()
                continue
            author = self._author()
            if author is not None and (wanted is None or author is wanted):
                if times == 0:
                    return author
                times -= 1
        return wanted

    def _author(self) -> Program | None:
        """Who has the journal that has just been made: its first line says so, a moment later."""
        for _ in range(20):
            try:
                title = (self.workdir / "journal").read_bytes().partition(b"\n")[0].decode(errors="replace")
            except FileNotFoundError:
                return None
            owner = title.rpartition(" ")[2].rsplit(".", 3)
            if len(owner) == 4 and owner[1].isdigit():
                return next((p for p in self._running() if p.pid == int(owner[1])), None)
        return None

    def _next_task(self, *events: str) -> int | None:
        """The worker of the next task that starts, or ends."""
        path = self.folder / "effects"
        size = path.stat().st_size
        patience = now() + _PATIENCE_WITH_AN_AIM
        while now() < patience:
            self._watch.wait(0.05)
            self._resume()
            with path.open("rb") as file:
                file.seek(size)
                for line in file.read().decode().splitlines():
                    words = line.split()
                    if len(words) == 7 and words[2] in events:
                        return int(words[4])
        return None

    def _program_of(self, worker: int) -> Program | None:
        about = processes().get(worker)
        return next((p for p in self.programs if about and p.pid == about.group), None)

    def _all_workers(self) -> list[tuple[int, Program]]:
        of_group = {program.pid: program for program in self.programs}
        return [
            (pid, of_group[about.group])
            for pid, about in sorted(processes().items())
            if about.group in of_group and pid != about.group
        ]

    def _strike(self, attack: Attack, program: Program, pids: list[int], what: str) -> None:
        if program in self._verbs:
            what = program.words[0]
            if attack.signal in STOPS:
                return  # a verb is a short program that has no use for them
        if attack.signal is signal.SIGKILL and attack.look:
            self._signal(attack, program, pids, signal.SIGSTOP)
            patience = now() + 0.05
            while not all(map(is_stopped, pids)) and now() < patience:
                pass
        sight = program.sight()
        tasks = _with_tasks(pids) if attack.look else 0
        self._signal(attack, program, pids, attack.signal)
        program.signals.append(attack.signal)
        self.hits.append(Hit(now(), self._step, attack, program.pid, pids, what, sight, tasks))
        if attack.signal is signal.SIGSTOP:
            program.stalled_workers |= pids != [program.pid]
            resume = partial(self._signal, attack, program, pids, signal.SIGCONT)
            self._stalled.append((now() + attack.pause, resume))

    def _signal(self, attack: Attack, program: Program, pids: list[int], number: signal.Signals) -> None:
        if attack.target in (Target.GROUP, Target.EVERYTHING):
            try:
                os.killpg(program.pid, number)  # at one instant: nobody can be forked meanwhile
            except ProcessLookupError:
                pass  # gone in the meantime
        else:
            _signal(pids, number)

    # Other deeds

    def _do(self, deed: Deed) -> None:
        if deed is Deed.GROW:
            self._grow(self._rng.randrange(1, 20))
        elif not (self.workdir / "farm.json").exists() or not (self.workdir / "farm.json").read_bytes():
            return  # nothing was loaded yet: there is nothing to ask
        elif deed is Deed.STATUS:
            self._verbs.append(self._start(["status", "--json", "tasks.txt"]))
        elif deed is Deed.RETRY:
            self._verbs.append(self._start(["retry", "--json", "tasks.txt"]))
        else:
            self._edit_by_hand()

    def _grow(self, count: int) -> None:
        new = lines(self._rng, count * 10 if self._terms.brisk else count, self._terms.brisk)
        with (self.folder / "tasks.txt").open("a") as file:
            file.write("".join(f"{line}\n" for line in new))
        self.commands += new
        self._sizes.append(len(self.commands))

    def _edit_by_hand(self) -> None:
        """The ancestor's way of trying again, allowed when no farmer is alive and nothing is half done."""
        self._resume(at_once=True)
        while self._running() or self._all_workers():
            for program in self.programs:
                if pids := _group(program):
                    attack = Attack(Aim.RANDOM, Target.EVERYTHING, signal.SIGKILL, 0, 0, 0, 0, False)
                    self._strike(attack, program, pids, "farmer")
            for program in self.programs:
                program.status()
        for place, farmer in enumerate(self._farmers):
            if farmer is not None:
                self._judge(farmer)
                self._farmers[place] = None
        look = self._start(["status", "tasks.txt"])  # does what a dead one's journal says
        if look.process.wait(HANG) not in (0, 1, 75):
            self.violations.append(f"status: exit {look.process.returncode}\n{look.said}")
        failed = self.workdir / "failed"
        with (self.workdir / "toprocess").open("ab") as file:
            file.write(failed.read_bytes())
        failed.unlink()
        self.hand_edits.append(now())

    # How programs end

    def _judge(self, program: Program) -> None:
        """Look at an exit status and at what was said."""
        status = program.status()
        assert status is not None and program.ended is not None
        wrong = self._wrong_status(program, status)
        said = program.said
        if "Traceback" in said and not (signal.SIGINT in program.signals and "KeyboardInterrupt" in said):
            wrong = wrong or "a traceback"
        if program.words[0] == "retry":
            self.requeues.append((program.begun, program.ended))
        if status == 75 and program.words[0] == "-n" and not program.stalled_workers:
            wrong = wrong or left_behind(f"{os.uname().nodename}.{program.pid}.")
        if status in (0, 1) and program.words[0] == "-n":
            wrong = wrong or self._left_to_the_dead(program.ended)
        if wrong:
            names = [number.name for number in program.signals]
            self.violations.append(f"{program.words} (pid {program.pid}): {wrong}; signals {names}; it said:\n{said}")

    def _wrong_status(self, program: Program, status: int) -> str:
        if status == -signal.SIGKILL:
            return "" if signal.SIGKILL in program.signals else "killed, and not by us"
        if program.words[0] == "retry":
            return "" if status == 0 else f"exit {status}"
        if program.words[0] == "status":
            return program.wrong_counts(self._sizes)
        stopped = [number for number in program.signals if number in STOPS]
        if status in (0, 1) or (status == 75 and stopped):
            return ""
        early = not program.said or "KeyboardInterrupt" in program.said
        if early and (status in [-number for number in stopped] or (status == 130 and signal.SIGINT in stopped)):
            return ""  # Python itself was not up yet
        return f"exit {status}"

    def _left_to_the_dead(self, when: float) -> str:
        """Who ends well has taken over those that were dead by then, workers and all."""
        dead = {
            hit.victim
            for hit in self.hits
            if hit.attack.signal is signal.SIGKILL
            and hit.attack.target in (Target.GROUP, Target.EVERYTHING)
            and hit.time < when - 3.0
        }
        held = [path.parent.name for path in (self.workdir / "running").glob("*/claims") if path.stat().st_size]
        left = [name for name in held if int(name.rsplit(".", 3)[1]) in dead]
        return f"ended well, and left tasks to the dead: {left}" if left else ""


def left_behind(owner: str) -> str:
    """What still runs of the tasks of a farmer that has stopped, "" if nothing; `owner`: how its name begins."""
    mark = f"TASKFARMER_OWNER={owner}"
    left = marked(mark)
    if left:
        time.sleep(0.3)
        left = {pid: command for pid, command in marked(mark).items() if pid in left}
    return f"stopped, and left running: {left}" if left else ""


def _group(program: Program) -> list[int]:
    """A farmer, if it lives, and its workers."""
    return [*([program.pid] if program.status() is None else []), *program.workers()]


def _with_tasks(pids: list[int]) -> int:
    parents = {about.parent for about in processes().values()}
    return sum(pid in parents for pid in pids)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # gone in the meantime


def wait_precisely(seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if left > 0.002:
            time.sleep(left - 0.001)


class Watch:
    """inotify(7): what is created in the workdir, and that something was written to the side effects."""

    _CREATE, _MODIFY = 0x100, 0x2

    def __init__(self, workdir: Path, effects: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path, mask in ((workdir, self._CREATE), (effects, self._MODIFY)):
            if libc.inotify_add_watch(self._fd, os.fsencode(path), mask) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path))

    def wait(self, seconds: float) -> list[str]:
        """Names created, "" for a change of the side effects; at most `seconds`."""
        select.select([self._fd], [], [], seconds)
        return list(self._read())

    def forget(self) -> None:
        """What has happened so far is of no interest."""
        while list(self._read()):
            pass

    def _read(self) -> Iterator[str]:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        while data:
            _, _, _, length = struct.unpack_from("iIII", data)
            yield data[16 : 16 + length].rstrip(b"\0").decode()
            data = data[16 + length :]

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)
