"""What a person sees, scene by scene. The expected text is in `messages/`; see scenes.py for how to renew it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from scenes import MESSAGES, PROGRAM, Scene, left_behind, wait_for

pytestmark = pytest.mark.quick


_INI = """\
[polite]
Runner = shop.Polite
level = 7

[halves]
TaskList = shop.Halves

[broken]
Runner = shop.Polite
levl = 7
"""
_SHOP = '''
from taskfarmer.runners import BasicRunner
from taskfarmer.task import ListTaskList

class Polite(BasicRunner):
    """Runs each command with nice.

    Options:
        `level`: how nice, 0 to 19
    """
    def __init__(self, level: int = 10):
        super().__init__()
        self.level = level

    def run(self, taskid, command, logfh):
        return super().run(taskid, f"nice -n {self.level} {command}", logfh)

class Halves(ListTaskList):
    """Runs the first half of a list."""
    def __len__(self):
        return len(self.tasks) // 2

    def __getitem__(self, taskid):
        return self.tasks[taskid]
'''


def definitions(scene: Scene) -> None:
    (scene.path / "lab.ini").write_text(_INI)
    (scene.path / "shop.py").write_text(_SHOP)
    scene.write("nice", "nice")
    scene.type("runners", "--check", "polite", "broken")
    scene.type("tasklists", "halves")
    scene.type("-v", "--runner", "polite", "-n", "1", "tasks.txt")
    scene.type("--dry-run", "--runner", "polite", "tasks.txt")
    scene.type("--runner", "broken", "tasks.txt")
    scene.type("--runner", "polit", "tasks.txt")
    scene.type("--config", "nowhere.ini", "tasks.txt")
    scene.type("runners", "nobody")
    scene.type("runners", "halves")
    scene.type("--overlap", "tasks.txt")


_COUNT = """\
[count]
TaskList = taskfarmer.tasklists.TemplateTaskList
command = test -e {line}

[gentle]
Runner = taskfarmer.runners.BasicRunner
setup =
    export MODE=fast
    ulimit -c 0
