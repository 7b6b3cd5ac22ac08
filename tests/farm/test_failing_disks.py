"""P7: a disk that refuses, whichever file and whatever error: nothing is lost, a sentence says what, and exit 75.

The real program; strace makes the system calls on one file fail, from the moment two tasks run. Then they end.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import pytest
from conftest import PROGRAM, Farm, wait_until
from farmhands import children_of

COUNT = 8
PATIENT = 120
#: Counts each run in a file outside the workdir; the first two wait for `go`; one fails.
TASK = """\
echo $PROC_NUMBER >> ran
until [ -e go ]; do sleep 0.05; done
[ $PROC_NUMBER -gt 1 ] || sleep 1
[ $PROC_NUMBER != 1 ]
"""


class Fault(NamedTuple):
    """System calls on one file of the workdir that fail; `when` as strace counts them."""

    file: str
    calls: str
    error: str
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file} {self.calls} {self.error}"


IN_USE = [
    Fault("journal", "openat", "ENOSPC"),
    Fault("journal", "pwrite64", "EDQUOT"),
    Fault("journal", "fsync", "EIO"),
    Fault("toprocess", "openat", "ESTALE"),
    Fault("toprocess", "pread64", "EIO"),
    Fault("toprocess", "ftruncate", "EIO"),
    Fault("finished", "pwrite64", "ENOSPC"),
    Fault("finished", "fsync", "EIO"),
    Fault("failed", "pwrite64", "EROFS"),
    Fault("later", "pwrite64", "ENOSPC", ("--retries", "1")),
    Fault("attempts", "openat", "EDQUOT", ("--retries", "1")),
    Fault("attempts", "pread64", "EIO", ("--retries", "1")),
    Fault("sizes", "pwrite64", "EROFS"),
    Fault("sizes", "pread64", "EIO"),
    Fault("farm.json", "openat", "EIO"),
    Fault("running/OWNER/claims", "pwrite64", "ENOSPC"),
    Fault("running/OWNER/claims", "openat", "EIO"),
    Fault("running/OWNER/claims", "pread64", "EIO"),
    Fault("running/OWNER/claims", "pread64", "EBADF"),  # NFS 4.2, of a file that it could not open again after a cut
    Fault("logs/log_2", "openat", "ENOSPC"),
]
#: What does not keep tasks from being finished.
HARMLESS = [
    Fault("timeline.json", "openat", "EIO"),
    Fault("timeline.json", "pwrite64", "ENOSPC"),
    Fault("logs/log_2", "write", "ENOSPC"),
    Fault("running/OWNER/slot_0", "fdatasync", "EIO"),
    Fault("running/OWNER/slot_1", "write", "ENOSPC"),
    Fault("running/OWNER/alive", "pwrite64", "EIO"),
]
#: Before anything has run.
AT_START = [
    Fault("lock", "openat", "ENOSPC"),
    Fault("farm.json", "openat", "EIO"),
    Fault("farm.json.new", "openat", "EDQUOT"),
    Fault("farm.json.new", "pwrite64", "ENOSPC"),
    Fault("journal", "pwrite64", "ENOSPC"),
    Fault("later", "openat", "ENOSPC"),
    Fault("later", "pwrite64", "EDQUOT"),
    Fault("sizes", "openat", "EIO"),
    Fault("logs", "mkdir", "ENOSPC"),
    Fault("running", "mkdir", "EDQUOT"),
]


class Scene:
    """A farm in a folder of its own, whose first two tasks run."""

    def __init__(self, folder: Path, flags: tuple[str, ...] = ()) -> None:
        folder.mkdir()
        self.farm = Farm(folder)
        (folder / "task.sh").write_text(TASK)
        self.farm.write(*["sh task.sh; exit $?"] * COUNT)
        self.flags = ("-n", "2", *flags)
        self.said = folder / "said"

    def start(self) -> None:
        with open(self.said, "w") as said:
            self.farmer = self.farm.start(*self.flags, stdout=said, stderr=subprocess.STDOUT)
        wait_until(lambda: len(self.ran()) == 2, PATIENT, "two tasks")

    def ran(self) -> list[str]:
        path = self.farm.folder / "ran"
        return path.read_text().split() if path.exists() else []

    def go(self) -> None:
        (self.farm.folder / "go").touch()

    def end(self) -> tuple[int, str]:
        return self.farmer.wait(PATIENT), self.said.read_text()

    @contextmanager
    def refusing(self, fault: Fault) -> Iterator[None]:
        """These calls fail in the farmer and its workers."""
        (owner,) = (self.farm.workdir / "running").iterdir()
        with refusing(fault, self.farm, owner.name, self.farmer.pid):
            yield

    def finish(self) -> None:
        """The disk is well; start the same line again."""
        self.go()
        done = self.farm.run(*self.flags, timeout=PATIENT)
        assert done.returncode == 1, done.stdout + done.stderr
        self.is_finished()

    def is_finished(self) -> None:
        self.farm.assert_each_task_stands_once(COUNT)
        assert self.farm.ids("failed") == [1]
        assert sorted(self.farm.ids("finished")) == [0, *range(2, COUNT)]


@contextmanager
def refusing(fault: Fault, farm: Farm, owner: str, farmer: int) -> Iterator[None]:
    """These calls fail in a farmer and its workers."""
    pids = [farmer, *children_of(farmer)]
    note = farm.folder / "strace"
    with open(note, "w") as notes:
        strace = subprocess.Popen(
            [*strace_for(fault, farm.workdir / fault.file.replace("OWNER", owner)), *(f"-p{pid}" for pid in pids)],
            stderr=notes,
        )
    try:
        wait_until(lambda: note.read_text().count("attached") == len(pids), PATIENT, "strace")
        yield
    finally:
        strace.send_signal(signal.SIGINT)  # it lets go of them
        try:
            strace.wait(5)
        except subprocess.TimeoutExpired:
            strace.kill()  # it may wait for ever for one that is just starting a task
            strace.wait(PATIENT)


def strace_for(fault: Fault, path: Path) -> list[str]:
    assert shutil.which("strace"), "strace is wanted: tests/components installs it"
    inject = [word for call in fault.calls.split(",") for word in ("-e", f"inject={call}:error={fault.error}")]
    # A path is compared as the program spells it: some are relative.
    relative = os.path.join("tasks.txt_workdir", path.relative_to(path.parents[_depth(path)]))
    return ["strace", "-f", "-o", "/dev/null", "-P", str(path), "-P", relative, "-e", f"trace={fault.calls}", *inject]


def _depth(path: Path) -> int:
    return next(depth for depth, parent in enumerate(path.parents) if parent.name == "tasks.txt_workdir")


def for_each(faults: list[Fault], folder: Path, check: Callable[[Scene, Fault], None]) -> None:
    """All at once, because most of the time is spent with waiting; every fault that went wrong is told."""

    def one(numbered: tuple[int, Fault]) -> str:
        number, fault = numbered
        scene = Scene(folder / str(number), fault.flags)
        try:
            check(scene, fault)
        except (AssertionError, subprocess.TimeoutExpired, ValueError) as error:
            return (
                f"--- {fault}: {type(error).__name__} {error}\n{scene.said.read_text() if scene.said.exists() else ''}"
            )
        return ""

    with ThreadPoolExecutor(8) as pool:
        wrong = [text for text in pool.map(one, enumerate(faults)) if text]
    assert not wrong, "\n".join(wrong)


@pytest.mark.components
def test_a_disk_that_refuses_for_long_ends_the_farm_with_a_sentence_and_loses_nothing(farm: Farm) -> None:
    def check(scene: Scene, fault: Fault) -> None:
        scene.start()
        with scene.refusing(fault):
            scene.go()
            status, said = scene.end()
        assert status == 75, f"exit {status}"
        assert fault.file.split("/")[-1] in said, "which file?"
        assert os.strerror(getattr(errno, fault.error)) in said, "which error?"
        assert "tart the same line again" in said and "Traceback" not in said
        assert not {"0", "1"} - set(scene.ran()), "the running tasks were not ended"
        began = len(scene.ran())
        scene.finish()
        # Results are safe once known: nothing that had ended is run again (but for what a retry asks for).
        assert len(scene.ran()) == COUNT + (0 if not fault.flags else 1), f"{began} {scene.ran()}"

    for_each(IN_USE, farm.folder, check)


@pytest.mark.components
def test_a_disk_that_refuses_for_a_moment_is_waited_for(farm: Farm) -> None:
    def check(scene: Scene, fault: Fault) -> None:
        scene.start()
        with scene.refusing(fault):
            scene.go()
            wait_until(lambda: "trying again" in scene.said.read_text(), PATIENT, "the trouble")
        status, said = scene.end()
        assert status == 1, f"exit {status}"
        assert "Traceback" not in said
        scene.is_finished()

    for_each(IN_USE, farm.folder, check)


@pytest.mark.components
def test_a_log_or_timeline_that_cannot_be_written_keeps_no_task_from_finishing(farm: Farm) -> None:
    def check(scene: Scene, fault: Fault) -> None:
        scene.start()
        with scene.refusing(fault):
            scene.go()
            status, said = scene.end()
        assert status == 1, f"exit {status}"
        assert "Traceback" not in said
        scene.is_finished()
        assert len(scene.ran()) == COUNT

    for_each(HARMLESS, farm.folder, check)


@pytest.mark.components
def test_a_disk_that_refuses_at_the_start_is_told_and_the_next_start_finishes(farm: Farm) -> None:
    def check(scene: Scene, fault: Fault) -> None:
        strace = strace_for(fault, scene.farm.workdir / fault.file)
        words = [*strace, *PROGRAM, *scene.flags, "tasks.txt"]
        with open(scene.said, "w") as said:
            status = subprocess.run(
                words, cwd=scene.farm.folder, stdout=said, stderr=subprocess.STDOUT, timeout=PATIENT
            ).returncode
        text = scene.said.read_text()
        assert status == 75, f"exit {status}"
        assert "Traceback" not in text and text.count("\n") <= 2
        assert os.strerror(getattr(errno, fault.error)) in text
        assert "start the same line again" in text
        assert scene.ran() == []
        scene.finish()
        assert len(scene.ran()) == COUNT

    for_each(AT_START, farm.folder, check)


@pytest.mark.components
def test_what_is_left_is_said_though_no_task_could_be_claimed(farm: Farm) -> None:
    farm.write(*["test -e go"] * COUNT).run("-n", "1", "--max-failures", "1", check=1)
    fault = Fault("toprocess", "pread64", "EIO")
    words = [*strace_for(fault, farm.workdir / fault.file), *PROGRAM, "--progress", "lines", "tasks.txt"]
    said = subprocess.run(words, cwd=farm.folder, capture_output=True, text=True, timeout=PATIENT).stdout
    assert f": 0 done, 0 running, {COUNT - 1} left; " in said


# A disk of one's own


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A small disk in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Until not one byte more."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


@pytest.mark.components
@pytest.mark.parametrize("full", ["bytes", "names"])
@pytest.mark.parametrize("passes", [True, False], ids=["for a moment", "for long"])
def test_a_full_disk_loses_nothing(farm: Farm, full: str, passes: bool) -> None:
    options = "size=1m" if full == "bytes" else "size=8m,nr_inodes=60"
    with disk(farm.folder / "disk", options) as mount:
        scene = Scene(farm.folder / "scene")
        (mount / "work").mkdir()
        scene.farm.workdir = mount / "work"
        scene.flags += ("--workdir", str(mount / "work"))
        scene.start()
        if full == "bytes":
            fill(mount / "filler")
        else:
            (mount / "fillers").mkdir()
            with pytest.raises(OSError, match="No space left"):
                for number in range(60):
                    (mount / "fillers" / str(number)).touch()
        scene.go()
        wait_until(lambda: "trying again" in scene.said.read_text(), PATIENT, "the trouble")
        if not passes:
            status, said = scene.end()
            assert status == 75, said
            assert "tart the same line again" in said and "Traceback" not in said
        shutil.rmtree(mount / "fillers", ignore_errors=True)
        (mount / "filler").unlink(missing_ok=True)
        if passes:
            status, said = scene.end()
            assert status == 1, said
            scene.is_finished()
        else:
            scene.finish()
        assert len(scene.ran()) == COUNT


# Without special means


@pytest.mark.quick
def test_a_log_that_cannot_be_opened_fails_its_task_and_no_other(farm: Farm) -> None:
    """Every farmer would stop there again, for ever."""
    farm.write("true", "true", "true")
    (farm.workdir / "logs" / "log_1").mkdir(parents=True)
    done = farm.run("-n", "1", check=1)
    assert (farm.ids("finished"), farm.ids("failed")) == ([0, 2], [1])
    assert "failed  task 1  not started" in done.stdout and "logs/log_1: Is a directory" in done.stdout


@pytest.mark.quick
@pytest.mark.parametrize("verb", ["run", "status", "retry"])
def test_a_full_standard_output_ends_the_talking_and_not_the_farm(farm: Farm, verb: str) -> None:
    farm.write("true", "false")
    if verb != "run":
        farm.run(check=1)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, verb, "tasks.txt"], cwd=farm.folder, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.returncode == {"run": 1, "status": 75, "retry": 75}[verb]
    assert ("standard output" in done.stderr) is (verb != "run")
    farm.assert_each_task_stands_once(2)
