"""Strikes: what is done to a farmer, its workers, its job or its node; and what undoes it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Sequence

from slurm_lab import NODES, Slurm

from ..farm import Farm, Violation
from ..lasting import Lasting
from ..moments import now
from ..processes import processes, send, send_group, wait_until_stopped
from ..sight import Sight, sight_of
from .attacks import Attack, Blow
from .log import Log
from .witness import Farmer, Process, Witness


class Strikes:
    """What is done for a while only gets into `lasting`."""

    def __init__(self, farm: Farm, slurm: Slurm, witness: Witness, log: Log, lasting: Lasting) -> None:
        self._farm = farm
        self._slurm = slurm
        self._witness = witness
        self._log = log
        self._lasting = lasting

    def strike(self, attack: Attack, farmer: Farmer, worker: Process | None) -> None:
        """Hit this farmer, or this worker of its, as the attack says: if it is still there."""
        if attack.blow is Blow.POWER:
            self._cut_power(attack, farmer)
            return
        self._lasting.undo_of(farmer.job)  # killing what is suspended would leave its tasks suspended
        if attack.blow is Blow.FARMER:
            self._kill(attack, farmer, [farmer])
        elif attack.blow is Blow.WORKER:
            if workers := farmer.alive():
                self._kill(attack, farmer, [worker if worker in workers else workers[attack.who % len(workers)]])
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

    def _sight(self, farmer: Farmer) -> Sight:
        """Stop it, so that what it was doing is certain."""
        send([farmer.pid], signal.SIGSTOP)
        wait_until_stopped([farmer.pid])
        folders = list((self._farm.workdir / "running").glob(f"{farmer.name}.*"))
        return sight_of(farmer.pid, self._farm.workdir, folders, starting=not folders)

    # Nodes

    def _cut_power(self, attack: Attack, farmer: Farmer) -> None:
        node = farmer.node
        if len(self._slurm.without_power) == NODES - 1:
            self._lasting.undo_all()  # somebody must be there to take over
        sight = self._sight(farmer)
        there = [other for other in self._witness.alive() if other.node == node]
        self._log.hit(attack, farmer, [process.pid for other in there for process in (other, *other.alive())], sight)
        self._note_loss_of(node)
        self._slurm.cut_power(node)
        if attack.told:
            self._slurm.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=no power")
        self._lasting.add(attack.pause, lambda: self._give_power(node, attack.told))
        self._wait_until_dead(node)
        self._note_loss_of(node)  # of those, too, that were started in that instant

    def _note_loss_of(self, node: str) -> None:
        for job in {farmer.job for farmer in self._witness.farmers if farmer.node == node}:
            self._log.trouble(job, f"{node} lost its power")

    def _wait_until_dead(self, node: str) -> None:
        patience = now() + 5.0
        while left := [farmer for farmer in self._witness.alive() if farmer.node == node]:
            if now() > patience:
                raise Violation(f"without power, and alive: {left[0]}")
            time.sleep(0.005)

    def _give_power(self, node: str, told: bool) -> None:
        self._slurm.give_power(node)
        if told:
            self._slurm.ask("scontrol", "update", f"nodename={node}", "state=resume")

    # Processes

    def _kill(self, attack: Attack, farmer: Farmer, victims: Sequence[Process]) -> None:
        sight = self._sight(farmer)
        pids = [victim.pid for victim in victims]
        self._log.hit(attack, farmer, pids, sight)
        if attack.blow is Blow.GROUP:
            _send_with_workers(farmer, signal.SIGKILL)
        else:
            send(pids, signal.SIGKILL)
        if farmer in victims:
            self._log.trouble(farmer.job, f"{farmer.name} was killed")
        else:
            send([farmer.pid], signal.SIGCONT)

    def _kill_stepd(self, attack: Attack, farmer: Farmer) -> None:
        about = processes().get(farmer.pid)
        if about is None or Path(f"/proc/{about.parent}/comm").read_text().strip() != "slurmstepd":
            return  # killed before
        self._log.hit(attack, farmer, [about.parent], self._sight(farmer))
        send([farmer.pid], signal.SIGCONT)
        self._log.trouble(farmer.job, "its slurmstepd was killed")
        send([about.parent], signal.SIGKILL)

    def _stall(self, attack: Attack, farmer: Farmer) -> None:
        begin = now()
        pids = [process.pid for process in (farmer, *farmer.alive())]
        self._log.hit(attack, farmer, pids, self._sight(farmer))
        _send_with_workers(farmer, signal.SIGSTOP)

        def go_on() -> None:
            _send_with_workers(farmer, signal.SIGCONT)
            self._log.stalled(begin, pids)

        self._lasting.add(attack.pause, go_on)

    # Jobs

    def _scancel(self, attack: Attack, farmer: Farmer) -> None:
        sight = self._sight(farmer)
        send([farmer.pid], signal.SIGCONT)
        self._log.hit(attack, farmer, [], sight)
        self._log.trouble(farmer.job, attack.blow.value)
        to = ["--full"] if farmer.is_batch and attack.blow is not Blow.CANCEL else []
        self._slurm.ask(*attack.blow.value.split(), *to, farmer.job_name)

    def _suspend(self, attack: Attack, farmer: Farmer) -> None:
        begin = now()
        self._log.hit(attack, farmer, [], self._sight(farmer))
        send([farmer.pid], signal.SIGCONT)
        self._slurm.ask("scontrol", "suspend", farmer.job_name)

        def resume() -> None:
            self._slurm.ask("scontrol", "resume", farmer.job_name)
            self._log.stalled(begin, job=farmer.job)

        self._lasting.add(attack.pause, resume, farmer.job)


def _send_with_workers(farmer: Farmer, number: signal.Signals) -> None:
    try:
        send_group(os.getpgid(farmer.pid), number)
    except ProcessLookupError:
        pass  # gone in the meantime
