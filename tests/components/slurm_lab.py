"""The real Slurm that slurm.sh starts, as the tests use it."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from conftest import wait_until

SCRIPT = Path(__file__).with_name("slurm.sh")
NODES = 3
#: Generous: Slurm looks at time limits every 30 s, and the machine may be slow.
PATIENCE = 180.0
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def missing() -> str | None:
    """Why there is no Slurm here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if not all(shutil.which(name, path=path) for name in ("slurmctld", "slurmd", "munged", "sbatch")):
        return "Slurm is not here: tests/components/install.sh slurm"
    return None if os.geteuid() == 0 else "only root can start Slurm and make its nodes"


class Slurm:
    """A running Slurm with the nodes n1, n2 and n3."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.without_power: list[str] = []
        unwanted = ("SLURM_", "SBATCH_", "PMI", "TASKFARMER_", "SCRATCH")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        self.env["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"

    def up(self) -> None:
        """Start it."""
        self._script("up", str(self._folder), str(NODES), str(_free_ports(1 + NODES)))

    def down(self) -> None:
        """End it and all that runs in it."""
        self._script("down", str(self._folder))

    def cut_power(self, node: str) -> None:
        """Every process of a node dies at once. `clear` gives it its power back."""
        self._script("killnode", str(self._folder), node)
        self.without_power.append(node)

    def give_power(self, node: str) -> None:
        """A node without power starts again."""
        self.without_power.remove(node)
        self._script("startnode", str(self._folder), node)

    def _script(self, *words: str) -> None:
        # Its daemons must not hold a pipe of ours open.
        subprocess.run([str(SCRIPT), *words], env=self.env, check=True, timeout=120, stdin=subprocess.DEVNULL)

    def say(self, *words: str, folder: Path | None = None) -> str:
        """Run a command of Slurm's, which must succeed; what it said."""
        done = subprocess.run(words, cwd=folder, env=self.env, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def ask(self, *words: str) -> None:
        """Ask Slurm for something that may have become impossible in the meantime."""
        subprocess.run(words, env=self.env, capture_output=True, timeout=PATIENCE)

    # Jobs

    def submit(self, folder: Path, *words: str) -> int:
        """`sbatch WORDS` in a folder; the number of the job."""
        return int(self.say("sbatch", "--parsable", *words, folder=folder))

    def about(self, job: int | str) -> dict[str, str]:
        """What `scontrol show job` says of a job, or of the last of an array."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.say("scontrol", "-o", "show", "job", str(job)).splitlines()[-1]))

    def states(self, job: int) -> list[str]:
        """The state of a job, or of each member of an array."""
        return re.findall(r"JobState=(\w+)", self.say("scontrol", "-o", "show", "job", str(job)))

    def wait(self, job: int) -> list[str]:
        """Wait until a job, all members of an array, is over; how each of them ended."""
        wait_until(lambda: all(state in OVER for state in self.states(job)), PATIENCE, f"job {job} is over")
        return self.states(job)

    def cancel_all(self) -> None:
        """End everything that runs, and start nothing more."""
        self.say("scancel", "--user=root", "--signal=KILL", "--full")
        self.say("scancel", "--user=root")

    def clear(self) -> None:
        """Cancel every job, and wait until none is left and every node is idle."""
        self.cancel_all()
        while self.without_power:
            self.give_power(self.without_power[0])
        wait_until(lambda: self.say("squeue", "-h") == "", PATIENCE, "no job is left")
        idle = ["idle"] * NODES
        wait_until(lambda: self.say("sinfo", "-h", "-N", "-o", "%t").split() == idle, PATIENCE, "all nodes are idle")


def _free_ports(count: int) -> int:
    """The first of so many ports, one after another, that nobody uses."""
    while True:
        first = random.randrange(20000, 30000)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
