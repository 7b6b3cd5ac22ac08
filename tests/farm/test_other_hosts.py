"""Farmers on several hosts: the dead are taken over, the silent are not dead, and locks that lie are met in time.

A host is a UTS namespace of its own; a host that loses power is all its processes killed at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROGRAM, Farm, on_host, wait_until
from farmhands import children_of, ended, kill, wait_for

from taskfarmer.model import Owner
from taskfarmer.stores.textfiles import TextStore
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process, proctable

pytestmark = pytest.mark.components

SOON = ("--dead-after", "10s")
WAITS = "echo $PROC_NUMBER begun >> ran; until [ -e go ]; do sleep 0.05; done; echo $PROC_NUMBER ended >> ran"


def tree_of(farmer: subprocess.Popen[str]) -> list[int]:
    """Every process of a host, the farmer first."""
    found, todo = [], [farmer.pid]
    while todo:
        found.append(todo.pop(0))
        todo += children_of(found[-1])
    return found


def cut_power(farmer: subprocess.Popen[str]) -> None:
    """Everything on a host ends at once."""
    everybody = tree_of(farmer)
    kill(everybody, signal.SIGSTOP)
    kill(everybody)
    farmer.communicate()


def ran(farm: Farm, what: str) -> list[int]:
    """Which tasks have begun, or ended, as they say themselves."""
    path = farm.folder / "ran"
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted(int(line.split()[0]) for line in lines if line.endswith(what))


def go(farm: Farm) -> None:
    (farm.folder / "go").touch()


def test_the_living_take_over_the_tasks_of_a_host_that_lost_its_power(farm: Farm) -> None:
    farm.write(*[WAITS] * 4)
    first = farm.start_on("n1", "-n", "2", *SOON)
    wait_until(lambda: len(ran(farm, "begun")) == 2)
    second = farm.start_on("n2", "-n", "2", *SOON)
    wait_until(lambda: len(ran(farm, "begun")) == 4)
    cut_power(first)
    go(farm)
    status, said = ended(second, timeout=60)
    assert status == 0, said
    assert "n1 (pid " in said and "is gone" in said and "2 tasks are back, no retry counted" in said
    farm.assert_each_task_stands_once(4)
    assert len(ran(farm, "begun")) == 6 and ran(farm, "ended") == [0, 1, 2, 3]


def test_the_next_to_start_takes_over_the_tasks_of_hosts_that_lost_their_power(farm: Farm) -> None:
    farm.write(*[WAITS] * 4)
    for host, begun in (("n1", 2), ("n2", 4)):
        farmer = farm.start_on(host, "-n", "2", *SOON)
        wait_until(lambda: len(ran(farm, "begun")) == begun)  # noqa: B023
        if host == "n2":
            cut_power(farmer)
        else:
            first = farmer
    cut_power(first)
    go(farm)
    third = farm.start_on("n3", "-n", "4", *SOON)
    status, said = ended(third, timeout=60)
    assert status == 0, said
    farm.assert_each_task_stands_once(4)


def test_a_dead_farmer_of_a_job_is_no_second_one_when_its_node_is_back(farm: Farm) -> None:
    """Even while another host watches it, and so holds its presence: its process is gone, and that is known here."""
    farm.write(*[WAITS] * 3)
    first = farm.start_on("n1", "-n", "1", *SOON, SLURM_JOB_ID="12", SLURM_JOB_END_TIME="9999999999")
    wait_until(lambda: ran(farm, "begun") == [0])
    second = farm.start_on("n2", "-n", "1", "--dead-after", "60s")
    assert second.stdout is not None
    wait_until(lambda: ran(farm, "begun") == [0, 1])
    cut_power(first)
    assert any("is silent" in line for line in second.stdout), "it watches"
    third = farm.start_on("n1", "-n", "1", *SOON, SLURM_JOB_ID="12", SLURM_JOB_END_TIME="9999999999")
    wait_until(lambda: ran(farm, "begun") == [0, 1, 2])
    go(farm)
    wait_until(lambda: ran(farm, "ended") == [1, 2])
    second.terminate()  # long before it would take over: so who is back does, to whom the dead one's presence is given up
    assert ended(second)[0] == 75
    status, words = ended(third, timeout=60)
    assert status == 0, words
    assert "--ntasks-per-node" not in words


def test_a_suspended_host_is_not_dead(farm: Farm) -> None:
    farm.write(*[WAITS] * 2)
    first = farm.start_on("n1", "-n", "1", *SOON)
    wait_until(lambda: ran(farm, "begun") == [0])
    suspended = tree_of(first)
    kill(suspended, signal.SIGSTOP)
    second = farm.start_on("n2", "-n", "1", "--timeout", "20", *SOON)
    ended(second, timeout=60)
    assert ran(farm, "begun") == [0, 1]
    go(farm)
    kill(suspended, signal.SIGCONT)
    status, said = ended(first, timeout=60)
    assert status == 0, said
    farm.assert_each_task_stands_once(2)
    assert ran(farm, "ended").count(0) == 1


def test_one_whose_tasks_were_taken_over_ends_them_and_goes_on(farm: Farm) -> None:
    farm.write(f"[ -e go ] || echo $$ >> shells; {WAITS}", "true")
    farmer = farm.start_on("n1", "-n", "1", *SOON)
    wait_for(farm, "shells")
    (name,) = os.listdir(farm.workdir / "running")
    silent = Owner.parse(name)
    assert silent
    observer = TextStore(Workdir(str(farm.workdir), process.new_owner()))
    observer._recovery.take_over(silent)  # as another host does after the window
    observer.close()
    shell = int((farm.folder / "shells").read_text())
    wait_until(lambda: not proctable.exists(shell), what="the end of the task that was taken over")
    go(farm)
    status, said = ended(farmer, timeout=60)
    assert status == 0, said
    assert "another farmer took over" in said and "goes on under a new name" in said
    farm.assert_each_task_stands_once(2)
    assert ran(farm, "ended") == [0] and not (farm.workdir / "running" / name).exists()


def with_failing(tmp_path: Path, call: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code that uses `Presence(ALIVE)`, while a system call on that file fails as it does on NFS after a cut."""
    assert shutil.which("strace"), "strace is wanted: tests/components installs it"
    alive, trace = tmp_path / "alive", tmp_path / "trace"
    alive.touch()
    program = f"from taskfarmer.system.presence import Presence, is_held; ALIVE = {str(alive)!r}; {code}"
    strace = ["strace", "-f", "-qq", "-o", str(trace), "-P", str(alive), "-e", f"inject={call}"]
    # Not where we are: the package there would come before that of PYTHONPATH.
    words = [*strace, sys.executable, "-c", program]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "(INJECTED)" in trace.read_text()
    return done


