"""What a farm of two hosts goes through on one filesystem, and what came of it: a row of the table in docs/filesystems.md.

    python tests/components/ordeal.py [NAME ...]      prints the rows, of all filesystems if none is named (an hour)

In turn, each with a farm of its own: both hosts share the work; the first loses its power; it is cut off from the
filesystem until the other has taken over its tasks, or for two windows when that may not be; it is cut off for a moment.
The tasks keep count themselves, on another disk, as those of the killer do (tests/killer/tasks.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Callable, ContextManager, Iterator, NamedTuple, Sequence

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import nfs_guest
import two_mounts
from conftest import PROGRAM, STATE_FILES, processes_with, wait_until
from killer.tasks import Execution, read_effects
from nfs_guest import Nfs

#: A task runs until it is told to end; it takes a lock of its own, so that two attempts at once betray themselves. It lets go
#: of its log: who is killed while his disk hangs does nothing any more, but keeps all he has until his log can be closed.
TASK = """\
say() {
    read -r up idle < /proc/uptime
    echo "$TASKFARMER_TASK_ID $TASKFARMER_ATTEMPT $1 $TASKFARMER_OWNER $PPID $$ $up" >> effects
}
exec 9> locks/$TASKFARMER_TASK_ID > /dev/null 2>&1
flock -n 9 || echo "$TASKFARMER_TASK_ID $TASKFARMER_OWNER" >> twice
say start
until [ -e go ] || [ -e go_$TASKFARMER_TASK_ID ]; do sleep 0.2; done
say ok
"""
#: Seconds: after which another host's silence is death (`--dead-after`), and what a moment is.
WINDOW, A_MOMENT = 30, 5
#: Nothing may take longer: without locks, silence must last four windows to be death (system/vigil.py).
PATIENCE = 8.0 * WINDOW
#: We look through the mount of the second host, which may show for so long what was.
_REMEMBERED = 70.0
FRESH = ("--fopen-keep-cache=false", "--attribute-timeout=0", "--entry-timeout=0")
SOFT = ("--lock", "soft")


class Row(NamedTuple):
    """What came of it.

    `lost`: tasks that do not stand once in `finished`. `doubled`: two attempts at once, or a second one without a reason.
    `after_power`, `after_cut`: seconds from the loss of power, or of the network, until the tasks were back; None if they
    were not taken over. `refused`: the last sentence of a host that did not begin (exit 2); the rest is then with
    `--lock soft`, if that is what `doctor` says. `wrong`: whatever else was not as it must be.
    """

    filesystem: str
    verdict: str
    lost: list[str]
    doubled: list[str]
    after_power: float | None
    after_cut: float | None
    refused: str
    wrong: list[str]

    def as_line(self) -> str:
        """As it stands in the docs, but for what was wrong."""
        waited = ["-" if seconds is None else f"{seconds:.0f} s" for seconds in (self.after_power, self.after_cut)]
        cells = [
            self.filesystem,
            self.verdict,
            str(len(self.lost)),
            str(len(self.doubled)),
            *waited,
            "exit 2" if self.refused else "-",
        ]
        return f"| {' | '.join(cells)} |"


def go_through(name: str) -> Row:
    """The row of one filesystem, by its name in FILESYSTEMS or in NFS."""
    if name in NFS:
        said = nfs_guest.run(NFS[name], [sys.executable, __file__, "--in-the-guest", name], timeout=2400)
        return Row(**json.loads(said.rpartition("ROW ")[2].splitlines()[0]))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ordeal.", ignore_cleanup_errors=True)))
        return _row(name, stack.enter_context(FILESYSTEMS[name](folder)))


def missing(name: str) -> str | None:
    """Why there is no such filesystem here."""
    if name in NFS:
        return nfs_guest.missing()
    kind = name.split()[0].strip(",").lower()
    return two_mounts.missing(kind) if kind in ("flakyfs", "sshfs", "glusterfs", "moosefs") else None


# Hosts


class Hosts:
    """Two hosts, 1 and 2, that see one filesystem at the same place. Each program has processes of its own.

    `mounts`: where it is mounted for each.
    """

    #: Whether they are two at all, and one can be cut off.
    are_two = True
    #: Whether the locks of one that is cut off are free after a while.
    frees_locks = False

    def __init__(self, mounts: two_mounts.Mounts) -> None:
        self._mounts = mounts
        self.seen, self.seen_from_here = mounts  # by us as by the second host, which stays

    def start(self, host: int, folder: Path, said: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start a program on a host; what it says goes to a file."""
        with open(said, "wb") as out:
            return subprocess.Popen(
                [*self._door(host), *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def _door(self, host: int) -> list[str]:
        apart = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        script = 'mount --make-rprivate / && mount --bind "$1" "$2" && hostname "$0" && shift 2 && exec "$@"'
        return [*apart, "sh", "-c", script, f"n{host}", str(self._mounts[host - 1]), str(self.seen)]

    def cut_power(self, farmer: subprocess.Popen[bytes]) -> None:
        """Everything that runs on the first host ends at once, and its mount falls silent."""
        self.cut_off()
        farmer.kill()  # it may hang in a write until the end of the scene

    def cut_off(self) -> None:
        """The first host does not reach the filesystem any more."""
        raise NotImplementedError

    def reconnect(self) -> None:
        """It does again."""
        raise NotImplementedError


class FuseHosts(Hosts):
    """A program in user space mounts it for each host: one that is stopped answers nobody, one that is killed never will."""

    def __init__(self, mounts: two_mounts.Mounts) -> None:
        super().__init__(mounts)
        self._clients = processes_with(str(mounts[0]))

    def cut_power(self, farmer: subprocess.Popen[bytes]) -> None:
        self._send(signal.SIGKILL)
        farmer.kill()
        farmer.wait(60)

    def cut_off(self) -> None:
        self._send(signal.SIGSTOP)

    def reconnect(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, what: signal.Signals) -> None:
        for pid in self._clients:
            os.kill(pid, what)


class NfsHosts(Hosts):
    """In the guest: the cable of a client is pulled."""

    def __init__(self, nfs: Nfs) -> None:
        super().__init__(nfs_guest.MOUNTS)
        # Version 3 keeps them until the host boots again.
        self.frees_locks = nfs.version != "3"

    def cut_off(self) -> None:
        subprocess.run(["ip", "link", "set", "v1", "down"], check=True)

    def reconnect(self) -> None:
        subprocess.run(["ip", "link", "set", "v1", "up"], check=True)


class OneHost(Hosts):
    """Two farmers of one host, which cannot be cut off from a disk of its own. Its loss of power: a farmer and its workers
    are killed, their tasks are not."""

    are_two = False

    def _door(self, host: int) -> list[str]:
        return []

    def cut_power(self, farmer: subprocess.Popen[bytes]) -> None:
        workers = Path(f"/proc/{farmer.pid}/task/{farmer.pid}/children").read_text().split()
        for pid in [farmer.pid, *map(int, workers)]:
            os.kill(pid, signal.SIGKILL)
        farmer.wait(60)


# What they go through


class Scene:
    """A farm of two farmers, with two slots each and tasks that wait to be told to end. A context; nothing goes on after it."""

    def __init__(self, hosts: Hosts, name: str, tasks: int, flags: Sequence[str]) -> None:
        self._hosts = hosts
        self._folder = Path(tempfile.mkdtemp(prefix=f"{name}."))
        self._name = name
        self._count = tasks
        self._flags = [
            "--progress",
            "none",
            "--dead-after",
            str(WINDOW),
            *flags,
            "-n",
            "2",
            "-w",
            str(hosts.seen / name),
        ]
        self._farmers: dict[int, subprocess.Popen[bytes]] = {}
        (self._folder / "locks").mkdir()
        (self._folder / "task.sh").write_text(TASK)
        (self._folder / "tasks.txt").write_text("sh task.sh\n" * tasks)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *exc: object) -> None:
        self.tell("go")
        for farmer in self._farmers.values():
            farmer.kill()
            farmer.wait(60)

    def start(self, host: int) -> None:
        """Start the farmer of a host, and wait until it has begun two tasks."""
        words = [*PROGRAM, *self._flags, "tasks.txt"]
        self._farmers[host] = self._hosts.start(host, self._folder, self._said(host), *words)
        had = len(self.executions())
        self.wait(lambda: len(self.executions()) == had + 2, f"n{host} works", host)

    def cut_power(self) -> None:
        """Of the first host."""
        self._hosts.cut_power(self._farmers.pop(1))

    def tell(self, *names: str) -> None:
        """Tell tasks to end: `go` all, `go_2` one."""
        for name in names:
            (self._folder / name).touch()

    def wait(self, condition: Callable[[], object], what: str, host: int, patience: float = PATIENCE) -> None:
        """Until a condition holds, which it will not once the farmer of that host has ended."""
        farmer = self._farmers[host]
        try:
            wait_until(lambda: condition() or farmer.poll() is not None, patience, what)
        except AssertionError as error:
            raise AssertionError(f"{error}. {self.said()}") from error
        if farmer.poll() == 2 and not condition():
            raise Refused(self.said(host))
        assert condition(), f"{what}: n{host} has ended with {farmer.poll()}. {self.said()}"

    def end(self, *hosts: int) -> None:
        """All tasks are told to end; these farmers must end well."""
        self.tell("go")
        for host in hosts:
            self.wait(lambda: self._farmers[host].poll() is not None, f"n{host} ends", host)  # noqa: B023
            status = self._farmers[host].poll()
            assert status == 0, f"n{host} ended with {status}. {self.said()}"

    def _said(self, host: int) -> Path:
        return self._folder / f"said_{host}"

    def said(self, host: int | None = None) -> str:
        """What a farmer has said so far, or both."""
        if host is None:
            return " ".join(f"n{number} said: {self.said(number)!r}" for number in (1, 2))
        return self._said(host).read_text(errors="replace") if self._said(host).exists() else ""

    def executions(self) -> list[Execution]:
        """Every execution so far."""
        return read_effects(self._folder / "effects")

    def lost(self) -> list[str]:
        """Tasks that do not stand once, in `finished`, and nowhere else."""
        stands: Counter[tuple[int, str]] = Counter()
        for name in STATE_FILES:
            path = self._hosts.seen_from_here / self._name / name
            lines = path.read_text().splitlines() if path.exists() else []
            stands.update((int(line.split()[0]), name) for line in lines)
        wanted = Counter((id, "finished") for id in range(self._count))
        return [f"{self._name}: {found}" for found in {**(wanted - stands), **(stands - wanted)}.items()]

    def doubled(self, *again: int) -> list[str]:
        """Two attempts at once, and second ones without a reason; `again`: tasks that have one."""
        path = self._folder / "twice"
        at_once = path.read_text().splitlines() if path.exists() else []
        times = Counter(one.id for one in self.executions())
        ran = [f"task {id} ran {n} times" for id, n in sorted(times.items()) if n > (2 if id in again else 1)]
        return [f"{self._name}: {found}" for found in [f"two at once: {line}" for line in at_once] + ran]


class Refused(Exception):
    """A host did not begin (exit 2); what it said."""


class _Ordeal:
    """One filesystem's way through all scenes."""

    def __init__(self, hosts: Hosts, flags: Sequence[str] = ()) -> None:
        self._hosts = hosts
        self._flags = flags
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.wrong: list[str] = []
        self.after_power: float | None = None
        self.after_cut: float | None = None

    def go_through(self) -> None:
        """All scenes, though one may go wrong. Raises Refused if a host does not begin the first."""
        apart = [self._cut_off_for_a_moment, self._cut_off_for_long] if self._hosts.are_two else []
        for scene in [self._share, *apart, self._lose_power]:
            try:
                print(time.strftime("%X"), scene.__name__, file=sys.stderr)
                scene()
            except Refused as error:
                if scene == self._share:
                    raise
                self.wrong.append(f"{scene.__name__}: {error}")
            except AssertionError as error:
                self.wrong.append(f"{scene.__name__}: {error}")

    def _share(self) -> None:
        """A host that is refused leaves the other alone, which goes on."""
        with self._scene("share", 60) as scene:
            scene.start(1)
            try:
                scene.start(2)
            except Refused:
                scene.end(1)
                self._count(scene)
                raise
            scene.end(1, 2)
            self._count(scene)

    def _cut_off_for_a_moment(self) -> None:
        with self._scene("moment", 8) as scene:
            scene.start(1)
            scene.start(2)
            self._hosts.cut_off()
            time.sleep(A_MOMENT)
            self._hosts.reconnect()
            scene.end(1, 2)
            self._count(scene)

    def _cut_off_for_long(self) -> None:
        """The first host holds 0, which goes on, and 1, which ends meanwhile; the second holds 2 and 3."""
        with self._scene("cut", 10) as scene:
            scene.start(1)
            scene.start(2)
            self._hosts.cut_off()
            began = time.monotonic()
            scene.tell("go_1")
            try:
                if self._taken_over(scene, 2 * WINDOW + (PATIENCE if self._outlives else 0)):
                    self.after_cut = time.monotonic() - began
                    scene.tell("go_2", "go_3")
                    scene.wait(lambda: self._times(scene, 0) == 2, "n2 begins task 0 again", 2)
            finally:
                self._hosts.reconnect()
            if self.after_cut is not None:
                scene.wait(lambda: "goes on under a new name" in scene.said(1), "n1 learns of it", 1)
                scene.wait(lambda: self._begun_by("n1", scene) > {0, 1}, "n1 goes on", 1)
            scene.end(1, 2)
            self._count(scene, 0, 1)

    @property
    def _outlives(self) -> bool:
        """Whether who is cut off for long is outlived by the others: nothing holds them back then."""
        return self._hosts.frees_locks or bool(self._flags)

    def _lose_power(self) -> None:
        with self._scene("power", 6) as scene:
            scene.start(1)
            scene.start(2)
            scene.cut_power()
            began = time.monotonic()
            assert self._taken_over(scene, PATIENCE), f"n1's tasks are not taken over. {scene.said()}"
            self.after_power = time.monotonic() - began
            scene.end(2)
            self._count(scene, 0, 1)

    def _scene(self, name: str, tasks: int) -> Scene:
        return Scene(self._hosts, f"{name}{'_soft' if self._flags else ''}", tasks, self._flags)

    def _count(self, scene: Scene, *again: int) -> None:
        try:
            wait_until(lambda: not scene.lost(), _REMEMBERED)
        except AssertionError:
            self.lost += scene.lost()
        self.doubled += scene.doubled(*again)

    @staticmethod
    def _taken_over(scene: Scene, patience: float) -> bool:
        """Whether the second host says so in time."""
        try:
            wait_until(lambda: " is gone" in scene.said(2), patience)
        except AssertionError:
            return False
        return True

    @staticmethod
    def _times(scene: Scene, id: int) -> int:
        return [one.id for one in scene.executions()].count(id)

    @staticmethod
    def _begun_by(host: str, scene: Scene) -> set[int]:
        return {one.id for one in scene.executions() if one.owner.startswith(f"{host}.")}


def _row(name: str, hosts: Hosts) -> Row:
    verdict = _ask_doctor(hosts)
    refused, ordeal = "", _Ordeal(hosts)
    try:
        ordeal.go_through()
    except Refused as error:
        refused = str(error).strip().splitlines()[-1]
        if "soft" in verdict:
            before, ordeal = ordeal, _Ordeal(hosts, SOFT)
            ordeal.go_through()
            ordeal.lost += before.lost
            ordeal.doubled += before.doubled
    return Row(
        name, verdict, ordeal.lost, ordeal.doubled, ordeal.after_power, ordeal.after_cut, refused, ordeal.wrong
    )  # fmt: skip


def _ask_doctor(hosts: Hosts) -> str:
    folder = Path(tempfile.mkdtemp(prefix="doctor."))
    words = ["doctor", str(hosts.seen), "--json", *(["--token", "T"] if hosts.are_two else [])]
    files = [folder / f"said_{host}" for host in ((1, 2) if hosts.are_two else (1,))]
    asked = [hosts.start(host, folder, said, *PROGRAM, *words) for host, said in enumerate(files, 1)]
    for process in asked:
        process.wait(PATIENCE)
    said = "".join(file.read_text() for file in files)
    start, end = said.find("{"), said.rfind("}")
    return str(json.loads(said[start : end + 1])["verdict"]) if start >= 0 else f"unsafe ({said.strip()})"


# Filesystems


@contextmanager
def _local(parent: str, folder: Path) -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="ordeal.", dir=parent, ignore_cleanup_errors=True) as name:
        yield OneHost((Path(name), Path(name)))


