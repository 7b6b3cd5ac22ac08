"""The power goes, after any change that the real program makes to its files: what was not synced is there, or is not.

The program runs on a filesystem that records each change. For each moment of its way, each disk that a cut may leave
(powercut.py) is put in its place, and the program is started again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest
import straced
from acts import (
    CHANGED_LIST,
    CLAIM,
    DEAD_OWNER,
    LONG_TASK,
    MATERIALISE,
    REFUSED_RETRY,
    REFUSED_SETTLE,
    RETRY,
    SCENES,
    SETTLE,
    Bench,
    Scene,
)
from conftest import Farm, wait_until
from farmhands import kill, processes_in
from mutants import MUTANTS, plant
from powercut import Disk, Tree, flat, put
from test_planted_mutants import CAUGHT_BY

from taskfarmer.errors import LockError
from taskfarmer.stores.lines import EXCHANGE, parse_sizes
from taskfarmer.stores.section import alone_in
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process

pytestmark = pytest.mark.usefixtures("nobody_is_left_behind")

DONE = ("finished", "failed")
RECORDFS = Path(__file__).parents[1] / "components" / "recordfs.py"
COMPONENTS = Path(os.environ.get("COMPONENTS_DIR", Path.home() / ".cache" / "taskfarmer-components"))


@contextmanager
def recorded_to(record: Path, mount: Path) -> Iterator[None]:
    """What happens below `mount` is recorded."""
    if not (COMPONENTS / "mfusepy").is_dir() or not shutil.which("fusermount3"):
        pytest.skip("there is no FUSE here: tests/components/install.sh fuse")
    backing = record.with_suffix(".backing")
    backing.mkdir()
    mount.mkdir()
    env = {**os.environ, "PYTHONPATH": str(COMPONENTS / "mfusepy")}
    command = [sys.executable, str(RECORDFS), str(backing), str(mount), str(record)]
    server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: os.path.ismount(mount) or server.poll() is not None, what="the filesystem")
        assert server.poll() is None, f"it cannot be mounted: {server.communicate()[0]}"
        yield
    finally:
        kill(processes_in(mount))
        subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)
        server.terminate()  # another mount namespace, made meanwhile, would keep it at work
        server.communicate(timeout=60)


class Cut(NamedTuple):
    """When it was and what was lost; what is left; which tasks were settled then, and what `sizes` was last seen to be."""

    what: str
    left: Tree
    settled: set[int]
    sizes: bytes = b""


class Cuts:
    """The disks that a power cut may leave in the course of a scene.

    The moments are those before a sync, before and after a name is taken away, when most is at stake; or `every` one.
    """

    def __init__(self, scene: Scene, folder: Path, env: dict[str, str] | None = None, every: bool = False) -> None:
        record = folder / "record"
        self._every = every
        inject = refuse(scene, folder / "ahead", env)
        with recorded_to(record, folder / "farm"):
            self.bench = Bench(scene, folder)
            self._begin = len(Disk(record, is_safe).changes)
            if inject:
                straced.run(self.bench.farm, scene.words, inject, env=env)
            else:
                self.bench.farm.call(*scene.words, env=env)
        self._disk = Disk(record, is_safe)
        self._mtime = os.stat(folder / "kept" / "tasks.txt").st_mtime_ns
        self.put(self._disk.whole(len(self._disk.changes)))
        self.bench.go_on()

    def __iter__(self) -> Iterator[Cut]:
        seen = set()
        done: set[int] = set()
        sizes = b""
        for end in range(self._begin, len(self._disk.changes) + 1):
            whole = self._disk.whole(end)
            done = settled(whole, self.bench.scene.failed, done)
            sizes = seen_sizes(whole, sizes)
            if self._is_of_interest(end):
                for lost, left in self._disk.left_by_a_cut(self._begin, end, self._every):
                    # What tasks did in the meantime makes another moment, but not another disk.
                    files = ((path, data.hex()) for path, data in flat(left).items() if not is_safe(f"/{path}"))
                    key = json.dumps([sorted(done), *files])
                    if key not in seen:
                        seen.add(key)
                        yield Cut(f"after {self._disk.name_of(end - 1)}, lost: {lost}", left, done, sizes)

    def at_the_end(self) -> Iterator[Cut]:
        """When the command has ended."""
        for lost, left in self._disk.left_by_a_cut(self._begin, len(self._disk.changes)):
            yield Cut(f"at the end, lost: {lost}", left, set())

    def _is_of_interest(self, end: int) -> bool:
        """Whether an act is under way that this scene is for, and something is about to be made safe or removed."""
        scene, changes = self.bench.scene, self._disk.changes
        around = {words[0] for words, _, _ in changes[end - 1 : end + 1]}
        at_stake = end == len(changes) or "unlink" in around or changes[end].words[0] in ("sync", "rename", "rmdir")
        exchanges = sum(words[:1] + words[2:3] == ("create", "journal") for words, _, _ in changes[self._begin : end])
        act = scene.acts[min(max(exchanges, 1), len(scene.acts)) - 1]
        return act in scene.kill and (at_stake or self._every)

    def put(self, tree: Tree) -> None:
        """Have this on the disk."""
        put(tree, self.bench.farm.folder)
        os.utime(self.bench.farm.tasklist, ns=(self._mtime, self._mtime))

    def wake_up_after(self, cut: Cut) -> None:
        """The machine starts again, with this on its disk, and the same line. What was settled does not run again."""
        self.put(cut.left)
        ran = {id: begun(self.bench.farm, id) for id in range(20)}
        safe = cut.settled.union(self.bench.scene.told)
        try:
            self.bench.check_what_is_left()
            self.bench.go_on({id: times + (id not in safe) for id, times in ran.items()})
        except AssertionError as error:
            raise AssertionError(f"{cut.what}: {error}") from error


def refuse(scene: Scene, folder: Path, env: dict[str, str] | None) -> str | None:
    """What strace is told so that the disk refuses the scene's call, once."""
    if scene.refused is None:
        return None
    folder.mkdir()
    with recorded_to(folder / "record", folder / "farm"):  # on another filesystem other calls are made
        _, calls = straced.run(Bench(scene, folder).farm, scene.words, env=env)
    what, which = scene.refused
    call = [call for call in calls if str(call) == what][which - 1]
    return f"inject={call.name}:error=EIO:when={call.number}"