prefix = nice
"""


def definitions_at_a_glance(scene: Scene) -> None:
    (scene.path / "count.ini").write_text(_COUNT)
    (scene.path / "older.ini").write_text("[gentle]\nRunner = taskfarmer.runners.BasicRunner\ncwd = nowhere\n")
    scene.type("tasklists")
    scene.type("tasklists", "SweepTaskList")
    scene.type("runners", "--check", "gentle")


def a_list_read_by_a_handler(scene: Scene) -> None:
    (scene.path / "count.ini").write_text(_COUNT)
    scene.write("count.ini", "it's there")
    scene.type("--tasklist", "count", "--runner", "gentle", "-n", "1", "--dry-run", "tasks.txt")
    scene.type("--tasklist", "count", "--runner", "gentle", "-n", "1", "--config", "count.ini", "tasks.txt")
    scene.type("-n", "1", "tasks.txt")
    scene.say("the end of the command is changed")
    (scene.path / "count.ini").write_text(_COUNT.replace("test -e", "test -f"))
    scene.type("--tasklist", "count", "-n", "1", "tasks.txt")
    (scene.path / "count.ini").write_text(_COUNT)
    (scene.path / "it's there").touch()
    scene.say('touch "it\'s there"; and as it was')
    scene.type(
        "retry", "tasks.txt", "--tasklist", "count", "--runner", "gentle", "--config", "count.ini", "--run", "-n", "1"
    )
    scene.type("count.ini")


def first_run(scene: Scene) -> None:
    scene.write("echo hello", "echo again && echo and again", "# a comment", "", "true")
    scene.type("tasks.txt")


def one_task(scene: Scene) -> None:
    scene.write("true")
    scene.type("-n", "1", "tasks.txt")
    scene.type("tasks.txt")


def failures(scene: Scene) -> None:
    scene.write(
        "true",
        "cat nofile",
        "nosuchprogram",
        "/etc/passwd",
        "kill -9 $$",
        "for i in 1 2 3 4 5 6 7 8; do echo line $i; done; exit 3",
        "printf 'a%.0s' {1..300}; printf '\\n\\033[31mred\\n'; exit 4",
        "sleep 30",
    )
    scene.type("-n", "1", "--task-timeout", "0.5s", "tasks.txt")


def many_failures(scene: Scene) -> None:
    scene.write(*["false"] * 103)
    scene.type("-n", "1", "tasks.txt")


def no_logs(scene: Scene) -> None:
    scene.write("echo gone; false")
    scene.type("--logs", "none", "tasks.txt")


def again(scene: Scene) -> None:
    scene.write("true", "false", "touch started; test -e go_on || sleep 60", "true", "true")
    process = scene.start("-n", "1", "tasks.txt")
    _until_settled(scene.path, 2)
    process.send_signal(signal.SIGINT)
    scene.say("at the third task: Ctrl-C")
    scene.show_end(process, "-n", "1", "tasks.txt")
    (scene.path / "go_on").touch()
    scene.type("-n", "1", "tasks.txt")


def retries(scene: Scene) -> None:
    scene.write("test -e second || { touch second; echo not yet; false; }", "true", "false")
    scene.type("-n", "1", "--retries", "1", "tasks.txt")


def nothing_to_do(scene: Scene) -> None:
    scene.write("true", "true")
    scene.type("tasks.txt")
    scene.type("tasks.txt")


def nothing_to_do_but_some_failed(scene: Scene) -> None:
    scene.write("true", "false")
    scene.type("-n", "1", "tasks.txt")
    scene.type("tasks.txt")


def failed_before(scene: Scene) -> None:
    scene.write("false")
    scene.type("tasks.txt")
    scene.write("false", "true")
    scene.type("tasks.txt")
    scene.write("false", "true", "exit 2")
    scene.type("tasks.txt")


def stopped(scene: Scene) -> None:
    scene.write("true", "touch started; sleep 60", "true")
    process = scene.start("-n", "1", "tasks.txt")
    wait_for(scene.path / "started")
    process.send_signal(signal.SIGINT)
    scene.say("in a second: Ctrl-C")
    scene.show_end(process, "-n", "1", "tasks.txt")
    scene.type("status", "tasks.txt")


def stopped_twice(scene: Scene) -> None:
    scene.write("trap 'touch asked' TERM; touch started; while :; do sleep 1; done")
    process = scene.start("--grace", "60", "tasks.txt")
    wait_for(scene.path / "started")
    process.send_signal(signal.SIGINT)
    wait_for(scene.path / "asked")
    process.send_signal(signal.SIGINT)
    scene.say("Ctrl-C, and once more")
    scene.show_end(process, "--grace", "60", "tasks.txt")


def stopped_by_the_batch_system(scene: Scene) -> None:
    for number in (signal.SIGTERM, signal.SIGUSR1):
        scene.write("touch started; sleep 60")
        process = scene.start("tasks.txt")
        wait_for(scene.path / "started")
        (scene.path / "started").unlink()
        process.send_signal(number)
        scene.say(f"it gets a {number.name}")
        scene.show_end(process, "tasks.txt")


def timeout(scene: Scene) -> None:
    scene.write("sleep 60", "sleep 60")
    scene.type("-n", "2", "--timeout", "4", "tasks.txt")


def held_back(scene: Scene) -> None:
    scene.write("true", "true", "true")
    scene.type("--walltime", "1h", "--expect", "2h", "tasks.txt")
    scene.type("--walltime", "30s", "tasks.txt")
    scene.type("--walltime", "2h", "--expect", "1h", "tasks.txt")


def changed_list(scene: Scene) -> None:
    scene.write("true", "true 1")
    scene.type("tasks.txt")
    scene.write("true", "true 1", "true 2")
    scene.type("tasks.txt")
    scene.write("true 1", "true", "true 3", "true 2", "true 4")
    scene.type("tasks.txt")


def empty_list(scene: Scene) -> None:
    scene.write()
    scene.type("tasks.txt")
    scene.write("# only a comment", "", name="comments.txt")
    scene.type("comments.txt")


def another_list(scene: Scene) -> None:
    scene.write("true 1", "false")
    scene.type("-n", "1", "tasks.txt")
    scene.write("true 2", "true 3", name="others.txt")
    scene.type("--workdir", "tasks.txt_workdir", "others.txt")
    scene.type("--workdir", "tasks.txt_workdir", "--replace", "others.txt")


def retry(scene: Scene) -> None:
    scene.write("true", "test -e mended", "test -e mended", "test -e mended")
    scene.type("-n", "1", "tasks.txt")
    scene.type("retry", "tasks.txt", "1")
    scene.type("retry", "tasks.txt", "0", "1", "2")
    scene.type("retry", "tasks.txt", "0", "2")
    (scene.path / "mended").touch()
    scene.say("touch mended")
    scene.type("retry", "tasks.txt", "--run", "-n", "1")
    scene.type("retry", "tasks.txt")


def retry_elsewhere(scene: Scene) -> None:
    scene.write("false", name="my tasks.txt")
    scene.type("--workdir", "my work", "my tasks.txt")
    scene.type("retry", "my tasks.txt", "--workdir", "my work", "--run")
    scene.type("--workdir", "my work", "my tasks.txt")


def retry_with_wrong_words(scene: Scene) -> None:
    scene.write("false")
    scene.type("tasks.txt")
    scene.type("retry", "tasks.txt", "-n", "4")
    scene.type("retry", "tasks.txt", "--run", "--json")
    scene.type("retry", "tasks.txt", "first")
    scene.type("retry", "tasks.txt_workdir", "--run")
    scene.type("retry", "other.txt")
    scene.type("retry")
    scene.type("retry", "tasks.txt", "7")
    scene.type("status", "tasks.txt")


def status(scene: Scene) -> None:
    scene.write("true", "false", "touch started; sleep 60")
    process = scene.start("-n", "1", "tasks.txt")
    _until_settled(scene.path, 2)
    scene.type("status", "tasks.txt")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    scene.say("stopped; now the workdir is named, and --json wanted")
    scene.type("status", "tasks.txt_workdir", "--json")


def _until_settled(path: Path, count: int) -> None:
    wait_for(path / "tasks.txt_workdir" / "farm.json")
    for _ in range(600):
        done = subprocess.run([*PROGRAM, "status", "--json", "tasks.txt"], cwd=path, capture_output=True, text=True)
        if done.returncode == 2:
            continue  # there is a farm.json, but nothing in it yet
        seen = json.loads(done.stdout)
        if seen["finished"] + seen["failed"] == count:
            return
    raise AssertionError(f"{count} tasks were never settled")


def a_second_farmer(scene: Scene) -> None:
    scene.write("touch started; sleep 60")
    process = scene.start("tasks.txt")
    wait_for(scene.path / "started")
    scene.say("while the only task is running in another window")
    scene.type("tasks.txt")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def a_job_on_two_nodes(scene: Scene) -> None:
    words = ["-n", "1", "--walltime", "1h", "tasks.txt"]
    scene.write("touch started; until test -e free; do sleep 0.05; done", "echo why; false")
    first = scene.start_on("n1", *words, SLURM_JOB_ID="12")
    wait_for(scene.path / "started")
    second = scene.start_on("n2", *words, SLURM_JOB_ID="12")
    _until_settled(scene.path, 1)
    (scene.path / "free").touch()
    scene.say("on two nodes of a job; the second has nothing left to do while the first runs its task")
    scene.show_end(first, *words)
    scene.show_end(second, *words)


def a_dead_farmer(scene: Scene) -> None:
    scene.write("touch started; until test $(ls tasks.txt_workdir/running | wc -l) = 2; do sleep 0.05; done; sleep 0.5")
    process = scene.start("tasks.txt")
    wait_for(scene.path / "started")
    process.kill()
    process.wait()
    scene.say("the farmer was killed; its worker still runs the only task for a while")
    scene.type("tasks.txt")


def a_dead_farmer_and_its_workers(scene: Scene) -> None:
    scene.write("echo $PPID > worker; touch started; test -e free || sleep 60")
    process = scene.start("tasks.txt")
    wait_for(scene.path / "started")
    process.kill()
    os.kill(int((scene.path / "worker").read_text()), signal.SIGKILL)
    process.communicate(timeout=60)
    (scene.path / "free").touch()
    scene.say("the farmer and all its workers were killed")
    scene.type("tasks.txt")


def a_killed_worker(scene: Scene) -> None:
    scene.write("test -e once || { touch once; kill -9 $PPID; sleep 60; }")
    scene.type("-n", "1", "tasks.txt")


def verbose(scene: Scene) -> None:
    scene.write("true", "echo a long command 0123456789012345678901234567890123456789012345678901234567890123456789")
    scene.type("-v", "-n", "1", "tasks.txt")


def very_verbose(scene: Scene) -> None:
    scene.write("true")
    scene.type("-v", "2", "tasks.txt")


def dry_run(scene: Scene) -> None:
    scene.write("true", "echo hello", "./simulate --seed 1 > out.1")
    scene.type("--dry-run", "tasks.txt")
    scene.type("--dry-run", "--shell", "always", "tasks.txt")
    scene.write("echo 'open", name="broken.txt")
    scene.type("--dry-run", "--shell", "never", "broken.txt")


def version(scene: Scene) -> None:
    scene.type("--version")


def wrong_words(scene: Scene) -> None:
    scene.write("true")
    before = left_behind(scene.path)
    scene.type()
    scene.type("nosuch.txt")
    scene.type("/here/nosuch.txt")
    scene.type("")
    scene.type(".")
    scene.type("/dev/null")
    scene.type("stats")
    scene.type("help")
    scene.type("-v", "status", "tasks.txt")
    scene.type("tasks.txt", "status")
    scene.type("-v", "retry", "--run", "tasks.txt")
    scene.type("tasks.txt", "others.txt")
    scene.type("statsu", "tasks.txt")
    scene.type("--retires", "3", "tasks.txt")
    scene.type("--bogus", "tasks.txt")
    scene.type("--verison")
    scene.type("-j", "4", "tasks.txt")
    scene.type("-w", "", "tasks.txt")
    scene.type("--timeout")
    scene.type("--shared=yes", "tasks.txt")
    scene.type("-n", "0", "tasks.txt")
    scene.type("-n", "-2", "tasks.txt")
    scene.type("--retries", "some", "tasks.txt")
    scene.type("--max-failures", "0", "tasks.txt")
    scene.type("--timeout", "5 minutes", "tasks.txt")
    scene.type("--task-timeout", "-1", "tasks.txt")
    scene.type("--log-limit", "large", "tasks.txt")
    scene.type("--logs", "some", "tasks.txt")
    scene.type("--requeue", "tasks.txt")
    scene.type("-r", "nosuch", "tasks.txt")
    scene.type("-t", "yaml", "tasks.txt")
    scene.type("status")
    scene.type("status", "")
    scene.type("status", "--jsno")
    scene.type("status", "tasks.txt")
    scene.type("status", "tasks.txt", "others.txt")
    assert left_behind(scene.path) == before


def doctor(scene: Scene) -> None:
    (scene.path / "data").mkdir()
    scene.type("doctor", "data")
    assert left_behind(scene.path) == {"data": "(a folder)"}
    scene.type("doctor", "data", "--token", "WORD", "--wait", "1s")
    scene.say("on two hosts at once")
    second = scene.start_on("n2", "doctor", "data", "--token", "WORD")
    wait_for(scene.path / "data" / ".pytaskfarmer-doctor-WORD" / "said_0")
    first = scene.start_on("n1", "doctor", "data", "--token", "WORD")
    scene.show_end(first, "doctor", "data", "--token", "WORD")
    scene.show_end(second, "doctor", "data", "--token", "WORD")
    assert left_behind(scene.path) == {"data": "(a folder)"}


def doctor_with_wrong_words(scene: Scene) -> None:
    (scene.path / "file").touch()
    scene.type("doctor")
    scene.type("doctor", "nosuch")
    scene.type("doctor", "file")
    scene.type("doctor", ".", "..")
    scene.type("doctor", "/proc")
    scene.type("doctor", ".", "--token", "two words")
    scene.type("doctor", ".", "--hosts", "3")
    scene.type("doctor", ".", "--token", "WORD", "--hosts", "1")
    scene.type("doctor", ".", "--token", "WORD", "--wait", "soon")
    assert left_behind(scene.path) == {"file": ""}


SCENES = [
    first_run, one_task, failures, many_failures, no_logs, again, retries, nothing_to_do,
    nothing_to_do_but_some_failed, failed_before, stopped, stopped_twice, stopped_by_the_batch_system, timeout,
    held_back,
    doctor, doctor_with_wrong_words, changed_list, empty_list, another_list, retry, retry_elsewhere, retry_with_wrong_words, status,
    a_second_farmer, a_job_on_two_nodes, a_dead_farmer, a_dead_farmer_and_its_workers, a_killed_worker, verbose, very_verbose, dry_run, definitions, definitions_at_a_glance,
    a_list_read_by_a_handler, version, wrong_words,
]  # fmt: skip


@pytest.mark.parametrize("play", SCENES, ids=lambda play: play.__name__)
def test_the_scene_reads_as_it_was_reviewed(play: Callable[[Scene], None], farm, tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    play(scene)
    scene.check(play.__name__)


def test_every_message_file_belongs_to_a_scene() -> None:
    assert {path.stem for path in MESSAGES.iterdir()} == {play.__name__ for play in SCENES}


def test_after_so_many_failures_nothing_more_is_started_and_it_says_so(farm) -> None:
    farm.write("false", *["sleep 0.2"] * 20)
    said = farm.run("-n", "1", "--max-failures", "1", check=1).stdout.splitlines()
    ends = [line for line in said if line.startswith(("stopping", "stopped"))]
    assert ends[0].startswith("stopping (--max-failures 1): ")
    assert ends[0].endswith(" running, nothing more is started")
    assert ends[1].endswith(" left. Look at what failed, then start the same line again.")
    assert farm.waiting()


def test_a_list_that_has_lost_lines_is_counted_as_it_is_now(farm) -> None:
    farm.write("touch started; sleep 60", "true 1", "true 2")
    farmer = farm.start("-n", "1")
    wait_for(farm.folder / "started")
    farmer.send_signal(signal.SIGINT)
    farmer.communicate(timeout=60)
    farm.write("true 1", "true 2")
    assert "tasks.txt: 2 tasks" in farm.run(check=0).stdout
    assert "tasks.txt: 2 tasks" in farm.run(check=0).stdout


def test_a_closed_pipe_ends_the_talking_not_the_farm(farm) -> None:
    farm.write(*["sleep 0.1; false"] * 12)
    process = subprocess.Popen(
        f"{sys.executable} -m taskfarmer tasks.txt | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=farm.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=60)
    assert (out.count("\n"), err, process.returncode) == (1, "", 1)
    assert len(farm.ids("failed")) == 12


def test_a_farm_with_all_descriptors_closed_is_run_all_the_same(farm) -> None:
    farm.write("echo out", "echo err >&2")
    done = subprocess.run(
        f"{sys.executable} -m taskfarmer tasks.txt <&- >&- 2>&-", shell=True, cwd=farm.folder, timeout=60
    )
    assert done.returncode == 0
    assert [farm.log(0), farm.log(1)] == ["out\n", "err\n"]


def test_a_command_is_what_stands_in_the_list_whatever_the_locale(farm) -> None:
    """Python would make ASCII or Latin-1 of it where the locale says so."""
    farm.write("printf %s grün☃", 'touch "$(printf %s naïve)"')
    ascii = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (farm.folder / "größe.txt").write_bytes(farm.tasklist.read_bytes())
    done = farm.call("größe.txt", env={**os.environ, **ascii})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (farm.folder / "größe.txt_workdir" / "logs" / "log_0").read_text() == "grün☃"
    assert (farm.folder / "naïve").exists()
    assert farm.call("status", "größe.txt", env={**os.environ, **ascii}).returncode == 0


@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_terminal_without_unicode_is_told_all_the_same(farm, variables: dict[str, str]) -> None:
    farm.write("echo grün ☃; false")
    done = farm.run("-v", check=1, env={**os.environ, **variables})
    assert "failed: 0" in done.stdout
    assert "Traceback" not in done.stderr
