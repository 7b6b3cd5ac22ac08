"""All farmers of a farm use one lock, whatever their environment says and by whatever name they reach the workdir."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Iterator

import pytest
from conftest import PROGRAM, Farm, wait_until

pytestmark = pytest.mark.quick

PATIENT = 120


def recorded(farm: Farm) -> dict[str, str]:
    """The lock as `farm.json` names it."""
    return json.loads((farm.workdir / "farm.json").read_text())["lock"]


def founded(farm: Farm, *flags: str, **environment: str) -> Farm:
    """A farm whose first farmer had this environment; two of its tasks are left, for they wait for `go`."""
    farm.write("true", *[f"[ -e {farm.folder}/go ]"] * 2)
    farm.run(*flags, check=1, env={**os.environ, **environment})
    (farm.folder / "go").touch()
    assert farm.call("retry", "tasks.txt").returncode == 0
    return farm


class Other:
    """A second farmer, who comes with an environment, a folder and a name of the workdir of its own."""

    def __init__(self, farm: Farm, cwd: Path, words: list[str], environment: dict[str, str]) -> None:
        number = len(list(farm.folder.glob("said_*")))
        self.said = farm.folder / f"said_{number}"
        with open(self.said, "w") as said:
            self.process = subprocess.Popen(
                [*PROGRAM, *words], cwd=cwd, env={**os.environ, **environment}, stdout=said, stderr=said
            )

    def waits(self) -> bool:
        """Whether it has said that it waits for the lock."""
        return "waiting for the lock" in self.said.read_text()

    def has_ended(self) -> bool:
        """Whether it went past the lock, or gave up."""
        return self.process.poll() is not None

    def end(self) -> tuple[int, str]:
        return self.process.wait(PATIENT), self.said.read_text()


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """As by a farmer that is inside."""
    fd = os.open(lock, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def ways_to(farm: Farm, scratch: str) -> list[tuple[Path, list[str], dict[str, str]]]:
    """Current folder, words and environment of farmers that would each choose another lock."""
    (farm.folder / "link").symlink_to(farm.workdir)
    (farm.folder / "elsewhere").mkdir()
    return [
        (farm.folder, ["tasks.txt"], {"SCRATCH": scratch}),
        (farm.folder, ["--lock-dir", scratch, "tasks.txt"], {}),
        (farm.folder, ["--workdir", "link", "tasks.txt"], {"SCRATCH": scratch}),
        (farm.folder, ["tasks.txt"], {"TMP": scratch, "TMPDIR": scratch, "TEMP": scratch}),
        (farm.folder, ["--lock", "soft", "tasks.txt"], {}),
        (farm.folder / "elsewhere", ["-w", "../tasks.txt_workdir", "../tasks.txt"], {"SCRATCH": scratch}),
        (farm.folder / "elsewhere", ["-w", "../link/../tasks.txt_workdir/.", "../tasks.txt"], {}),
        (Path("/"), [str(farm.tasklist)], {"TMPDIR": scratch}),
    ]


def test_who_comes_later_uses_the_recorded_lock(farm: Farm) -> None:
    """Several at once, each with another idea of where the lock is: all wait for the one that was recorded."""
    for name in ("place", "scratch", "plain", "by_scratch", "by_flag"):
        (farm.folder / name).mkdir()
    place, scratch = str(farm.folder / "place"), str(farm.folder / "scratch")
    plain = founded(Farm(farm.folder / "plain"))
    by_scratch = founded(Farm(farm.folder / "by_scratch"), SCRATCH=place)
    by_flag = founded(Farm(farm.folder / "by_flag"), "--lock-dir", place)
    farms = {plain: ways_to(plain, scratch), by_scratch: ways_to(by_scratch, scratch)[:3]}
    farms[by_flag] = ways_to(by_flag, scratch)[:3]
    locks = [Path(recorded(one)["path"]) for one in farms]
    assert [lock.parent for lock in locks] == [plain.workdir, Path(place), Path(place)]
    before = {path: path.read_bytes() for one in farms for path in one.workdir.glob("*") if path.is_file()}
    with ExitStack() as stack:
        for lock in locks:
            stack.enter_context(held(lock))
        others = [Other(one, *way) for one, ways in farms.items() for way in ways]
        wait_until(lambda: all(other.waits() or other.has_ended() for other in others), PATIENT, "waiting")
        assert [other.said.read_text() for other in others if other.has_ended()] == []
        assert {path: path.read_bytes() for path in before} == before
    ends = [other.end() for other in others]
    assert [status for status, _ in ends] == [0] * len(ends), ends
    for one in farms:
        one.assert_each_task_stands_once(3)
    assert list((farm.folder / "scratch").iterdir()) == []


def test_a_bind_mount_of_the_workdir_has_the_same_lock(farm: Farm) -> None:
    founded(farm)
    mount = farm.folder / "mount"
    mount.mkdir()
    subprocess.run(["mount", "--bind", str(farm.workdir), str(mount)], check=True)
    try:
        with held(Path(recorded(farm)["path"])):
            other = Other(farm, farm.folder, ["-w", "mount", "tasks.txt"], {})
            wait_until(other.waits, PATIENT, "waiting")
        status, said = other.end()
        assert status == 0, said
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    farm.assert_each_task_stands_once(3)


def in_its_place(old: Path) -> None:
    old.mkdir()
    Farm(old).write("true").run(check=0)


MOVES = {
    "moved": lambda old, new: old.rename(new),
    "moved, another in its place": lambda old, new: (old.rename(new), in_its_place(old)),
    "copied": lambda old, new: shutil.copytree(old, new),
    "copied, the first one removed": lambda old, new: (shutil.copytree(old, new), shutil.rmtree(old)),
}


@pytest.mark.parametrize("how", MOVES)
def test_a_farm_that_was_moved_has_its_lock_with_it(tmp_path: Path, how: str) -> None:
    """A copy is another farm, though the first one is still there: on some hosts it may not be."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    farm = founded(Farm(old))
    farm.write("true", *[f"[ -e {old}/go ]"] * 2)
    MOVES[how](old, new)
    old.mkdir(exist_ok=True)
    (old / "go").touch()
    moved = Farm(new)
    assert moved.call("status", "tasks.txt").returncode == 75
    with held(moved.workdir / "lock"):
        other = Other(moved, new, ["tasks.txt"], {})
        wait_until(lambda: other.waits() or other.has_ended(), PATIENT, "waiting")
        assert not other.has_ended(), other.said.read_text()
    assert other.end()[0] == 0
    moved.assert_each_task_stands_once(3)