def is_safe(path: str) -> bool:
    """What these tests are not about: what tasks leave behind, and what nobody reads after a crash."""
    return "_workdir" not in path or "/logs/" in path or path.endswith("/alive")


def begun(farm: Farm, id: int) -> int:
    path = farm.folder / f"ran_{id}"
    return path.read_text().split().count("begun") if path.exists() else 0


def settled(tree: Tree, failed: tuple[int, ...], before: set[int]) -> set[int]:
    """The tasks that are done for good; while an exchange is under way, those that were so before it."""
    files = flat(tree)
    if "tasks.txt_workdir/journal" in files:
        return before
    ids = {
        name: set(map(int, re.findall(rb"^\d+", files.get(f"tasks.txt_workdir/{name}", b""), re.M))) for name in DONE
    }
    return ids["finished"] | ids["failed"] & set(failed)


def seen_sizes(tree: Tree, before: bytes) -> bytes:
    """What another farmer may have read in `sizes`: nobody looks while an exchange is under way."""
    files = flat(tree)
    return before if "tasks.txt_workdir/journal" in files else files.get("tasks.txt_workdir/sizes", b"")


SCENES_ON_DISK = [scene for scene in SCENES if scene.name != "a torn timeline"]
SCENES_ON_DISK += [LONG_TASK, REFUSED_SETTLE, REFUSED_RETRY]


def survive(cuts: Cuts, capsys: pytest.CaptureFixture[str]) -> None:
    number = 0
    for cut in cuts:
        cuts.wake_up_after(cut)
        number += 1
    with capsys.disabled():
        print(f" {cuts.bench.scene}: {number} disks", end="", flush=True)
    assert number > 5


@pytest.mark.parametrize("scene", SCENES_ON_DISK, ids=str)
@pytest.mark.components
def test_a_power_cut_loses_nothing_that_was_settled(scene: Scene, tmp_path: Path, capsys) -> None:
    survive(Cuts(scene, tmp_path), capsys)


@pytest.mark.campaign
@pytest.mark.parametrize("scene", SCENES_ON_DISK, ids=str)
def test_a_power_cut_at_any_moment_loses_nothing_that_was_settled(scene: Scene, tmp_path: Path, capsys) -> None:
    survive(Cuts(scene, tmp_path, every=True), capsys)


@pytest.mark.components
def test_what_was_said_not_to_have_happened_has_not_happened_after_a_power_cut_either(tmp_path: Path) -> None:
    nothing_has_happened_after(Cuts(REFUSED_RETRY, tmp_path))