def _fuse(mount: Callable[..., ContextManager[two_mounts.Mounts]], *options: str, **more: object) -> Open:
    @contextmanager
    def opened(folder: Path) -> Iterator[Hosts]:
        with mount(folder, *options, **more) as mounts:
            yield FuseHosts(mounts)

    return opened


Open = Callable[[Path], ContextManager[Hosts]]
FILESYSTEMS: dict[str, Open] = {
    "ext4": partial(_local, "/tmp"),
    "tmpfs": partial(_local, "/dev/shm"),
    "flakyfs": _fuse(two_mounts.flakyfs),
    "flakyfs locks=local": _fuse(two_mounts.flakyfs, "locks=local"),
    "flakyfs locks=ENOLCK": _fuse(two_mounts.flakyfs, "locks=ENOLCK"),
    "flakyfs locks=ENOSYS": _fuse(two_mounts.flakyfs, "locks=ENOSYS"),
    "flakyfs cache=2": _fuse(two_mounts.flakyfs, "cache=2"),
    "GlusterFS": _fuse(two_mounts.glusterfs, *FRESH),
    "GlusterFS by default": _fuse(two_mounts.glusterfs),
    "GlusterFS without locks": _fuse(two_mounts.glusterfs, *FRESH, locks=False),
    "MooseFS": _fuse(two_mounts.moosefs),
    "MooseFS, SESSION_SUSTAIN_TIME = 60": _fuse(two_mounts.moosefs, "SESSION_SUSTAIN_TIME = 60"),
    "sshfs": _fuse(two_mounts.sshfs),
}
NFS = {
    "NFS 4.2": Nfs("4.2"),
    "NFS 4.2, two clients of one name": Nfs("4.2", one_name=True),
    "NFS 3": Nfs("3", lock_daemon=True),
    "NFS 3, two clients of one name": Nfs("3", one_name=True, lock_daemon=True),
    "NFS 3 without a lock daemon": Nfs("3"),
    "NFS 3, nolock": Nfs("3", ",nolock"),
}


def main(names: Sequence[str]) -> None:
    """Print the rows of the table; what went wrong goes to standard error."""
    if names[:1] == ["--in-the-guest"]:
        print("ROW", json.dumps(_row(names[1], NfsHosts(NFS[names[1]]))._asdict()))
        return
    for name in names or [*FILESYSTEMS, *NFS]:
        if why := missing(name):
            print(f"{name}: {why}", file=sys.stderr)
            continue
        row = go_through(name)
        print(row.as_line(), flush=True)
        for what in [*row.lost, *row.doubled, *row.wrong]:
            print(f"    {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
