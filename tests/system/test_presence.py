"""A farmer is alive as long as one of its processes is: not longer, not shorter."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskfarmer.system.presence import Presence, Sign, is_held, read_sign

pytestmark = pytest.mark.quick

HOLD = """
import sys
from taskfarmer.system.presence import Presence
presence = Presence(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


def holder(alive: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(alive)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout and child.stdout.readline() == "held\n"
    return child


def test_nobody_is_present_where_there_is_no_file(tmp_path: Path) -> None:
    assert is_held(str(tmp_path / "alive")) is False


LOOK = """
import os, sys
from taskfarmer.system.presence import seize
for number in range(int(sys.argv[2])):
    while True:
        try:
            fd = os.open(f"{sys.argv[1]}/{number}", os.O_RDWR)
            break
        except FileNotFoundError:
            pass
        if number == 0:
            print("looking", flush=True)
    if seize(fd):
        sys.exit(f"the presence of {number} was free")
    os.close(fd)
"""


def test_a_presence_is_held_from_the_moment_in_which_it_can_be_seen(tmp_path: Path) -> None:
    """An observer that had it first would keep its owner waiting until that was proved dead."""
    times = 200
    observer = subprocess.Popen(
        [sys.executable, "-c", LOOK, str(tmp_path), str(times)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert observer.stdout and observer.stdout.readline() == "looking\n"
    held = [Presence(str(tmp_path / str(number)), create=True) for number in range(times)]
    assert observer.communicate(timeout=60)[1] == ""
    for presence in held:
        presence.close()


def test_presence_lasts_until_it_is_given_up(tmp_path: Path) -> None:
    presence = Presence(str(tmp_path / "alive"), create=True)
    assert is_held(str(tmp_path / "alive")) is True
    assert is_held(str(tmp_path / "alive")) is True, "looking takes nothing away"
    presence.close()
    assert is_held(str(tmp_path / "alive")) is False


def test_presence_lasts_until_the_last_process_is_gone(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    farmer = Presence(str(alive), create=True)
    worker = holder(alive)
    farmer.close()
    assert is_held(str(alive)) is True
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    assert is_held(str(alive)) is False, "a zombie holds nothing"
    worker.communicate()


def test_a_stopped_process_is_present(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    Presence(str(alive), create=True).close()
    worker = holder(alive)
    os.kill(worker.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
    assert is_held(str(alive)) is True
    os.kill(worker.pid, signal.SIGCONT)
    worker.communicate("\n")
    assert is_held(str(alive)) is False


def test_a_task_does_not_inherit_presence(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    presence = Presence(str(alive), create=True)
    task = subprocess.Popen(["sleep", "600"], close_fds=False)
    presence.close()
    try:
        assert is_held(str(alive)) is False
    finally:
        task.kill()
        task.wait()


def test_a_worker_does_not_create_presence(tmp_path: Path) -> None:
    """A file that is gone says that we were taken over."""
    with pytest.raises(FileNotFoundError):
        Presence(str(tmp_path / "alive"))


def test_without_locks_the_processes_of_this_host_are_counted_and_those_of_others_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    alive = str(tmp_path / "alive")
    assert is_held(alive, here=False) is False, "it has not come, or has left"
    monkeypatch.setattr(fcntl, "flock", no_locks)
    Presence(alive, create=True).close()
    assert (is_held(alive), is_held(alive, here=False)) == (True, True), "this process is there"
    for name in tmp_path.glob("here_*"):
        name.unlink()
    assert (is_held(alive), is_held(alive, here=False)) == (False, True)


def test_each_beat_moves_the_counter(tmp_path: Path) -> None:
    presence = Presence(str(tmp_path / "alive"), create=True)
    seen = []
    for _ in range(3):
        presence.beat(well=5, failing=2)
        seen.append(read_sign(str(tmp_path / "alive")))
    presence.close()
    assert seen == [Sign(1, 5, 2, 0), Sign(2, 5, 2, 0), Sign(3, 5, 2, 0)]


def test_who_has_said_nothing_gives_no_sign(tmp_path: Path) -> None:
    assert read_sign(str(tmp_path / "alive")) is None
    presence = Presence(str(tmp_path / "alive"), create=True)
    assert read_sign(str(tmp_path / "alive")) is None
    presence.close()
