"""ShifterRunner with a stand-in for shifter that really enters an image (shifter.py)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import images
import pytest
from conftest import Farm, wait_until
from farmhands import (
    assert_nothing_runs_in,
    children_of,
    ended,
    kill,
)

from taskfarmer.model import Launch
from taskfarmer.system import launching, proctable

pytestmark = pytest.mark.components

HERE = Path(__file__).parent
IMAGE = "docker:lab/tiny:1"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := images.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("images")
    images.make(folder / "docker" / "lab_tiny:1")
    return folder


@pytest.fixture
def lab(farm: Farm, image: Path, monkeypatch: pytest.MonkeyPatch) -> Farm:
    (farm.folder / "bin").mkdir()
    (farm.folder / "bin" / "shifter").write_text(f'#!/bin/sh\nexec {sys.executable} {HERE}/shifter.py "$@"\n')
    (farm.folder / "bin" / "shifter").chmod(0o755)
    (farm.folder / "tmp").mkdir()
    monkeypatch.setenv("PATH", f"{farm.folder}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SHIFTER_TEST_IMAGES", str(image))
    monkeypatch.setenv("SHIFTER_TEST_LOG", str(farm.folder / "calls"))
    monkeypatch.setenv("TMPDIR", str(farm.folder / "tmp"))
    return farm


def define(farm: Farm, dotted: str = "taskfarmer.runners.ShifterRunner", **options: str) -> Farm:
    options.setdefault("image", IMAGE)
    lines = [f"{name} = {value}".replace("\n", "\n    ") for name, value in options.items()]
    (farm.folder / "lab.ini").write_text("\n".join(["[lab]", f"Runner = {dotted}", *lines, ""]))
    return farm


def calls(farm: Farm) -> list[dict]:
    path = farm.folder / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(farm: Farm, *commands: str, check: int = 0, flags: tuple[str, ...] = ()) -> list[str]:
    """Run these; return their logs."""
    done = farm.write(*commands).run("-n", "1", "--runner", "lab", *flags, check=check)
    assert done.returncode == check
    return [farm.log(id) for id in range(len(commands))]


def started(farm: Farm, *commands: str, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start these and wait until each has printed `ready`."""
    farmer = farm.write(*commands).start("-n", str(len(commands)), "--runner", "lab", *flags)
    logs = [farm.workdir / "logs" / f"log_{id}" for id in range(len(commands))]
    wait_until(lambda: all(log.exists() and "ready" in log.read_text() for log in logs), what="the tasks")
    return farmer


BLOCK = "echo ready; sleep 600"


def test_a_command_runs_in_the_image(lab: Farm) -> None:
    said = run(define(lab), "cat /etc/image-release; [ -e /usr/lib ] || echo small", "exit 7", "kill -9 $$", check=1)
    assert said[0] == "the image\nsmall\n"
    done = lab.call("status", "tasks.txt")
    assert lab.ids("finished") == [0] and lab.ids("failed") == [1, 2], done.stdout


def test_the_task_is_the_process_that_was_started(lab: Farm) -> None:
    (said,) = run(define(lab), "echo $$; ps -o pid,comm | grep -c shifter; true")
    assert said.split()[0] == str(calls(lab)[0]["pid"])


def test_the_number_of_the_task_and_all_else_reaches_it(lab: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "a b")
    monkeypatch.setenv("BASH_ENV", "/etc/image-release")  # outside it is not there; inside it is no script
    said = run(
        define(lab, env="THREADS=4 GREETING='hello you'"),
        "true",
        'echo $PROC_NUMBER "$MINE" $THREADS "$GREETING"; env | grep -c ^TASKFARMER_',
    )
    assert said[1] == "1 a b 4 hello you\n5\n"


def test_setup_runs_in_the_image(lab: Farm) -> None:
    said = run(define(lab, setup="source /opt/setup.sh"), "echo $FROM_SETUP", "false; echo $FROM_SETUP")
    assert said == ["yes\n", "yes\n"]


@pytest.mark.parametrize("setup", ["source /nosuch.sh", "echo first\nsource /nosuch.sh\necho third"])
def test_when_the_setup_fails_nothing_of_the_command_is_run(lab: Farm, setup: str) -> None:
    said = run(define(lab, setup=setup), "echo one; echo two", check=1)
    assert "two" not in said[0] and "third" not in said[0]
    assert lab.ids("failed") == [0]


def test_volumes(lab: Farm) -> None:
    (lab.folder / "in").mkdir()
    (lab.folder / "in" / "file").write_text("content\n")
    (lab.folder / "out").mkdir()
    volumes = f"{lab.folder}/in:/data:ro {lab.folder}/out:/out"
    said = run(
        define(lab, volumes=volumes, modules="mpich gpu"),
        "cat /data/file | tr a-z A-Z > /out/file",
        "touch /data/x",
        check=1,
    )
    assert (lab.folder / "out" / "file").read_text() == "CONTENT\n"
    assert "Read-only file system" in said[1]
    assert calls(lab)[0]["argv"].count("-m") == 1


def test_an_image_that_is_not_there_fails_the_task_with_shifters_words(lab: Farm) -> None:
    said = run(define(lab, image="docker:nosuch:1"), "true", check=1)
    assert "FAILED to lookup docker image nosuch:1" in said[0]


# The temporary directory


