"""On a filesystem without file locks: `--lock soft` excludes, and the process table says who lives."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest
from conftest import PROGRAM, Farm, wait_until
from farmhands import children_of, ended, kill, processes_in, wait_for

pytestmark = pytest.mark.components


def start_without_locks(farm: Farm, *flags: str) -> subprocess.Popen[str]:
    """A farmer to whom every flock(2) says ENOLCK, as NFS without a lock daemon does."""
    assert shutil.which("strace"), "strace is wanted: tests/components installs it"
    refused = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "inject=flock:error=ENOLCK"]
    return subprocess.Popen(
        [*refused, *PROGRAM, *flags, "tasks.txt"],
        cwd=farm.folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_without_locks_the_farmer_says_what_to_do(farm: Farm) -> None:
    status, said = ended(start_without_locks(farm.write("true"), "-n", "1"))
    assert status == 2 and "--lock soft" in said and "--lock-dir" in said, said


def test_soft_locks_need_no_file_locks(farm: Farm) -> None:
    farm.write(*["echo $PROC_NUMBER >> ran"] * 40)
    farmers = [start_without_locks(farm, "--lock", "soft", "-n", "2") for _ in range(2)]
    for farmer in farmers:
        status, said = ended(farmer)
        assert status == 0, said
    farm.assert_each_task_stands_once(40)
    assert sorted(map(int, (farm.folder / "ran").read_text().split())) == list(range(40))


def test_without_locks_a_dead_farmers_task_is_not_run_again_while_its_worker_lives(farm: Farm) -> None:
    farm.write("echo $$ >> ran; until [ -e go ]; do sleep 0.05; done; touch done")
    tracer = start_without_locks(farm, "--lock", "soft", "-n", "1")
    wait_for(farm, "ran")
    (farmer,) = [pid for pid in children_of(tracer.pid) if "taskfarmer" in command_of(pid)]
    kill([farmer], signal.SIGKILL)
    second = start_without_locks(farm, "--lock", "soft", "-n", "1", "--timeout", "2")
    status, said = ended(second)
    assert len((farm.folder / "ran").read_text().split()) == 1, said
    (farm.folder / "go").touch()
    wait_for(farm, "done")
    wait_until(lambda: not processes_in(farm.folder), what="end of the worker")
    status, said = ended(start_without_locks(farm, "--lock", "soft", "-n", "1"))
    assert status == 0, said
    assert len((farm.folder / "ran").read_text().split()) == 1, "its worker had recorded it"
    farm.assert_each_task_stands_once(1)


def test_without_locks_a_dead_farmers_tasks_come_back(farm: Farm) -> None:
    farm.write("echo $$ >> ran; [ -e go ] || sleep 60")
    tracer = start_without_locks(farm, "--lock", "soft", "-n", "1")
    wait_for(farm, "ran")
    everybody = [pid for pid in processes_in(farm.folder) if "taskfarmer" in command_of(pid) and pid != tracer.pid]
    kill(everybody, signal.SIGKILL)
    (farm.folder / "go").touch()
    status, said = ended(start_without_locks(farm, "--lock", "soft", "-n", "1"))
    assert status == 0, said
    assert len((farm.folder / "ran").read_text().split()) == 2
    farm.assert_each_task_stands_once(1)


def command_of(pid: int) -> str:
    """The command line of a process, but for what a tracer was told to start."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        command = file.read().replace(b"\0", b" ").decode()
    return "" if command.startswith("strace") else command
