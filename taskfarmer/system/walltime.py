"""How much time the batch job has left: what the batch system says, asked once.

Slurm puts the end of the job into the environment since 23.02. Before that `squeue` knows it; it is asked in the background
and with a limit, for a controller may be slow or away, and nothing depends on it but what is started near the end. It is
asked, too, when the environment says that the job is over already: it was given more time since, or was suspended.
OpenPBS and Torque tell the length of the whole job; it is counted from now, so what the job has done before is not seen.

Times are seconds.
"""

from __future__ import annotations

import os
import re
import signal
import time
from typing import IO, TYPE_CHECKING, Mapping, NamedTuple

from taskfarmer.system import job

if TYPE_CHECKING:
    from subprocess import Popen

_PATIENCE = 10.0
_SLURM_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_NO_LIMIT = ("UNLIMITED", "NOT_SET")
#: What squeue says of a time below nothing, and of one above a year.
_INVALID, _YEAR = "INVALID", 365 * 86400.0
_MOST_SAID = 65536  # what a pipe holds


class Walltime(NamedTuple):
    """What is left of the job, and how long it is as a whole; None when there is no limit that we know.

    `trouble` says why we do not know it.
    """

    left: float | None = None
    whole: float | None = None
    trouble: str = ""


class Asked:
    """The time of the batch job we are in. What is asked of `squeue` is answered while we do something else."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._answer = _told(environ)
        self._squeue: Popen[bytes] | None = None
        if self._answer is None:
            self._ask_squeue(job.slurm_name(environ), job.for_slurms_programs(environ))

    def answer(self) -> Walltime | None:
        """What the batch system says; None while it has not answered. Never waits."""
        if self._squeue is not None and self._squeue.poll() is not None:
            self._answer = _read(self._squeue)
            self._squeue = None
        elif self._squeue is not None and time.monotonic() > self._give_up_at:
            self._answer = Walltime(trouble=f"squeue has not answered within {_PATIENCE:g} s")
            self.close()
        return self._answer

    def close(self) -> None:
        """Do not wait for an answer any more."""
        squeue, self._squeue = self._squeue, None
        if squeue is not None:
            import subprocess

            os.killpg(squeue.pid, signal.SIGKILL)  # a site's squeue may be a script
            try:
                squeue.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                pass  # its disk hangs: it is gone when that does not any more
            _close(squeue)

    def _ask_squeue(self, name: str, environ: dict[str, str]) -> None:
        import subprocess  # here only: a thousand nodes start us at once

        self._give_up_at = time.monotonic() + _PATIENCE
        try:
            self._squeue = subprocess.Popen(
                ["squeue", "-h", "-j", name, "-o", "%L %l"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, env=environ,
            )  # fmt: skip
        except OSError as error:
            self._answer = Walltime(trouble=f"squeue: {error.strerror}")


def _told(environ: Mapping[str, str]) -> Walltime | None:
    """What needs no question; None if `squeue` must be asked."""
    end, start = (_number(environ.get(name, "")) for name in ("SLURM_JOB_END_TIME", "SLURM_JOB_START_TIME"))
    if end is not None and (left := end - time.time()) > 0:
        return Walltime(left, None if start is None or start > end else end - start)
    return None if "SLURM_JOB_ID" in environ else _told_by_pbs(environ.get("PBS_WALLTIME", ""))


def _told_by_pbs(text: str) -> Walltime:
    """The length of the whole job, in seconds or as `1:02:03`."""
    whole = _number(text)
    if whole is None:
        whole = slurm_time(text)
    return Walltime(whole, whole, f"PBS_WALLTIME is {text!r}" if text and whole is None else "")


def _read(squeue: Popen[bytes]) -> Walltime:
    """What it said before it ended."""
    said, complained = _text_in(squeue.stdout), _text_in(squeue.stderr)
    _close(squeue)
    if squeue.returncode:
        return Walltime(trouble=f"squeue ended with {squeue.returncode}: {complained.strip().partition(chr(10))[0]}")
    words = said.split()
    if len(words) == 2:
        left, whole = slurm_time(words[0]), slurm_time(words[1])
        if left is not None or words[0] in _NO_LIMIT:
            return Walltime(left, whole)
        if words[0] == _INVALID:
            return Walltime() if whole is None or whole > _YEAR else Walltime(0.0, whole)
    return Walltime(trouble=f"squeue said {' '.join(words)[:200]!r}")


def _text_in(pipe: IO[bytes] | None) -> str:
    """What is in a pipe. Its end is not waited for: what a site's squeue has left running may hold it open."""
    assert pipe is not None
    os.set_blocking(pipe.fileno(), False)
    try:
        return os.read(pipe.fileno(), _MOST_SAID).decode("utf-8", "replace")
    except BlockingIOError:
        return ""


def _close(squeue: Popen[bytes]) -> None:
    for pipe in (squeue.stdout, squeue.stderr):
        assert pipe is not None
        pipe.close()


def slurm_time(text: str) -> float | None:
    """Seconds, from Slurm's `2:00`, `1:02:03` or `1-02:03:04`; None from anything else."""
    match = _SLURM_TIME.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24.0 + hours) * 60 + minutes) * 60 + seconds


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None
