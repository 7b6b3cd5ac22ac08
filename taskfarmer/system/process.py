"""A process: what it is to the system, starting a task in a session of its own, waiting for it. Its end: system/tree.py.

Hazards kept here. A pid is reused, so a process is its pid and its start time.
A signal that was ignored is inherited, so all are reset. `posix_spawn` and never `preexec_fn`: the latter forks, and a
fork costs a copy of the page tables for each task.
"""

import os
import signal
import stat
import time
from typing import Mapping, NamedTuple

from taskfarmer.model import Launch, Owner
from taskfarmer.system import job
from taskfarmer.system.proctable import is_there, shows_everybody, start_time

OWNER_VARIABLE = "TASKFARMER_OWNER"

#: A worker never lets these act on itself: it waits for them.
WAKE = frozenset((signal.SIGCHLD, signal.SIGUSR2))
#: What a task finds as if nobody had touched it: our workers ignore some, and that would be inherited.
RESET = [
    signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE,
    signal.SIGXFSZ, signal.SIGCHLD, signal.SIGALRM,
]  # fmt: skip
_REMEMBER = 1.0


# Who a process is


def host() -> str:
    """This host's name, as owners carry it."""
    return os.uname().nodename


def new_owner() -> Owner:
    """A name for this process as the holder of claims, never used before or again."""
    pid = os.getpid()
    in_job = job.name(os.environ)
    return Owner(host(), pid, start_time(pid) or 0, os.urandom(3).hex() + (in_job and f"-{in_job}"))


def is_gone(owner: Owner) -> bool:
    """Whether an owner's process is provably gone. On another host nothing can be proved from here."""
    if owner.host != host():
        return False
    try:
        start = start_time(owner.pid)
    except PermissionError:
        return False  # another user's, and this /proc hides it
    return start != owner.start and (start is not None or shows_everybody() or not is_there(owner.pid))


def load_subreaper() -> None:
    """Load what `become_subreaper` needs, so that processes forked from this one share it."""
    import ctypes  # noqa: F401


def worker_name(pid: int) -> str:
    """What `ps` calls a worker. What it forks is called so, too, until it executes its program."""
    return f"worker-{pid}"


def take_name(name: str) -> None:
    """Be called so from now on (prctl(2), PR_SET_NAME); at most 15 bytes."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(15, name.encode(), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NAME)")


def become_subreaper() -> None:
    """Make this process the parent of every descendant whose own parent dies (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent(parent: int) -> None:
    """Be killed when the thread dies that forked this process (prctl(2), PR_SET_PDEATHSIG); exec keeps that."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it died before we asked


def close_inherited_files() -> None:
    """In a forked child: let go of every file and folder that the parent has opened (what it was given itself stays).

    A lock belongs to the open file and not to the process: a copy here would hold it after the parent was killed with it.
    """
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue  # the descriptor of this very listing
        if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and not os.get_inheritable(fd):
            os.close(fd)


# Starting


def start(launch: Launch, env: dict[bytes, bytes], null: int, log: int) -> int:
    """Start a command in a session of its own, stdin from `null`, stdout and stderr into `log`; return its pid.

    Raises OSError as execve(2) says it, ValueError for a NUL byte in the command.
    """
    actions = ((os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2))
    if launch.cwd is None:
        return _spawn(launch, env, actions)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # we may be where we are not allowed to list
    try:
        os.chdir(launch.cwd)
        return _spawn(launch, env, actions)
    finally:
        os.fchdir(here)
        os.close(here)


def _spawn(launch: Launch, env: dict[bytes, bytes], actions: tuple[tuple[int, int, int], ...]) -> int:
    return os.posix_spawn(
        launch.program, launch.argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=RESET
    )


def with_changes(env: Mapping[bytes, bytes], changes: Mapping[str, str | None]) -> dict[bytes, bytes]:
    """An environment with what a runner adds to it, and without what it takes away (None)."""
    changed = dict(env)
    for name, value in changes.items():
        if value is None:
            changed.pop(os.fsencode(name), None)
        else:
            changed[os.fsencode(name)] = os.fsencode(value)
    return changed


def find_program(name: str, path: str) -> str | None:
    """Where a shell would find a command: the first executable of that name in `path`."""
    if "/" in name:
        return name
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        if os.access(candidate, os.X_OK):
            return candidate
    return None


class Programs:
    """Where the programs of a `PATH` are. Remembered for a second: a long one on a shared disk costs a look per folder."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: dict[str, str | None] = {}
        self._forget_at = 0.0

    def find(self, name: str) -> str | None:
        """As `find_program` does."""
        now = time.monotonic()
        if now >= self._forget_at:
            self._found.clear()
            self._forget_at = now + _REMEMBER
        if name not in self._found:
            self._found[name] = find_program(name, self._path)
        return self._found[name]


# Waiting


class Ended(NamedTuple):
    """How a process ended: the raw status of wait(2), CPU seconds and peak KiB of it and its waited-for children."""

    raw: int
    cpu: float
    memory: int

    @property
    def signal(self) -> int:
        """The signal that killed it, 0 if it exited."""
        return os.WTERMSIG(self.raw) if os.WIFSIGNALED(self.raw) else 0

    @property
    def status(self) -> int:
        """Its exit status, 0 if it was killed."""
        return 0 if os.WIFSIGNALED(self.raw) else os.WEXITSTATUS(self.raw)


def wait(pid: int, seconds: float) -> Ended | None:
    """Wait at most `seconds` for a child of ours; None when it runs on, or when somebody wants our attention.

    The signals are blocked, so one that came before this call is pending and ends the wait at once.
    """
    signal.sigtimedwait(WAKE, seconds if seconds > 0.0 else 0.0)
    return poll(pid)


def poll(pid: int) -> Ended | None:
    """How a child of ours ended, None while it runs."""
    got, raw, usage = os.wait4(pid, os.WNOHANG)
    return Ended(raw, usage.ru_utime + usage.ru_stime, usage.ru_maxrss) if got else None


def exit_code(pid: int) -> int:
    """Wait for a child of ours: its exit status, or a signal's number, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def await_end(pid: int) -> None:
    """Wait for a child of ours that may have been waited for already."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # it has been


def reap_strays() -> None:
    """Collect adopted children that have ended. Only while no task of ours is running: its status would go, too."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # no children at all, as nearly always
