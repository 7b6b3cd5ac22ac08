"""Each task as a step of the farmer's own Slurm job: for MPI programs, and for tasks larger than a node.

The farmer runs once, in the batch shell; the steps share what the whole job holds. What Slurm tells the batch shell of the
job's own tasks (`SLURM_NTASKS`, `SLURM_CPUS_PER_TASK`, memory) would pass for options of each step, so it is taken away.
A step that does not say how much memory it wants takes none from the others. One that does not say how many GPUs takes
all: so it is told.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Iterator, Mapping

from taskfarmer.errors import UsageError
from taskfarmer.model import Launch, Slot, Task
from taskfarmer.runners.basic import BasicRunner
from taskfarmer.system.process import find_program, host

#: The job's own answers to the questions that a step's options answer (srun(1), INPUT ENVIRONMENT VARIABLES).
#: SLURM_EXPORT_ENV is what `sbatch --export=NONE` leaves behind: a step would have no environment at all.
_OF_THE_JOB = re.compile(
    r"SLURM_(CPUS_PER_(TASK|GPU)|NTASKS\w*|NPROCS|TASKS_PER_NODE|MEM_PER_\w+|TRES_\w+|GPUS(_\w+)?|GRES|GPU_BIND"
    r"|CPU_BIND\w*|DISTRIBUTION|EXACT|EXCLUSIVE|OVERLAP|EXPORT_ENV)"
)
#: Step ids of a batch script and of salloc's shell (slurm/slurm.h): these are no steps of srun's.
_NO_STEPS = ("4294967291", "4294967290")
_ASSIGNMENTS = re.compile(r"(?:[A-Za-z_]\w*=[A-Za-z0-9_./,:+@%-]*\s+)*")
_SRUN = re.compile(r"\$SRUN\b|\$\{SRUN\}")
#: What only a shell understands, as the beginning of a line.
_NO_PROGRAM = re.compile(
    r"[({!#]|(?:\[\[|\.|alias|case|cd|coproc|declare|eval|exec|export|for|function|if|local|module|popd|pushd|select|set"
    r"|shopt|source|time|trap|ulimit|umask|unset|until|wait|while)(?!\S)"
)
_IN_A_STEP = (
    "the farmer itself runs in a step of srun, which holds the cores that the steps of its tasks would wait for. Start it "
    "once, in the batch shell, without srun; --overlap lets steps share cores all the same"
)


class SrunRunner(BasicRunner):
    """Each command as a step of the Slurm job, with as many processes (MPI ranks) as you say: `srun` stands in front of it.

    For one farmer, started in the batch shell without srun. Each step holds cores of its own, and as many tasks run at a
    time as the whole job has room for; one that finds no room yet waits. In a line like `cd x && $SRUN prog` srun and its
    options stand where you write $SRUN.

    Options:
        `ntasks`: how many processes (MPI ranks) a command is started as
        `cpus_per_task`: how many cores each of them gets
        `nodes`: over how many nodes they are spread
        `gpus_per_task`: how many GPUs each of them gets
        `mem_per_cpu`: memory for each core, as srun understands it; without it all share what the job holds
        `mpi`: how MPI is started: pmi2, pmix, ... (see `srun --mpi=list`); without it as the cluster is set up
        `options`: more options for srun
        `overlap`: let steps share cores, so that the farmer may run in a step itself
        `setup`: lines of bash that run before srun, in the shell that starts it; one that fails fails the task
        `modules`: environment modules to load before
        `conda`: the name or folder of a conda environment
        `venv`: the folder of a virtual environment of Python
        `cwd`: the directory tasks start in
        `taskdir`: a directory for each task to start in, made when it is not there; `{id}` in it is the task's
        `shell_mode`: as for BasicRunner
    """

    def __init__(
        self,
        ntasks: int = 1,
        cpus_per_task: int = 1,
        nodes: int = 1,
        gpus_per_task: int = 0,
        mem_per_cpu: str = "",
        mpi: str = "",
        options: str = "",
        overlap: bool = False,
        setup: str = "",
        modules: list[str] | None = None,
        conda: str = "",
        venv: str = "",
        cwd: str = "",
        taskdir: str = "",
        shell_mode: str = "auto",
    ) -> None:
        super().__init__(shell_mode, setup, modules, conda, venv, "", cwd, taskdir)
        for name, value, least in (
            ("ntasks", ntasks, 1),
            ("cpus_per_task", cpus_per_task, 1),
            ("nodes", nodes, 1),
            ("gpus_per_task", gpus_per_task, 0),
        ):
            if value < least:
                raise UsageError(f"{name}: at least {least} is wanted, found {value}")
        if nodes > ntasks:
            raise UsageError(f"nodes: at most ntasks = {ntasks} is wanted, found {nodes}")
        self.ntasks = ntasks
        self.cpus_per_task = cpus_per_task
        self.nodes = nodes
        self.gpus_per_task = gpus_per_task
        self.mem_per_cpu = mem_per_cpu
        self.mpi = mpi
        self.options = options
        self.overlap = overlap

    # How it is started

    def launch(self, task: Task, slot: Slot) -> Launch:
        """srun with the command behind it, in the batch shell's environment less what is about the job's own tasks."""
        launch = super().launch(Task(task.id, self._with_srun(task.command)), slot)
        env = {**self._taken_away, **launch.env}
        fallback = launch.fallback and launch.fallback._replace(env=env)
        return launch._replace(env=env, fallback=fallback)

    def _with_srun(self, command: str) -> str:
        if _SRUN.search(command):
            return _SRUN.sub(lambda _: self._srun, command)
        assignments = _ASSIGNMENTS.match(command)
        front = assignments.group() if assignments else ""
        first = command[len(front) :]
        if _NO_PROGRAM.match(first):
            raise UsageError(
                f"srun cannot start '{first.split()[0]}', which is the shell's: write $SRUN where srun belongs"
            )
        return f"{front}{self._srun} {first}"

    @functools.cached_property
    def _srun(self) -> str:
        return " ".join(self._words(os.environ))

    def _words(self, environ: Mapping[str, str]) -> Iterator[str]:
        yield "srun"
        yield "--overlap" if self.overlap else "--exact"
        yield f"--nodes={self.nodes}"
        yield f"--ntasks={self.ntasks}"
        yield f"--cpus-per-task={self.cpus_per_task}"
        if self.gpus_per_task:
            yield f"--gpus-per-task={self.gpus_per_task}"
        elif "SLURM_GPUS_ON_NODE" in environ:
            yield "--gres=none"
        if self.mem_per_cpu:
            yield f"--mem-per-cpu={self.mem_per_cpu}"
        if self.mpi:
            yield f"--mpi={self.mpi}"
        yield "--input=none"
        yield "--kill-on-bad-exit=1"  # or the other ranks wait for the one that has died, as long as the job lasts
        yield from self.options.split()

    @functools.cached_property
    def _taken_away(self) -> dict[str, None]:
        return {name: None for name in os.environ if _OF_THE_JOB.fullmatch(name)}

    # What there is room for

    def check(self, environ: Mapping[str, str]) -> None:
        """Raise UsageError outside of a job, inside a step, and where the job is too small for one task."""
        super().check(environ)
        if "SLURM_JOB_ID" not in environ:
            raise UsageError(
                "SrunRunner: a Slurm job is wanted, found none (no SLURM_JOB_ID): use it in a script for sbatch"
            )
        if find_program("srun", environ.get("PATH", "")) is None:
            raise UsageError(f"SrunRunner: srun is wanted, found none on PATH of {host()}")
        if environ.get("SLURM_STEP_ID", _NO_STEPS[0]) not in _NO_STEPS and not self.overlap:
            raise UsageError(_IN_A_STEP)
        if self.slots(environ) == 0:
            raise UsageError(self._too_large(environ))

    def _too_large(self, environ: Mapping[str, str]) -> str:
        cores = cores_of_nodes(environ)
        gpus = f" and {self.gpus_per_task} GPUs" if self.gpus_per_task else ""
        return (
            f"a task wants {self.ntasks} x {self.cpus_per_task} cores{gpus} on {_count(self.nodes, 'node')}, and the job "
            f"has room for none: {_count(sum(cores), 'core')} on {_count(len(cores), 'node')}"
        )

    def slots(self, environ: Mapping[str, str]) -> int | None:
        """How many tasks the whole job has room for; None when it does not say what it holds."""
        cores = cores_of_nodes(environ)
        if not cores:
            return None
        ranks = -(-self.ntasks // self.nodes)  # on one node, rounded up
        shares = [of_node // (ranks * self.cpus_per_task) for of_node in cores]
        gpus = environ.get("SLURM_GPUS_ON_NODE", "")
        if self.gpus_per_task:
            most = int(gpus) // (ranks * self.gpus_per_task) if gpus.isdigit() else 0
            shares = [min(share, most) for share in shares]
        return _spread(shares, self.nodes)


def _spread(shares: list[int], nodes: int) -> int:
    """How many tasks fit, each of which takes one share from each of so many different nodes."""
    room = sum(shares) // nodes
    while sum(min(share, room) for share in shares) < room * nodes:
        room -= 1
    return room


def cores_of_nodes(environ: Mapping[str, str]) -> list[int]:
    """How many cores a job holds on each of its nodes: SLURM_JOB_CPUS_PER_NODE (`4(x2),3`, sbatch(1)); [] if unknown."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    return [int(cores) for cores, times in found for _ in range(int(times or 1))]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
