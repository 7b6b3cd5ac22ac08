"""Bad input gets a sentence on stderr and exit 2; nothing is touched (P6)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

import pytest
from scenes import PROGRAM, left_behind

import taskfarmer

pytestmark = pytest.mark.quick

STRANGER = 65534
PACKAGE = Path(taskfarmer.__file__).parent
SCRIPT = Path(__file__).parents[2] / "scripts" / "pytaskfarmer.py"


def refused(farm, *words: str) -> str:
    """Run, see that it is refused in one sentence and that nothing was touched; return the sentence."""
    before = left_behind(farm.folder)
    done = farm.call(*words)
    assert (done.returncode, done.stdout) == (2, ""), f"{done.stdout}\n{done.stderr}"
    assert re.fullmatch(r"pytaskfarmer\.py: [^\n]+\n", done.stderr), done.stderr
    assert left_behind(farm.folder) == before
    return done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--retries", "-1", "tasks.txt"], "--retries: at least 0 is wanted, found -1"),
        (["--timeout", "soon", "tasks.txt"], "--timeout: 'soon' is no time: 90, 90s, 15m, 1h30m and 01:30:00 are"),
        (["--task-timeout", "1:2:3:4", "tasks.txt"], "--task-timeout: '1:2:3:4' is no time"),
        (["--grace", "", "tasks.txt"], "--grace: '' is no time"),
        (["--log-limit", "10X", "tasks.txt"], "--log-limit: '10X' is no size: 4096, 64k, 10M and 2GiB are"),
        (["--shell", "fish", "tasks.txt"], "--shell: auto, always or never is wanted, found 'fish'"),
        (["--lock-dir", "nosuch", "tasks.txt"], "--lock-dir nosuch: a folder that I can write to is wanted"),
        (["--workdir", "tasks.txt", "tasks.txt"], "tasks.txt: a folder is wanted for the workdir, found a file"),
        ([""], "a TASKLIST is wanted, found ''"),
        (["retry", "tasks.txt"], "). Give a tasklist that was run, or its workdir"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_before_anything_is_touched(farm, words: list[str], sentence: str) -> None:
    farm.write("true")
    assert sentence in refused(farm, *words)


def test_a_list_that_can_be_read_only_once_is_refused(farm) -> None:
    """At the next start nobody could say whether it is the same list."""
    os.mkfifo(farm.folder / "pipe")
    done = farm.call("pipe")
    assert (
        done.stderr
        == "pytaskfarmer.py: pipe: a tasklist is a file, this is a pipe. Write the commands to a file first\n"
    )
    assert (done.returncode, os.listdir(farm.folder)) == (2, ["pipe"])


@pytest.mark.parametrize("flag", ["-w", "--workdir", "--work", "--lock-dir", "--config"])
def test_an_unset_variable_is_no_name(farm, flag: str) -> None:
    farm.write("true")
    assert "a value is wanted, found ''" in refused(farm, flag, "", "tasks.txt")


@pytest.mark.parametrize(
    "content", ["echo grün\n".encode("utf-16"), "true\nfalse\n".encode("utf-16-le"), b"true\nfa\0lse\n"]
)
def test_a_list_that_is_no_text_is_refused(farm, content: bytes) -> None:
    farm.tasklist.write_bytes(content)
    done = farm.run(check=2)
    assert "a NUL byte in" in done.stderr and "iconv -f UTF-16 -t UTF-8" in done.stderr
    assert farm.run("--dry-run", check=2).stderr == done.stderr
    farm.write("true").run(check=0)


@pytest.mark.parametrize(
    "words", [["tasks.txt"], ["status", "tasks.txt"], ["help"], ["--dry-run", "tasks.txt"]], ids=" ".join
)
def test_in_a_directory_that_was_removed_there_is_no_list(farm, words: list[str]) -> None:
    gone = farm.folder / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *PROGRAM, *words],
        cwd=gone, text=True, capture_output=True, timeout=60, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"pytaskfarmer\.py: [^\n]+ \(in a directory that was removed\)[^\n]*\n", done.stderr), (
        done.stderr
    )


def test_a_class_that_makes_commands_of_what_is_no_text_is_refused(farm) -> None:
    (farm.folder / "odd.py").write_text(
        "from taskfarmer.task import ListTaskList\nclass Odd(ListTaskList):\n    def __iter__(self): yield 'echo \\ud83d'\n"
    )
    (farm.folder / "odd.ini").write_text("[odd]\nTaskList = odd.Odd\n")
    farm.write("true")
    for flags in ([], ["--dry-run"]):
        done = farm.run("--tasklist", "odd", *flags, check=2)
        assert re.fullmatch(r"pytaskfarmer\.py: [^\n]*\\ud83d[^\n]*\n", done.stderr), done.stderr


def test_a_folder_of_locks_that_was_cleaned_away_is_named_and_can_be_made_again(farm) -> None:
    locks = farm.folder / "locks"
    locks.mkdir()
    farm.write("true", "false").run("--lock-dir", "locks", check=1)
    shutil.rmtree(locks)
    for words in (["tasks.txt"], ["status", "tasks.txt"], ["retry", "tasks.txt"]):
        said = refused(farm, *words)
        assert said.endswith(f"Is {locks} mounted here? If it was removed, make it again\n"), said
    locks.mkdir()
    assert farm.call("status", "tasks.txt").returncode == 1
    farm.run(check=1)
    assert farm.call("retry", "--run", "tasks.txt").returncode == 1


def test_another_lists_workdir_is_refused(farm) -> None:
    farm.write("true", "true").run(check=0)
    (farm.folder / "others.txt").write_text("false\n")
    sentence = refused(farm, "--workdir", "tasks.txt_workdir", "others.txt")
    assert "tasks.txt_workdir belongs to another list" in sentence
    assert "Use --workdir NEW, or --replace" in sentence


@pytest.mark.parametrize("name", ["toprocess", "later", "finished", "failed", "attempts", "sizes", "journal"])
def test_a_folder_in_the_place_of_a_state_file_is_refused(farm, name: str) -> None:
    farm.write("true").run(check=0)
    path = farm.workdir / name
    path.unlink(missing_ok=True)
    path.mkdir()
    assert f"tasks.txt_workdir/{name}" in refused(farm, "tasks.txt")


@pytest.mark.parametrize("name", ["lock", "farm.json"])
def test_a_folder_in_the_place_of_the_lock_or_farm_json_is_refused(farm, name: str) -> None:
    (farm.write("true").workdir / name).mkdir(parents=True)
    assert f"tasks.txt_workdir/{name}" in refused(farm, "tasks.txt")


@pytest.mark.parametrize("name", ["running", "logs"])
def test_a_file_in_the_place_of_a_folder_is_refused(farm, name: str) -> None:
    farm.write("true").workdir.mkdir()
    (farm.workdir / name).write_text("mine\n")
    assert f"tasks.txt_workdir/{name}" in refused(farm, "tasks.txt")


@pytest.mark.parametrize("content", ["hello\n", "{}\n", "[1]\n", '{"format": 1}\n', '{"name": "somebody else\'s"}\n'])
def test_a_farm_json_that_is_not_ours_is_refused(farm, content: str) -> None:
    farm.write("true").workdir.mkdir()
    (farm.workdir / "farm.json").write_text(content)
    assert "farm.json: this is no farm.json of PyTaskFarmer. Use another --workdir" in refused(farm, "tasks.txt")


def test_a_workdir_of_a_newer_format_is_refused(farm) -> None:
    farm.write("true").run(check=0)
    path = farm.workdir / "farm.json"
    path.write_text(path.read_text().replace('"format": 1,', '"format": 99,'))
    for words in (["tasks.txt"], ["status", "tasks.txt"], ["retry", "tasks.txt"]):
        assert "format 99 was written by a newer PyTaskFarmer, this one knows 1" in refused(farm, *words)


@pytest.mark.parametrize("name", ["toprocess", "finished", "failed"])
def test_a_broken_line_is_named_with_its_file_and_number(farm, name: str) -> None:
    farm.write("true", "false", "sleep 60", "sleep 61").run("-n", "1", "--timeout", "1", check=75)
    number = len(farm.lines(name)) + 1
    with open(farm.workdir / name, "a") as file:
        file.write("this is no task\n")
    farm.tasklist.write_text(farm.tasklist.read_text() + "true\n")  # so that there is a reason to look everywhere
    done = farm.run()
    assert done.returncode == 2
    assert f"tasks.txt_workdir/{name}, line {number}: 'ID command' was expected, found 'this is no task" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_old_python_says_which_one_is_needed() -> None:
    """The script itself must be readable to any Python; the version is the only thing that is not real here."""
    old = (
        "import runpy, sys; sys.version_info = (3, 6, 9, 'final', 0); sys.argv = ['pytaskfarmer.py', 'tasks.txt'];"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True, timeout=60)
    assert done.stderr == f"pytaskfarmer.py: Python 3.10 or newer is needed, this is 3.6 ({sys.executable})\n"
    assert (done.returncode, done.stdout) == (2, "")


# Places and files that are somebody else's


class Stranger:
    """A user without rights, in a folder of mine that everybody may look into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._code = folder / "code"
        shutil.copytree(PACKAGE, self._code / "taskfarmer", ignore=shutil.ignore_patterns("__pycache__"))

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program as that user. (If we are no root, we have no rights ourselves.)"""
        other = {"user": STRANGER, "group": STRANGER, "extra_groups": []} if os.geteuid() == 0 else {}
        environment = {**os.environ, "PYTHONPATH": str(self._code), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [_python_for_everybody(), *PROGRAM[1:], *words],
            cwd=self.folder,
            env=environment,
            text=True,
            capture_output=True,
            timeout=60,
            **other,
        )


def _python_for_everybody() -> str:
    """The Python that runs the tests, or the system's if that one is in a folder only we may enter."""
    python = Path(sys.executable).resolve()
    open_to_all = all(folder.stat().st_mode & 0o001 for folder in python.parents)
    return str(python) if open_to_all else "/usr/bin/python3"


