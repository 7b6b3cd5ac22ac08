"""Two hosts on filesystems as they are: nothing is lost or doubled, or the second host refuses to begin.

A host has a name of its own (UTS namespace), and a mount of its own in the same place (mount namespace).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import two_mounts
from conftest import PROGRAM, Farm, processes_with, wait_until
from farmhands import children_of, kill

from taskfarmer.system import proctable

pytestmark = pytest.mark.components

SAFE = {
    "flakyfs": two_mounts.flakyfs,
    "flakyfs that remembers attributes for 2 s": lambda folder: two_mounts.flakyfs(folder, "cache=2"),
    "glusterfs": lambda folder: two_mounts.glusterfs(folder, *two_mounts.FORGETFUL),
    "glusterfs as it is mounted by default": two_mounts.glusterfs,
    "moosefs": two_mounts.moosefs,
}
LYING = {
    "flakyfs": lambda folder: two_mounts.flakyfs(folder, "locks=local"),
    "sshfs": two_mounts.sshfs,
}
LONG = "echo $PROC_NUMBER >> ran; echo $$ >> long; until [ -e end ]; do sleep 0.1; done"
WITHOUT_LOCKS = ("ENOLCK", "ENOSYS", "EOPNOTSUPP")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where a filesystem keeps what it needs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def needs(name: str) -> None:
    if (why := two_mounts.missing(name.split()[0])) is not None:
        pytest.skip(why)


def start_on(host: int, mounts: two_mounts.Mounts, farm: Farm, *flags: str) -> subprocess.Popen[str]:
    """A farmer on the first or the second host; the workdir is on the filesystem, seen at the same place by both."""
    seen = mounts[0]
    script = 'mount --make-rprivate / && mount --bind "$1" "$2" && hostname "$0" && shift 2 && exec "$@"'
    return subprocess.Popen(
        [
            "unshare", "--uts", "--mount", "sh", "-c", script, f"n{host}", str(mounts[host - 1]), str(seen),
            *PROGRAM, *flags, "-w", str(seen / "work"), "tasks.txt",
        ],
        cwd=farm.folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def end_of(farmer: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = farmer.communicate(timeout=120)
    return farmer.returncode, said


def executions(farm: Farm) -> Counter[int]:
    path = farm.folder / "ran"
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()


def assert_all_finished_once(farm: Farm, workdir: Path, count: int) -> None:
    finished = [int(line.split()[0]) for line in (workdir / "finished").read_text().splitlines()]
    assert sorted(finished) == list(range(count))
    assert executions(farm) == Counter(range(count))


@pytest.mark.parametrize("name", SAFE)
def test_two_hosts_share_the_work_and_double_none(farm: Farm, disk: Path, name: str) -> None:
    needs(name)
    farm.write(*["echo $PROC_NUMBER >> ran; sleep 0.05"] * 120)
    with SAFE[name](disk) as mounts:
        farmers = [start_on(host, mounts, farm, "-n", "2") for host in (1, 2)]
        for farmer in farmers:
            status, said = end_of(farmer)
            assert status == 0, said
            assert "hand" not in said, said
        assert_all_finished_once(farm, mounts[0] / "work", 120)


@pytest.mark.parametrize("name", LYING)
def test_a_second_host_refuses_where_locks_lie(farm: Farm, disk: Path, name: str) -> None:
    needs(name)
    farm.write(*["echo $PROC_NUMBER >> ran; until [ -e go ]; do sleep 0.1; done"] * 3)
    with LYING[name](disk) as mounts:
        first = start_on(1, mounts, farm, "-n", "1")
        wait_until(lambda: executions(farm))
        status, said = end_of(start_on(2, mounts, farm, "-n", "2"))
        assert status == 2 and "do not exclude between n2 and n1" in said, said
        assert executions(farm) == Counter([0])
        (farm.folder / "go").touch()
        status, said = end_of(first)
        assert status == 0, said
        assert_all_finished_once(farm, mounts[0] / "work", 3)


@pytest.mark.parametrize("locks", ["local", "ENOLCK"])
def test_two_hosts_with_soft_locks_share_the_work_and_part(farm: Farm, disk: Path, locks: str) -> None:
    """The last tasks run for so long that each host has looked at the other, whose presence means nothing."""
    needs("flakyfs")
    farm.write(*["echo $PROC_NUMBER >> ran; sleep 0.05"] * 60, *["echo $PROC_NUMBER >> ran; sleep 6"] * 4)
    with two_mounts.flakyfs(disk, f"locks={locks}") as mounts:
        farmers = [start_on(host, mounts, farm, "-n", "2", "--lock", "soft") for host in (1, 2)]
        for farmer in farmers:
            status, said = end_of(farmer)
            assert status == 0 and "silent" not in said, said
        assert_all_finished_once(farm, mounts[0] / "work", 64)


def test_a_frozen_host_that_wakes_after_its_tasks_were_taken_over_gives_in(farm: Farm, disk: Path) -> None:
    """Under soft locks silence is all there is. Of its two tasks, which are not frozen, one has ended meanwhile."""
    needs("flakyfs")
    farm.write("echo $PROC_NUMBER >> ran; until [ -e go ]; do sleep 0.1; done", LONG, *["true"] * 4)
    with two_mounts.flakyfs(disk, "locks=local") as mounts:
        soft = ("--lock", "soft", "--dead-after", "10s")
        frozen = start_on(1, mounts, farm, "-n", "2", *soft)
        wait_until(lambda: executions(farm) == Counter([0, 1]))
        asleep = [frozen.pid, *children_of(frozen.pid)]
        kill(asleep, signal.SIGSTOP)
        other = start_on(2, mounts, farm, "-n", "2", *soft)
        wait_until(lambda: executions(farm) == Counter([0, 1, 0, 1]), 120, "it is taken over")
        (farm.folder / "go").touch()
        work = mounts[0] / "work"
        wait_until(lambda: len((work / "finished").read_text().splitlines()) == 5, 60, "the other has settled task 0")
        kill(asleep, signal.SIGCONT)
        (long,) = [int(pid) for pid in (farm.folder / "long").read_text().split() if owner_of(int(pid)) == "n1"]
        wait_until(lambda: not proctable.exists(long), 60, "the end of the task that was taken over")
        (farm.folder / "end").touch()
        for farmer in (other, frozen):
            status, said = end_of(farmer)
            assert status == 0, said
        assert "goes on under a new name" in said, said
        finished = [int(line.split()[0]) for line in (work / "finished").read_text().splitlines()]
        assert sorted(finished) == list(range(6)) and list((work / "running").iterdir()) == []


def owner_of(pid: int) -> str:
    """The host whose farmer has started a task."""
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (owner,) = [word for word in environment if word.startswith(b"TASKFARMER_OWNER=")]
    return owner.decode().partition("=")[2].partition(".")[0]


@pytest.mark.parametrize("errno", WITHOUT_LOCKS)
def test_without_locks_a_host_is_told_the_way_out_and_it_works(farm: Farm, disk: Path, errno: str) -> None:
    needs("flakyfs")
    farm.write(*["echo $PROC_NUMBER >> ran"] * 60)
    with two_mounts.flakyfs(disk, f"locks={errno}") as mounts:
        status, said = end_of(start_on(1, mounts, farm))
        assert status == 2 and "--lock soft" in said, said
        status, said = end_of(start_on(1, mounts, farm, "-n", "2", "--lock", "soft"))
        assert status == 0, said
        assert_all_finished_once(farm, mounts[0] / "work", 60)


def test_a_farmer_whose_disk_hangs_ends_its_tasks_before_others_may_take_them_over(farm: Farm, disk: Path) -> None:
    """And goes on when the disk comes back."""
    needs("flakyfs")
    farm.write("echo $PROC_NUMBER >> ran; echo $$ >> shells; [ -e go ] || sleep 600")
    with two_mounts.flakyfs(disk) as mounts:
        farmer = start_on(1, mounts, farm, "-n", "1", "--dead-after", "10s")
        wait_until(lambda: executions(farm))
        shell = int((farm.folder / "shells").read_text())
        (server,) = [pid for pid in processes_with(str(mounts[0])) if "flakyfs.py" in command_of(pid)]
        os.kill(server, signal.SIGSTOP)
        try:
            wait_until(lambda: not proctable.exists(shell), what="the end of the task")
        finally:
            (farm.folder / "go").touch()
            os.kill(server, signal.SIGCONT)
        status, said = end_of(farmer)
        assert status == 0, said
        assert executions(farm) == Counter([0, 0]) and "cut off from the workdir" in said


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_where_the_lock_lies_on_one_host_too_the_journal_keeps_farmers_apart_and_is_noticed(farm: Farm) -> None:
    """Every flock(2) succeeds and does nothing, and nobody of another host is there to be met."""
    assert shutil.which("strace"), "strace is wanted: tests/components/install.sh strace"
    lying = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=flock:retval=0"]
    slowly = ["-e", "inject=fsync:delay_enter=5000"]  # so that their exchanges meet
    farm.write(*["echo $PROC_NUMBER >> ran"] * 400)
    farmers = [
        subprocess.Popen(
            [*lying, *slowly, *PROGRAM, "-n", "2", "tasks.txt"],
            cwd=farm.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(3)
    ]
    ends = [end_of(farmer) for farmer in farmers]
    assert {status for status, _ in ends} <= {0, 2}, ends
    told = [said for status, said in ends if status == 2]
    assert told and all("the lock does not exclude here" in said for said in told), ends
    farm.run()
    farm.assert_each_task_stands_once(400)
    assert set(executions(farm)) == set(range(400))
    assert max(executions(farm).values()) <= len(told) + 1, "only what one that stopped was running ran again"