def test_a_sign_of_life_counts_only_when_the_disk_has_it(tmp_path: Path) -> None:
    """What NFS merely took nobody else sees, and it takes it from one who is cut off, too."""
    done = with_failing(tmp_path, "fdatasync:error=EIO", "Presence(ALIVE).beat()")
    assert "Input/output error" in done.stderr


def test_one_whose_lock_was_lost_in_a_cut_shows_itself_again(tmp_path: Path) -> None:
    """Through a descriptor of its own: the old one refuses for ever."""
    beats = (
        "mine = Presence(ALIVE); old = mine._fd; mine.beat(); assert mine._fd != old and is_held(ALIVE); mine.beat()"
    )
    done = with_failing(tmp_path, "fdatasync:error=EIO:when=1", beats)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alive").read_text().split()[0] == f"{2:020}"


def test_one_whose_lock_was_lost_to_an_observer_gives_no_sign_of_life(tmp_path: Path) -> None:
    """On NFS the observer would not see it, while we went on."""
    observed = "mine = Presence(ALIVE); import fcntl, os; other = open(ALIVE); fcntl.flock(mine._fd, fcntl.LOCK_UN); fcntl.flock(other, fcntl.LOCK_EX); "
    done = with_failing(tmp_path, "fdatasync:error=EIO:when=1", observed + "mine.beat()")
    assert "BlockingIOError" in done.stderr.splitlines()[-1]


def test_a_sign_of_life_that_was_lost_is_no_trouble_for_one_who_leaves(tmp_path: Path) -> None:
    """NFS says so at the end, of a file whose lock it lost while it was cut off."""
    done = with_failing(tmp_path, "close:error=EIO", "Presence(ALIVE).close()")
    assert done.returncode == 0, done.stderr


def test_one_that_joins_where_locks_do_not_exclude_claims_nothing(farm: Farm) -> None:
    assert shutil.which("strace"), "strace is wanted: tests/components installs it"
    farm.write(*[WAITS] * 3)
    first = farm.start_on("n1", "-n", "1", *SOON)
    wait_until(lambda: ran(farm, "begun") == [0])
    # Every flock(2) of this one succeeds and does nothing, as on a filesystem that keeps locks to its own host.
    lying = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "inject=flock:retval=0"]
    command = [*on_host("n2"), *lying, *PROGRAM, "-n", "2", "tasks.txt"]
    said = subprocess.run(command, cwd=farm.folder, capture_output=True, text=True, timeout=60)
    assert said.returncode == 2, said.stdout + said.stderr
    assert "do not exclude between n2 and n1" in said.stderr, said.stderr
    assert ran(farm, "begun") == [0] and len(os.listdir(farm.workdir / "running")) == 1
    go(farm)
    status, out = ended(first, timeout=60)
    assert status == 0, out
    farm.assert_each_task_stands_once(3)


def test_an_exchange_that_died_with_its_host_is_done_by_another(farm: Farm) -> None:
    die_in_an_exchange(farm, 1)
    status, said = ended(farm.start_on("n2", *SOON), timeout=90)
    assert status == 0, said
    farm.assert_each_task_stands_once(3)


def test_a_soft_lock_that_died_with_its_host_is_taken_from_it(farm: Farm) -> None:
    """No kernel gives it back. The first exchange is that of a list, whose owner shows no sign of life yet."""
    die_in_an_exchange(farm, 2, "--lock", "soft")
    status, said = ended(farm.start_on("n2", *SOON), timeout=120)
    assert status == 0, said
    farm.assert_each_task_stands_once(3)


def die_in_an_exchange(farm: Farm, number: int, *flags: str) -> None:
    """The first host loses its power at the end of one of its exchanges."""
    assert shutil.which("strace"), "strace is wanted: tests/components installs it"
    farm.write("true", "true", "true")
    journal = f"{farm.workdir.name}/journal"
    dying = ["strace", "-qq", "-o", "/dev/null", "-P", journal, "-e", f"inject=unlink:signal=KILL:when={number}"]
    command = [*on_host("n1"), *dying, *PROGRAM, *SOON, *flags, "tasks.txt"]
    subprocess.run(command, cwd=farm.folder, capture_output=True, timeout=60)
    assert (farm.workdir / "journal").exists()