@pytest.fixture
def stranger(farm) -> Iterator[Stranger]:
    # Not tmp_path: pytest lets nobody else look into that.
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Stranger(Path(name))
        os.chmod(name, 0o755)


def test_an_unreadable_list_is_refused(stranger: Stranger) -> None:
    tasklist = stranger.folder / "tasks.txt"
    tasklist.write_text("true\n")
    tasklist.chmod(0)
    done = stranger.call("tasks.txt")
    assert done.stderr == "pytaskfarmer.py: tasks.txt: cannot be read: Permission denied\n"
    assert (done.returncode, done.stdout) == (2, "")
    assert not (stranger.folder / "tasks.txt_workdir").exists()


def test_in_a_place_that_cannot_be_written_another_workdir_is_suggested(stranger: Stranger) -> None:
    (stranger.folder / "tasks.txt").write_text("true\n")
    stranger.folder.chmod(0o555)
    sentence = refused(stranger, "tasks.txt")
    assert "tasks.txt_workdir: the workdir cannot be made here: Permission denied. Use --workdir DIR" in sentence


def test_a_workdir_that_is_only_readable_is_refused(stranger: Stranger) -> None:
    (stranger.folder / "tasks.txt").write_text("true\n")
    workdir = stranger.folder / "tasks.txt_workdir"
    subprocess.run([*PROGRAM, "tasks.txt"], cwd=stranger.folder, check=True, capture_output=True)
    for path in [workdir, *workdir.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    sentence = refused(stranger, "tasks.txt")
    looks = [refused(stranger, verb, "tasks.txt") for verb in ("status", "retry")]
    for path in [workdir, *workdir.rglob("*")]:
        path.chmod(0o755)
    assert "Permission denied. Use a --workdir you can write to" in sentence
    assert all("Permission denied. A farm is locked to be looked at; who may only read" in look for look in looks), (
        looks
    )


@pytest.mark.parametrize("verb", ["status", "retry"])
def test_on_a_read_only_filesystem_it_is_said_where_else_to_look(farm, verb: str) -> None:
    farm.write("true").run(check=0)
    script = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", *PROGRAM, verb, "tasks.txt"]
    done = subprocess.run(words, cwd=farm.folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Read-only file system. A farm is locked to be looked at" in done.stderr


def test_a_program_that_may_not_be_started_is_a_failed_task_and_not_the_end_of_the_farm(farm) -> None:
    (farm.folder / "not_a_program").write_text("x")
    farm.write("./not_a_program", "true").run(check=1)
    assert (farm.ids("failed"), farm.ids("finished")) == ([0], [1])
