"""What is asked of a filesystem, asked of a real one; and meetings that break up."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from conftest import wait_until

from taskfarmer.errors import Interrupted, MeetingError
from taskfarmer.system import files, probe
from taskfarmer.system.findings import YES, Answer, Group
from taskfarmer.system.meeting import Meeting
from taskfarmer.system.mounts import mount_of

pytestmark = pytest.mark.quick


def nothing() -> None:
    """No reason to stop."""


class Two:
    """Two at a meeting, in two threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder / "meeting")

    def play(self, part: Callable[[Meeting], Any]) -> Any:
        """What the leader gets when both play this part."""
        results: dict[int, Any] = {}

        def sit() -> None:
            with Meeting(self.folder, 2) as meeting:
                results[meeting.seat] = part(meeting)

        threads = [threading.Thread(target=sit) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not os.path.exists(self.folder)
        return results[0]


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


def test_a_local_filesystem_answers_yes_to_everything(tmp_path: Path) -> None:
    assert probe.on_one_host(str(tmp_path / "probe"), nothing) == Group(YES, YES, YES, YES, YES)


def test_two_hosts_see_each_other_at_once_on_a_local_filesystem(two: Two) -> None:
    delays = two.play(probe.delays)
    assert max(delays) < probe.LONGEST_DELAY


def test_clocks_of_one_host_do_not_differ(two: Two) -> None:
    (clock,) = two.play(probe.clocks)
    assert abs(clock.ahead) <= clock.within + 0.01


def test_a_clock_that_is_ahead_is_told_as_ahead(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    follower: list[threading.Thread] = []

    def time_of_day() -> float:
        return time.time() + (60.0 if threading.current_thread() in follower else 0.0)

    clocks = SimpleNamespace(time=time_of_day, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(probe, "time", clocks)

    def part(meeting: Meeting) -> Any:
        if not meeting.leads:
            follower.append(threading.current_thread())
            meeting.say("set")
        else:
            meeting.hear(1, "set")
        return probe.clocks(meeting)

    (clock,) = two.play(part)
    assert abs(clock.ahead - 60.0) <= clock.within + 0.01


# Broken filesystems, made by breaking the calls


def test_names_that_two_can_make_are_noticed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_make", lambda path: True)
    assert two.play(probe._create).answer is Answer.NO


def test_a_replaced_file_that_is_half_old_is_noticed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(path: str, number: int) -> None:
        fd = files.open_or_create(path)
        files.write_all(fd, b"%06d\n" % number * 500, 0)
        time.sleep(0.02)
        files.write_all(fd, b"%06d\n" % number * 500, 3500)
        os.close(fd)

    monkeypatch.setattr(probe, "_replace", replace)
    assert two.play(probe._rename).answer is Answer.NO


def test_content_that_is_remembered_is_noticed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bytes] = {}

    def read_from_memory(path: str, text: bytes) -> bool:
        with open(path, "rb") as file:
            now = file.read()
        return seen.setdefault(path, now) == text or len(seen[path]) != len(now) == len(text)

    monkeypatch.setattr(probe, "_is_seen", read_from_memory)
    monkeypatch.setattr(probe, "_CONTENT_WITHIN", 0.1)
    trial = two.play(probe._content)
    assert trial.answer is Answer.NO
    assert trial.note == "an overwritten file is seen not at all"


def test_locks_that_both_get_are_noticed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_try_flock", lambda path, kind: "got")
    assert two.play(probe._flock) == (Answer.NO, "both of two got it")


def test_shared_locks_that_do_not_keep_others_out_are_noticed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A farmer's presence is a shared lock."""
    leader: list[threading.Thread] = []

    def flock(fd: int, kind: int) -> None:
        gives_way = kind & fcntl.LOCK_SH and threading.current_thread() in leader
        fcntl.flock(fd, fcntl.LOCK_UN if gives_way else kind)

    def part(meeting: Meeting) -> Any:
        if meeting.leads:
            leader.append(threading.current_thread())
        return probe._flock(meeting)

    names = {name: getattr(fcntl, name) for name in ("LOCK_EX", "LOCK_NB", "LOCK_UN", "LOCK_SH")}
    assert two.play(part) == YES
    leader.clear()
    monkeypatch.setattr(probe, "fcntl", SimpleNamespace(flock=flock, **names))
    assert two.play(part).answer is Answer.NO


@pytest.mark.parametrize("kind", ["flock", "soft"])
def test_counts_that_are_lost_are_noticed(two: Two, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLock:
        """A lock that everybody gets."""

        def __init__(self, *args: object) -> None: ...

        def __enter__(self) -> None: ...

        def __exit__(self, *exc: object) -> None: ...

        def close(self) -> None: ...

    def add_one_slowly(path: str) -> None:
        fd = files.open_or_create(path)
        number = int(files.read_all(fd) or b"0")
        time.sleep(0.005)
        files.write_all(fd, b"%012d\n" % (number + 1), 0)
        os.close(fd)

    monkeypatch.setattr(probe, "_add_one", add_one_slowly)
    assert two.play(lambda meeting: probe._race(meeting, kind)) == YES
    monkeypatch.setattr(probe, "FarmLock", NoLock)
    assert two.play(lambda meeting: probe._race(meeting, kind)).answer is Answer.NO


def test_a_lock_call_that_never_returns_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_hold", lambda path, line: time.sleep(600))
    monkeypatch.setattr(probe, "_HANGS_AFTER", 0.2)
    assert probe._flock_on_one_host(str(tmp_path / "held"), nothing).answer is Answer.HANGS


# Meetings


def test_who_leaves_early_is_named_to_the_others(two: Two) -> None:
    caught: list[str] = []

    def part(meeting: Meeting) -> None:
        if not meeting.leads:
            raise Interrupted("stopped (Ctrl-C)")
        meeting.call(1, "n2")
        try:
            meeting.hear(1, "here")
        except MeetingError as error:
            caught.append(str(error))
            raise

    threads = [threading.Thread(target=_quiet, args=(two.folder, part)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert caught == ["n2 has left: stopped (Ctrl-C)"]
    assert not os.path.exists(two.folder)


def _quiet(folder: str, part: Callable[[Meeting], None]) -> None:
    try:
        with Meeting(folder, 2) as meeting:
            part(meeting)
    except (Interrupted, MeetingError):
        pass


def test_who_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "meeting"
    with pytest.raises(MeetingError, match="seat 1 was not heard of for 0.2 s"), Meeting(str(folder), 2) as meeting:
        meeting.hear(1, "here", 0.2)
    assert not folder.exists()


def test_a_third_finds_no_seat_and_disturbs_nobody(tmp_path: Path) -> None:
    folder = str(tmp_path / "meeting")
    first, second = Meeting(folder, 2), Meeting(folder, 2)
    with pytest.raises(MeetingError, match="Use another token"):
        Meeting(folder, 2)
    second.say("here")
    assert first.hear(1, "here") == []


def test_a_meeting_whose_folder_is_removed_breaks_up(tmp_path: Path) -> None:
    folder = tmp_path / "meeting"
    caught: list[BaseException] = []

    def wait_for_ever() -> None:
        try:
            with Meeting(str(folder), 2) as meeting:
                meeting.hear(1, "here")
        except MeetingError as error:
            caught.append(error)

    thread = threading.Thread(target=wait_for_ever)
    thread.start()
    wait_until(lambda: (folder / "said_1").exists())
    for _ in range(100):  # it may put a name back while we remove them
        os.system(f"rm -rf {folder}")
    thread.join(60)
    assert [str(error).startswith("seat 1 has left, or somebody removed") for error in caught] == [True]


def test_a_half_written_line_is_not_heard(tmp_path: Path) -> None:
    folder = tmp_path / "meeting"
    first = Meeting(str(folder), 2)
    (folder / "said_1").write_text("he")
    assert first._next_line(1) is None
    (folder / "said_1").write_text('here ["n2"]\n')
    assert first.hear(1, "here") == ["n2"]


def test_the_mount_of_a_path_is_told_with_its_options() -> None:
    assert mount_of("/proc/self").kind == "proc"
    assert {"rw", "ro"} & set(mount_of("/proc/self").options)
    assert mount_of("/").kind != ""
