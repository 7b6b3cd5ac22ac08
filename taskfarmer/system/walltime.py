"""How much time the batch job has left: what the batch system says, asked once.

Slurm puts the end of the job into the environment since 23.02. Before that `squeue` knows it; it is asked with a limit, for
a controller may be slow or away, and nothing depends on it but what is started near the end. OpenPBS and Torque tell the
length of the whole job; it is counted from now, so what the job has done before is not seen.

Times are seconds.
"""

import re
import time
from typing import Mapping, NamedTuple

_PATIENCE = 10.0
_SLURM_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_NO_LIMIT = ("UNLIMITED", "NOT_SET", "INVALID")


class Walltime(NamedTuple):
    """What is left of the job, and how long it is as a whole; None when there is no limit that we know.

    `trouble` says why we do not know it.
    """

    left: float | None = None
    whole: float | None = None
    trouble: str = ""


def ask(environ: Mapping[str, str]) -> Walltime:
    """The time of the batch job we are in."""
    end, start = (_number(environ.get(name, "")) for name in ("SLURM_JOB_END_TIME", "SLURM_JOB_START_TIME"))
    if end is not None:
        left = max(0.0, end - time.time())
        return Walltime(left, left if start is None else end - start)
    if "SLURM_JOB_ID" in environ:
        return _ask_squeue(environ["SLURM_JOB_ID"])
    whole = _number(environ.get("PBS_WALLTIME", ""))
    return Walltime(whole, whole)


def _ask_squeue(job: str) -> Walltime:
    import subprocess  # here only: a thousand nodes start us at once

    try:
        done = subprocess.run(
            ["squeue", "-h", "-j", job, "-o", "%L %l"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Walltime(trouble=f"squeue has not answered within {_PATIENCE:g} s")
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        return Walltime(trouble=f"squeue ended with {error.returncode}: {said}")
    except OSError as error:
        return Walltime(trouble=f"squeue: {error.strerror}")
    words = done.stdout.decode("utf-8", "replace").split()
    if len(words) != 2 or (slurm_time(words[0]) is None and words[0] not in _NO_LIMIT):
        return Walltime(trouble=f"squeue said {' '.join(words)!r}")
    return Walltime(slurm_time(words[0]), slurm_time(words[1]))


def slurm_time(text: str) -> float | None:
    """Seconds, from Slurm's `2:00`, `1:02:03` or `1-02:03:04`; None from anything else."""
    match = _SLURM_TIME.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24.0 + hours) * 60 + minutes) * 60 + seconds


def _number(text: str) -> float | None:
    return float(text) if text.isdigit() else None
