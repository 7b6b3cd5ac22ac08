"""Where the lock is, that it excludes, and that a dead holder stops nobody."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskfarmer.errors import LockError
from taskfarmer.system.lock import KINDS, FarmLock, choose_place, filesystem_of

pytestmark = pytest.mark.quick

HOLD = """
import sys, time
from taskfarmer.system.lock import FarmLock
lock = FarmLock(sys.argv[1], sys.argv[2])
with lock:
    print("held", flush=True)
    sys.stdin.readline()
"""
#: Read, think, write: two that do this at once lose a count.
COUNT = """
import sys
from taskfarmer.system.lock import FarmLock
lock = FarmLock(sys.argv[1], sys.argv[2])
for _ in range(int(sys.argv[4])):
    with lock:
        number = int(open(sys.argv[3]).read() or 0)
        open(sys.argv[3] + ".in", "x").close()
        open(sys.argv[3], "w").write(str(number + 1))
        __import__("os").unlink(sys.argv[3] + ".in")
"""


def name_of(workdir: Path) -> str:
    """The ancestor's name of a lock in `$SCRATCH`."""
    return hashlib.md5(os.path.realpath(workdir).encode()).hexdigest() + "_lock"


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


# Where


def test_the_lock_is_in_the_workdir_when_nothing_is_said(workdir: Path) -> None:
    assert choose_place(str(workdir), None, None) == str(workdir / "lock")


def test_the_lock_is_in_scratch_where_that_is_safe(workdir: Path, scratch: Path) -> None:
    assert choose_place(str(workdir), None, str(scratch)) == str(scratch / name_of(workdir))


def test_the_lock_is_where_lock_dir_says(workdir: Path, scratch: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "locks"
    wanted.mkdir()
    assert choose_place(str(workdir), str(wanted), str(scratch)) == str(wanted / name_of(workdir))


@pytest.mark.parametrize("what", ["missing", "file"])
def test_a_lock_dir_that_is_none_is_refused(workdir: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LockError, match="--lock-dir"):
        choose_place(str(workdir), str(tmp_path / what), None)


def test_a_workdir_has_one_lock_by_whatever_name_it_is_reached(workdir: Path, scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(workdir)
    assert choose_place(str(tmp_path / "link"), None, str(scratch)) == choose_place(str(workdir), None, str(scratch))
    assert choose_place(str(tmp_path / "link"), None, None) == str(workdir / "lock")


def test_scratch_is_passed_over_when_a_group_shares_the_workdir(workdir: Path, scratch: Path) -> None:
    workdir.chmod(0o2775)
    assert choose_place(str(workdir), None, str(scratch)) == str(workdir / "lock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_scratch_is_passed_over_when_the_workdir_is_another_users(workdir: Path, scratch: Path) -> None:
    os.chown(workdir, 65534, 65534)
    assert choose_place(str(workdir), None, str(scratch)) == str(workdir / "lock")


def test_a_scratch_that_is_not_there_is_passed_over(workdir: Path, tmp_path: Path) -> None:
    assert choose_place(str(workdir), None, str(tmp_path / "nowhere")) == str(workdir / "lock")
    assert choose_place(str(workdir), None, "") == str(workdir / "lock")


def test_a_local_scratch_is_passed_over_when_the_workdir_is_on_a_shared_disk(
    workdir: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one thing that a single machine does not have: a second kind of filesystem.
    kinds = {str(workdir): "nfs4", str(scratch): "ext4"}
    monkeypatch.setattr("taskfarmer.system.lock.filesystem_of", lambda path: kinds[path])
    assert choose_place(str(workdir), None, str(scratch)) == str(workdir / "lock")
    kinds[str(scratch)] = "lustre"
    assert choose_place(str(workdir), None, str(scratch)) == str(scratch / name_of(workdir))
    kinds.update({str(workdir): "xfs", str(scratch): "tmpfs"})
    assert choose_place(str(workdir), None, str(scratch)) == str(scratch / name_of(workdir))


def test_tmp_and_tmpdir_never_hold_the_lock(workdir: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They differ from node to node: the ancestor lost tasks that way."""
    from taskfarmer.stores.section import alone_in
    from taskfarmer.stores.workdir import Workdir
    from taskfarmer.system import process

    for name in ("TMP", "TMPDIR", "TEMP"):
        monkeypatch.setenv(name, str(scratch))
    monkeypatch.delenv("SCRATCH", raising=False)
    opened = Workdir(str(workdir), process.new_owner())
    with alone_in(opened) as section:
        assert section.workdir.found_farm()["lock"]["path"] == str(workdir / "lock")
    opened.close()
    assert list(scratch.iterdir()) == []


def test_a_filesystem_is_known_by_its_mount() -> None:
    assert filesystem_of("/proc/self") == "proc"
    assert filesystem_of("/sys/kernel") == "sysfs"
    assert filesystem_of("/") != ""


# Excluding


def start(program: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_never_inside_at_once(tmp_path: Path, kind: str) -> None:
    counter = tmp_path / "counter"
    counter.touch()
    both = [start(COUNT, str(tmp_path / "lock"), kind, str(counter), "60") for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert counter.read_text() == "120"
    for one in both:
        one.communicate()


@pytest.mark.parametrize("kind", KINDS)
def test_one_waits_until_the_other_is_out(tmp_path: Path, kind: str) -> None:
    first = start(HOLD, str(tmp_path / "lock"), kind)
    assert first.stdout and first.stdout.readline() == "held\n"
    lock = FarmLock(str(tmp_path / "lock"), kind)
    inside = lock._held or _attempt(lock)
    assert inside is False
    first.communicate("\n")
    with lock:
        pass
    lock.close()


def _attempt(lock: FarmLock) -> bool:
    """One try, without waiting."""
    from taskfarmer.system.lock import _Flock, _Soft

    one = _Flock(lock.path) if lock.kind == "flock" else _Soft(lock.path)
    got = one.try_take()
    one.close()
    return got


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, kind: str) -> None:
    first = start(HOLD, str(tmp_path / "lock"), kind)
    assert first.stdout and first.stdout.readline() == "held\n"
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    with FarmLock(str(tmp_path / "lock"), kind) as lock:
        assert _attempt(lock) is False
    lock.close()


def test_a_soft_lock_of_a_dead_process_is_taken_over_though_its_pid_is_used_again(tmp_path: Path) -> None:
    first = start(HOLD, str(tmp_path / "lock"), "soft")
    assert first.stdout and first.stdout.readline() == "held\n"
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    claims = list(tmp_path.glob("lock.soft.filelock/claims/*"))
    assert claims
    for claim in claims:  # as if this process had been given the dead one's pid
        claim.write_text(claim.read_text().replace(f"\n{first.pid}\n", f"\n{os.getpid()}\n"))
    with FarmLock(str(tmp_path / "lock"), "soft") as lock:
        pass
    lock.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_is_taken_again_and_again(tmp_path: Path, kind: str) -> None:
    lock = FarmLock(str(tmp_path / "lock"), kind)
    for _ in range(5):
        with lock:
            assert _attempt(lock) is False
    lock.close()


def test_long_waiting_is_announced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskfarmer.system.lock.ANNOUNCE_AFTER", 0.05)
    first = start(HOLD, str(tmp_path / "lock"), "flock")
    assert first.stdout and first.stdin and first.stdout.readline() == "held\n"
    announced = []

    def let_go() -> None:
        announced.append(1)
        assert first.stdin
        first.stdin.write("\n")
        first.stdin.flush()

    with FarmLock(str(tmp_path / "lock"), "flock", let_go):
        assert announced == [1]
    first.communicate()
