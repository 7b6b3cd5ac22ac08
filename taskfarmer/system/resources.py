"""How many cores this process may use: what the scheduler, the kernel and the container each say, and the smallest."""

from __future__ import annotations

import os


def machine_cores() -> int:
    """Cores of this host."""
    return os.cpu_count() or 1


def usable_cores() -> int:
    """Cores this job may use: affinity, cgroup quota and `SLURM_CPUS_ON_NODE`, whichever is least."""
    limits = [len(os.sched_getaffinity(0))]
    quota = _cgroup_quota()
    if quota is not None:
        limits.append(max(1, quota))
    slurm = os.environ.get("SLURM_CPUS_ON_NODE", "")
    if slurm.isdigit() and int(slurm) > 0:
        limits.append(int(slurm))
    return min(limits)


def _cgroup_quota() -> int | None:
    """Whole cores that the CPU bandwidth of our cgroup allows (cpu.max of v2, cpu.cfs_quota_us of v1)."""
    for line in _read("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            words = _read(f"/sys/fs/cgroup{path}/cpu.max").split()
            if len(words) == 2 and words[0].isdigit():
                return int(words[0]) // int(words[1])
        elif "cpu" in controllers.split(","):
            quota = _read(f"/sys/fs/cgroup/cpu{path}/cpu.cfs_quota_us").strip()
            period = _read(f"/sys/fs/cgroup/cpu{path}/cpu.cfs_period_us").strip()
            if quota.isdigit() and period.isdigit() and int(period):
                return int(quota) // int(period)
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