def nothing_has_happened_after(cuts: Cuts) -> None:
    """The disk refused a retry, and it said so. Then the power goes."""
    for cut in cuts.at_the_end():
        cuts.put(cut.left)
        cuts.bench.farm.call("status", "tasks.txt")
        assert cuts.bench.farm.ids("failed") == [0, 2], cut.what


@pytest.mark.parametrize("scene", [CLAIM, SETTLE, RETRY], ids=str)
@pytest.mark.components
def test_who_lives_on_when_the_server_loses_its_power_is_shown_no_older_exchange(scene: Scene, tmp_path: Path) -> None:
    """Else it would take the filesystem for one that shows what was there before, and stop."""
    cuts = Cuts(scene, tmp_path)
    assert sum(live_on_after(cut, cuts) for cut in cuts) > 5


def live_on_after(cut: Cut, cuts: Cuts) -> bool:
    """What one finds who has seen the farm just before; whether there was anything to be seen."""
    known = parse_sizes(cut.sizes)
    if known is None:
        return False
    cuts.put(cut.left)
    workdir = Workdir(str(cuts.bench.farm.workdir), process.new_owner())
    workdir.remember_exchange(known[EXCHANGE], cut.sizes)
    try:
        with alone_in(workdir) as section:
            assert section.sizes
    except LockError as error:
        raise AssertionError(f"{cut.what}: {error}") from error
    finally:
        workdir.close()
    return True


# Planted defects

#: The scene in which each is caught, and what is lost then.
CAUGHT_IN = {
    "done before the journal is synced": (SETTLE, "content /tasks.txt_workdir/journal"),
    "names synced after the record": (MATERIALISE, "name /tasks.txt_workdir/farm.json"),
    "fsync left out: the record": (SETTLE, "content /tasks.txt_workdir/journal"),
    "fsync left out: the names of the journal and of what is to be swapped in": (
        SETTLE,
        "name /tasks.txt_workdir/journal",
    ),
    "fsync left out: names that changed in another folder": (DEAD_OWNER, "claims"),
    "fsync left out: names that changed in the workdir": (CLAIM, "name /tasks.txt_workdir/toprocess"),
    "fsync left out: sizes, which other hosts see": (SETTLE, "content /tasks.txt_workdir/sizes"),
    "fsync left out: a file that grew or shrank": (RETRY, "content /tasks.txt_workdir/later"),
    "fsync left out: what was written aside": (CHANGED_LIST, "content /tasks.txt_workdir/later.new"),
    "fsync left out: farm.json.new": (MATERIALISE, "content /tasks.txt_workdir/farm.json.new"),
    "fsync left out: later, turned round": (CLAIM, "content /tasks.txt_workdir/toprocess.new"),
    "fsync left out: an owner's files": (CLAIM, "claims"),
    "fsync left out: an owner's folder": (CLAIM, "name /tasks.txt_workdir/running/"),
    "fsync left out: the name of the workdir": (SETTLE, "all that was not synced"),
    "fsync left out: folders": (CLAIM, "name /tasks.txt_workdir/running/"),
    "fsync left out: the outcome of a long attempt": (LONG_TASK, "slot_0"),
    "fsync left out: claims that were put back": (REFUSED_SETTLE, "claims"),
    "fsync left out: a file that was cut back": (REFUSED_RETRY, "content /tasks.txt_workdir/later"),
    "fsync left out: the journal's removal when an exchange is taken back": (REFUSED_RETRY, "nothing of interest"),
}


@pytest.mark.parametrize("name", CAUGHT_IN)
@pytest.mark.components
def test_a_planted_mutant_does_not_survive_a_power_cut(name: str, tmp_path: Path) -> None:
    scene, what = CAUGHT_IN[name]
    planted = plant(MUTANTS[name], tmp_path / "planted")
    cuts = Cuts(scene, tmp_path, {**os.environ, "PYTHONPATH": str(planted)})
    with pytest.raises(AssertionError) as caught:
        for cut in cuts:
            if what in cut.what.partition("lost: ")[2]:
                cuts.wake_up_after(cut)
                live_on_after(cut, cuts)
        if scene is REFUSED_RETRY:
            nothing_has_happened_after(cuts)
    print(f"{name}: {str(caught.value).splitlines()[0]}")


@pytest.mark.components
def test_no_planted_mutant_is_forgotten() -> None:
    assert sorted([*CAUGHT_IN, *CAUGHT_BY]) == sorted(MUTANTS)
