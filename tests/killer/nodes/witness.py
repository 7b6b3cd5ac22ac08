"""Who was started on the nodes, and how each of them ended, as the kernel tells it (its process events connector).

Slurm ends processes, too, when a job is cancelled or has lost a node, and does not say which and when. The kernel does:
every program that is executed, every process that takes a name, and every end with its status, in order and with its time.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from pathlib import Path
from threading import Thread
from typing import Iterator

# linux/netlink.h, connector.h, cn_proc.h
_CONNECTOR = 11
_DONE, _PROC, _LISTEN = 3, 1, 1
_FORK, _EXEC, _COMM, _EXIT = 1, 2, 0x200, 0x80000000
_MESSAGE = struct.Struct("=IHHII IIIIHH")
_EVENT = struct.Struct("=IIQ")
_SO_RCVBUFFORCE = 33


class Process:
    """A farmer, or a worker. `pid` is the outer one, `inner` that of its node; times are seconds of uptime."""

    def __init__(self, pid: int, begun: float) -> None:
        self.pid = pid
        self.begun = begun
        self.inner = 0
        self.ended: float | None = None
        self.status = 0  # as wait(2) tells it

    @property
    def killed_by(self) -> int:
        """The signal that ended it, 0 if it is not over or has ended by itself."""
        return os.WTERMSIG(self.status) if self.ended is not None and os.WIFSIGNALED(self.status) else 0

    @property
    def was_killed(self) -> bool:
        """Whether it was killed with SIGKILL."""
        return self.killed_by == signal.SIGKILL


class Farmer(Process):
    """A farmer on a node, with its workers."""

    def __init__(self, pid: int, begun: float, environ: dict[str, str]) -> None:
        super().__init__(pid, begun)
        self.node = environ["SLURMD_NODENAME"]
        self.job = environ["SLURM_JOB_ID"]
        array, member = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
        #: What Slurm calls this job and no other: one member of an array has the number of them all.
        self.job_name = f"{array}_{member}" if array and member else self.job
        #: Whether it is the batch script itself, and no step.
        self.is_batch = int(environ.get("SLURM_STEP_ID") or -1) < 0
        self.start = 0
        self.workers: list[Process] = []

    @property
    def name(self) -> str:
        """HOST.PID.START: how the names begin under which it holds claims."""
        return f"{self.node}.{self.inner}.{self.start}"

    def alive(self) -> list[Process]:
        """Its living workers."""
        return [worker for worker in self.workers if worker.ended is None]

    def __str__(self) -> str:
        end = "lives" if self.ended is None else f"ended {self.ended:.2f}, status {self.status:#x}"
        return f"{self.name} of job {self.job} (outer pid {self.pid}, begun {self.begun:.2f}, {end})"


def missing() -> str | None:
    """Why the kernel tells nothing here."""
    try:
        _connect().close()
    except OSError as error:
        return f"the kernel does not tell how processes end (connector): {error.strerror}; run as root, in no container"
    return None


class Witness:
    """Follows the farmers that are started in a folder. A context."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._of: dict[int, Process] = {}
        self._parent: dict[int, Farmer] = {}
        self.farmers: list[Farmer] = []
        self.trouble = ""

    def __enter__(self) -> Witness:
        self._socket = _connect()
        # Its clock is CLOCK_MONOTONIC; the tasks read the uptime, which counts the machine's sleep, too.
        self._asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        self._open = True
        self._thread = Thread(target=self._listen, name="witness", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open = False
        self._thread.join()
        self._socket.close()

    def alive(self) -> list[Farmer]:
        """The living farmers."""
        return [farmer for farmer in self.farmers if farmer.ended is None]

    def find(self, name: str) -> Farmer | None:
        """The farmer that holds claims under a name which begins with HOST.PID.START."""
        found = [farmer for farmer in self.farmers if name == farmer.name or name.startswith(f"{farmer.name}.")]
        return found[-1] if found else None

    def worker(self, name: str, inner: int) -> Process | None:
        """The worker with this pid of the farmer with this name."""
        farmer = self.find(name)
        found = [worker for worker in farmer.workers if worker.inner == inner] if farmer else []
        return found[-1] if found else None

    # What the kernel says

    def _listen(self) -> None:
        self._socket.settimeout(0.1)
        while self._open:
            try:
                message = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError as error:
                self.trouble = f"the witness has missed something: {error.strerror}"
                continue
            what, _, nanoseconds = _EVENT.unpack_from(message, _MESSAGE.size)
            self._note(what, nanoseconds / 1e9 + self._asleep, message[_MESSAGE.size + _EVENT.size :])

    def _note(self, what: int, when: float, data: bytes) -> None:
        pid, group = struct.unpack_from("=II", data)
        if what == _FORK and group in self._of:
            child, child_group = struct.unpack_from("=II", data, 8)
            farmer = self._of[group]
            if child == child_group and isinstance(farmer, Farmer):
                self._parent[child] = farmer
        elif what == _COMM and pid == group and pid in self._parent:
            name = data[8:24].rstrip(b"\0").decode(errors="replace")
            if name.startswith("worker-"):
                worker = self._of[pid] = Process(pid, when)
                worker.inner = int(name.removeprefix("worker-"))
                self._parent.pop(pid).workers.append(worker)
        elif what == _EXEC and pid == group:
            self._parent.pop(pid, None)
            if pid not in self._of:  # a shell that executes a farmer does so twice; we may be late for the first
                self._look_at(pid, when)
        elif what == _EXIT and pid == group:
            self._parent.pop(pid, None)
            if process := self._of.pop(pid, None):
                (process.status,) = struct.unpack_from("=I", data, 8)
                process.ended = when

    def _look_at(self, pid: int, when: float) -> None:
        """Is this program a farmer on a node?"""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if len(words) < 3 or not words[1].endswith(b"/pytaskfarmer.py"):
                return
            if os.readlink(f"/proc/{pid}/cwd") != self._folder:
                return
            environ = dict(_variables(Path(f"/proc/{pid}/environ").read_bytes()))
            farmer = Farmer(pid, when, environ)
            farmer.start = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
            status = Path(f"/proc/{pid}/status").read_text()
            farmer.inner = int(status.partition("NSpid:")[2].partition("\n")[0].split()[-1])
        except (FileNotFoundError, ProcessLookupError, KeyError):
            return  # gone already, or started by hand
        self._of[pid] = farmer
        self.farmers.append(farmer)


def _variables(environ: bytes) -> Iterator[tuple[str, str]]:
    for entry in environ.decode(errors="replace").split("\0"):
        name, equals, value = entry.partition("=")
        if equals:
            yield name, value


def _connect() -> socket.socket:
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _CONNECTOR)
    try:
        found.bind((0, _PROC))
        found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 24)
        body = struct.pack("=I", _LISTEN)
        title = _MESSAGE.pack(_MESSAGE.size + len(body), _DONE, 0, 0, os.getpid(), _PROC, 1, 0, 0, len(body), 0)
        found.send(title + body)
    except OSError:
        found.close()
        raise
    return found