def test_a_workdir_that_was_renamed_is_used_under_its_new_name(farm: Farm) -> None:
    founded(farm)
    farm.workdir.rename(farm.folder / "kept")
    assert farm.call("status", "kept").returncode == 75
    farm.run("-w", "kept", check=0)


def stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("when", ["while it founds the farm", "later"])
def test_a_farmer_frozen_inside_its_exchange_is_waited_for_and_named(farm: Farm, when: str) -> None:
    """A suspended farmer is not dead: nobody goes past it, and the waiting one says for whom it waits.

    Before the place of the lock is recorded, the two may have different ones; then the journal keeps them apart.
    """
    farm.tasklist.write_text("# a list that takes a while to read\n" * 500_000 + "sleep 0.01\n" * 1000)
    first = farm.start("-n", "2")
    try:
        if when == "later":
            wait_until(lambda: farm.lines("finished"), PATIENT, "the first task")

        # Inside is who has a journal with its name: stopped now and then, after a few tries it stands still with one.
        def is_frozen_inside() -> bool:
            os.kill(first.pid, signal.SIGSTOP)
            wait_until(lambda: stands_still(first.pid), PATIENT, "a stopped process")
            journal = farm.workdir / "journal"
            if journal.exists() and journal.stat().st_size:
                return True
            os.kill(first.pid, signal.SIGCONT)
            return False

        wait_until(is_frozen_inside, PATIENT, "the farmer inside")
        assert (farm.workdir / "farm.json").stat().st_size == 0 or when == "later"
        before = {path: path.read_bytes() for path in farm.workdir.glob("*") if path.is_file()}
        other = Other(farm, farm.folder, ["-n", "2", "tasks.txt"], {"SCRATCH": str(farm.folder)})
        wait_until(other.waits, PATIENT, "waiting")
        assert f"held by {os.uname().nodename}.{first.pid}." in other.said.read_text()
        assert {path: path.read_bytes() for path in before} == before
    finally:
        os.kill(first.pid, signal.SIGCONT)
    status, said = other.end()
    assert status == 0, said
    assert first.wait(PATIENT) == 0
    farm.assert_each_task_stands_once(1000)


