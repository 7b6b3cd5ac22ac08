"""Carries attacks out against the farmers of one host: waits for the moment, strikes, writes down what was hit."""

from __future__ import annotations

import signal
from functools import partial
from typing import Callable

from .attacks import Aim, Attack, Target
from .crew import Crew
from .farm import Farm
from .hit import Hit
from .lasting import Lasting
from .moments import Moments, now, wait_precisely
from .processes import processes, send, send_group, wait_until_stopped
from .programs import STOPS, Program

_PATIENCE_WITH_AN_AIM = 3.0


class Strikes:
    """Who is hit gets into `hits`, who is stalled into `stalled`. `keep_going`: what is to be done all the time."""

    def __init__(
        self, farm: Farm, crew: Crew, hits: list[Hit], stalled: Lasting, keep_going: Callable[[], None]
    ) -> None:
        self.step = 0
        self._farm = farm
        self._crew = crew
        self._hits = hits
        self._stalled = stalled
        self._keep_going = keep_going
        self._moments = Moments(farm.workdir, farm.effects)

    def close(self) -> None:
        """No more attacks."""
        self._moments.close()

    def carry_out(self, attack: Attack) -> None:
        """One attack, if there is anybody whom it can hit."""
        victim = self._aim(attack) or self._any(attack.who)
        if attack.delay and attack.aim is not Aim.START_UP:
            wait_precisely(attack.delay)
        if isinstance(victim, int):
            self._hit_at_work(attack, victim)
        else:
            self._hit(attack, victim)

    def _hit_at_work(self, attack: Attack, worker: int) -> None:
        """The worker of a certain task, or all of its farmer."""
        farmer = self._farmer_of(worker)
        if farmer is None:
            return  # gone in the meantime
        if attack.target is Target.WORKER:
            self._strike(attack, farmer, [worker], "worker")
        else:
            self._hit(attack, farmer)

    def _hit(self, attack: Attack, victim: Program) -> None:
        if attack.target is Target.EVERYTHING:
            self.hit_everything(attack)
        elif attack.target is Target.WORKER:
            if workers := self._crew.workers():
                worker, farmer = workers[attack.who % len(workers)]
                self._strike(attack, farmer, [worker], "worker")
        elif attack.target is Target.GROUP:
            self._strike(attack, victim, _group(victim), "farmer")
        elif victim.status() is None:
            self._strike(attack, victim, [victim.pid], "farmer")

    def hit_everything(self, attack: Attack) -> None:
        """Everything that lives of this farm."""
        for program in [program for program in self._farm.programs if _group(program)]:
            self._strike(attack, program, _group(program), "farmer")

    # Who, and when

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

    def _any(self, who: int) -> Program:
        farmers = [farmer for farmer in self._crew.places if farmer is not None]
        return farmers[who % len(farmers)]

    def _fresh(self, attack: Attack) -> Program:
        """A farmer that is started now, in the place of one that is killed for it."""
        place = attack.who % len(self._crew.places)
        farmer = self._crew.places[place]
        if farmer is not None:
            if farmer.status() is None:
                strike = attack._replace(aim=Aim.RANDOM, target=Target.GROUP, signal=signal.SIGKILL)
                self._strike(strike, farmer, _group(farmer), "farmer")
                farmer.process.wait()
            self._keep_going()
            fresh = self._crew.places[place]
            if fresh is not None and fresh.begun > now() - 0.005:
                return fresh
        return self._crew.places[place] or self._crew.start(place)

    def _next_in_an_exchange(self, wanted: Program | None = None, times: int = 0) -> Program | None:
        """Who next has the journal; or the moment at which a certain one has it for the n-th time."""
        for writer in self._moments.exchanges(_PATIENCE_WITH_AN_AIM):
            author = writer and self._running(writer.pid)
            if author and author is (wanted or author):
                if times == 0:
                    return author
                times -= 1
            if wanted and wanted.status() is not None:
                break
            if writer is None:
                self._stalled.undo_due()
        return wanted

    def _running(self, pid: int) -> Program | None:
        return next((p for p in [*self._crew.alive(), *self._farm.verbs] if p.pid == pid and p.status() is None), None)

    def _next_task(self, *events: str) -> int | None:
        """The worker of the next task that starts, or ends."""
        for worker in self._moments.tasks(_PATIENCE_WITH_AN_AIM, *events):
            if worker:
                return worker.pid
            self._stalled.undo_due()
        return None

    def _farmer_of(self, worker: int) -> Program | None:
        about = processes().get(worker)
        return next((p for p in self._farm.programs if about and p.pid == about.group), None)

    # The stroke

    def _strike(self, attack: Attack, program: Program, pids: list[int], what: str) -> None:
        if program in self._farm.verbs:
            what = program.words[0]
            if attack.signal in STOPS:
                return  # a verb is a short program that has no use for them
        if attack.signal is signal.SIGKILL and attack.look:
            self._signal(attack, program, pids, signal.SIGSTOP)
            wait_until_stopped(pids)
        sight = program.sight()
        tasks = _with_tasks(pids) if attack.look else 0
        self._signal(attack, program, pids, attack.signal)
        program.signals.append(attack.signal)
        self._hits.append(Hit(now(), self.step, attack, program.pid, pids, what, sight, tasks))
        if attack.signal is signal.SIGSTOP:
            program.stalled_workers |= pids != [program.pid]
            self._stalled.add(attack.pause, partial(self._signal, attack, program, pids, signal.SIGCONT))

    def _signal(self, attack: Attack, program: Program, pids: list[int], number: signal.Signals) -> None:
        if attack.target in (Target.GROUP, Target.EVERYTHING):
            send_group(program.pid, number)
        else:
            send(pids, number)


def _group(program: Program) -> list[int]:
    """A farmer, if it lives, and its workers."""
    return [*([program.pid] if program.status() is None else []), *program.workers()]


def _with_tasks(pids: list[int]) -> int:
    parents = {about.parent for about in processes().values()}
    return sum(pid in parents for pid in pids)