def test_each_task_has_a_temporary_directory_that_goes_away(lab: Farm) -> None:
    said = run(define(lab, tempdir="True"), "pwd; touch x; mkdir -p a/b; chmod 0 a/b; ls", "pwd; ls; exit 3", check=1)
    first, *files = said[0].split()
    assert Path(first).parent == lab.folder / "tmp" and files == ["a", "x"]
    assert said[1].split() == [said[1].split()[0]]
    assert os.listdir(lab.folder / "tmp") == []


@pytest.mark.parametrize("how", ["stop", "stubborn", "timeout", "not there"])
def test_it_goes_away_however_the_task_ends(lab: Farm, how: str) -> None:
    define(lab, tempdir="yes", **({"image": "docker:nosuch:1"} if how == "not there" else {}))
    if how == "not there":
        run(lab, "true", check=1)
    else:
        command = f"{'trap : TERM; ' if how == 'stubborn' else ''}touch file; echo ready; while :; do sleep 1; done"
        flags = ("--task-timeout", "3s") if how == "timeout" else ()
        farmer = started(lab, command, flags=("--grace", "1", *flags))
        if how != "timeout":
            assert len(os.listdir(lab.folder / "tmp")) == 1
            farmer.send_signal(signal.SIGTERM)
        assert ended(farmer)[0] == (1 if how == "timeout" else 75)
    assert os.listdir(lab.folder / "tmp") == []
    assert_nothing_runs_in(lab.folder)


def test_what_a_dead_process_of_the_same_name_left_is_replaced_and_a_strangers_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine" / "old").mkdir(parents=True)
    launching.make_folders(Launch("x", (), scratch=str(tmp_path / "mine")))
    assert os.listdir(tmp_path / "mine") == [] and (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
    (tmp_path / "foreign").mkdir()
    shutil.chown(tmp_path / "foreign", 1234)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("foreign", "link"):
        with pytest.raises(launching.NotStarted, match="File exists"):
            launching.make_folders(Launch("x", (), scratch=str(tmp_path / name)))
    assert (tmp_path / "mine").exists()


# Ending


def test_a_stop_reaches_the_task(lab: Farm) -> None:
    farmer = started(define(lab), f"trap 'echo heard; exit 9' TERM; {BLOCK} & wait", BLOCK, flags=("--grace", "60"))
    farmer.send_signal(signal.SIGTERM)
    status, said = ended(farmer)
    assert status == 75, said
    assert lab.log(0) == "ready\nheard\n"
    assert lab.waiting() == [0, 1]
    lab.assert_each_task_stands_once(2)
    assert_nothing_runs_in(lab.folder)


def test_a_stop_while_the_image_is_set_up_kills_it_after_grace(lab: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFTER_TEST_DELAY", "600")
    farmer = define(lab).write("true").start("-n", "1", "--runner", "lab", "--grace", "0.5")
    wait_until(lambda: calls(lab))
    farmer.send_signal(signal.SIGTERM)
    assert ended(farmer)[0] == 75
    assert lab.waiting() == [0]
    assert_nothing_runs_in(lab.folder)


def test_a_task_that_takes_too_long_is_ended(lab: Farm) -> None:
    run(define(lab), BLOCK, "true", flags=("--task-timeout", "2s"), check=1)
    assert lab.ids("failed") == [0] and lab.ids("finished") == [1]
    assert_nothing_runs_in(lab.folder)


def test_after_kill_9_of_farmer_and_workers_it_is_ended_before_it_runs_again(lab: Farm) -> None:
    (lab.folder / "out").mkdir()
    define(lab, volumes=f"{lab.folder}/out:/out")
    farmer = started(lab, "echo $$ >> /out/pids; [ -e /out/go ] && exit; echo ready; sleep 600")
    kill([farmer.pid, *children_of(farmer.pid)])
    farmer.communicate()
    (lab.folder / "out" / "go").touch()
    done = lab.run("-n", "1", "--runner", "lab", check=0)
    assert "is gone" in done.stdout or lab.ids("finished") == [0]
    first, _second = (lab.folder / "out" / "pids").read_text().split()
    assert not proctable.exists(int(first))


# A user's class

TWICE = """\
import taskfarmer.runners
class Twice(taskfarmer.runners.ShifterRunner):
    def run(self, taskid, command, logfh):
        return super().run(taskid, command + '; ' + command, logfh)
"""


def test_a_users_class_around_it(lab: Farm) -> None:
    (lab.folder / "mine.py").write_text(TWICE)
    define(lab, "mine.Twice", tempdir="True", setup="source /opt/setup.sh")
    said = run(lab, "echo $FROM_SETUP", "exit 4", check=1)
    assert said[0] == "yes\nyes\n"
    assert lab.ids("failed") == [1]
    assert os.listdir(lab.folder / "tmp") == []


def test_a_users_class_around_it_is_stopped(lab: Farm) -> None:
    (lab.folder / "mine.py").write_text(TWICE)
    farmer = started(define(lab, "mine.Twice", tempdir="True"), BLOCK)
    farmer.send_signal(signal.SIGTERM)
    assert ended(farmer)[0] == 75
    assert os.listdir(lab.folder / "tmp") == []
    assert_nothing_runs_in(lab.folder)


def test_the_shipped_definition_runs(lab: Farm, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab.folder / "images" / "docker").mkdir(parents=True)
    (lab.folder / "images" / "docker" / "debian:12").symlink_to(image / "docker" / "lab_tiny:1")
    monkeypatch.setenv("SHIFTER_TEST_IMAGES", str(lab.folder / "images"))
    lab.write("cat /etc/image-release").run("--runner", "shifter", check=0)
    assert lab.log(0) == "the image\n"