def test_a_soft_lock_stays_a_soft_lock(farm: Farm) -> None:
    """The kind is recorded, too: a native lock would not see it."""
    founded(farm, "--lock", "soft")
    assert recorded(farm)["kind"] == "soft"
    assert farm.run("--lock", "flock").returncode == 0
    assert recorded(farm)["kind"] == "soft"
    farm.assert_each_task_stands_once(3)


# A lock that cannot be trusted


@pytest.fixture
def far_lock(farm: Farm) -> Path:
    """A farm whose lock is in a folder of its own."""
    (farm.folder / "locks").mkdir()
    founded(farm, "--lock-dir", "locks")
    return Path(recorded(farm)["path"])


def assert_refused(farm: Farm, lock: Path, *flags: str) -> str:
    names = ("toprocess", "later", "finished", "failed", "farm.json", "attempts", "sizes")
    before = {name: (farm.workdir / name).read_bytes() for name in names}
    done = farm.run(*flags, check=2)
    assert str(lock) in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert {name: (farm.workdir / name).read_bytes() for name in names} == before
    assert not list((farm.workdir / "running").iterdir()) and not (farm.workdir / "journal").exists()
    return done.stderr


def test_a_lock_place_that_is_gone_is_told(farm: Farm, far_lock: Path) -> None:
    far_lock.unlink()
    far_lock.parent.rmdir()
    assert "No such file" in assert_refused(farm, far_lock)
    # --lock-dir says where a new farm's lock shall be; this one has a place.
    assert_refused(farm, far_lock, "--lock-dir", str(farm.folder))


def test_a_lock_place_that_cannot_be_written_is_told(farm: Farm, far_lock: Path) -> None:
    far_lock.unlink()
    far_lock.mkdir()
    assert_refused(farm, far_lock)


def test_the_lock_of_another_farm_is_told(farm: Farm, far_lock: Path) -> None:
    """Another node's folder of the same name, or a copied workdir."""
    far_lock.write_text("0123456789abcdef\n")
    assert "farm.json" in assert_refused(farm, far_lock)


def test_a_lock_file_that_a_clean_up_has_taken_is_made_again(farm: Farm, far_lock: Path) -> None:
    """Sites empty $SCRATCH. Nobody lives, so nobody holds the old one."""
    far_lock.unlink()
    farm.run(check=0)
    assert far_lock.read_text().strip() == recorded(farm)["nonce"]
    farm.assert_each_task_stands_once(3)


def test_a_lock_file_that_is_taken_away_from_a_living_farmer_is_told(farm: Farm, far_lock: Path) -> None:
    """It holds a file that no name leads to any more: who made a new one would be alone with it."""
    farm.write("true", *[f"[ -e {farm.folder}/go ]"] * 2, "touch begun; until [ -e end ]; do sleep 0.05; done")
    first = farm.start("-n", "1")
    wait_until((farm.folder / "begun").exists, PATIENT, "the task")
    far_lock.unlink()
    done = farm.run(check=2)
    assert str(far_lock) in done.stderr
    (farm.folder / "end").touch()
    assert first.wait(PATIENT) == 0
    farm.assert_each_task_stands_once(4)
