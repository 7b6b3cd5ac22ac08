"""What a task sees: the environment the farmer was started in, plus a few names, minus what is the farmer's own.

A task that is an MPI program must not find the variables of the step that runs the farmer: it would join that step and
hang. Nothing else is changed.
"""

from __future__ import annotations

from typing import Mapping

from taskfarmer.model import Claim, Owner
from taskfarmer.system.process import OWNER_VARIABLE

SLOT_VARIABLE = "TASKFARMER_SLOT"

_STEP_PREFIXES = (
    b"PMI_",
    b"PMI2_",
    b"PMIX_",
    b"OMPI_",
    b"MPI_LOCAL",
    b"HYDRA_",
    b"HYDI_",
    b"SLURM_STEP_",
    b"SLURM_SRUN_",
)
_STEP_NAMES = frozenset(
    (
        b"SLURM_STEPID", b"SLURM_PROCID", b"SLURM_LOCALID", b"SLURM_NODEID", b"SLURM_TASK_PID", b"SLURM_GTIDS",
        b"SLURM_LAUNCH_NODE_IPADDR", b"SLURM_CPU_BIND", b"SLURM_CPU_BIND_LIST", b"SLURM_CPU_BIND_TYPE",
        b"SLURM_CPU_BIND_VERBOSE", b"SLURM_DISTRIBUTION",
    )
)  # fmt: skip


def task_environment(
    environ: Mapping[bytes, bytes], owner: Owner, workdir: str, slot: int, keep_mpi_env: bool
) -> dict[bytes, bytes]:
    """The environment all tasks of one slot have in common."""
    env = {name: value for name, value in environ.items() if keep_mpi_env or not _belongs_to_the_step(name)}
    env[OWNER_VARIABLE.encode()] = str(owner).encode()
    env[b"TASKFARMER_WORKDIR"] = workdir.encode("utf-8", "surrogateescape")
    env[SLOT_VARIABLE.encode()] = b"%d" % slot
    return env


def set_task(env: dict[bytes, bytes], claim: Claim) -> None:
    """Say in a slot's environment which task is run."""
    env[b"PROC_NUMBER"] = env[b"TASKFARMER_TASK_ID"] = b"%d" % claim.id
    env[b"TASKFARMER_ATTEMPT"] = b"%d" % claim.attempt


def _belongs_to_the_step(name: bytes) -> bool:
    return name.startswith(_STEP_PREFIXES) or name in _STEP_NAMES
