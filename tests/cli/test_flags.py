"""A walk through every flag: each has a test that fails when the flag is ignored."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import stat
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Callable

import pytest
from conftest import wait_until
from scenes import PROGRAM, left_behind

from taskfarmer.system.resources import usable_cores

pytestmark = pytest.mark.quick

WALKED: dict[str, set[str]] = {"run": set(), "status": set(), "retry": set(), "runners": set(), "tasklists": set()}
MEETING = "touch here.$PROC_NUMBER; until [ $(ls here.* | wc -l) = 3 ]; do sleep 0.05; done"


def walks(verb: str, *flags: str) -> Callable[[Callable], Callable]:
    """Say which flags a test is about."""
    WALKED[verb].update(flags)
    return lambda test: test


# What runs


@walks("run", "-n", "--proc")
@pytest.mark.parametrize("flag", [["-n", "3"], ["--proc", "3"], ["--proc=3"], ["-n3"]], ids=" ".join)
def test_as_many_tasks_as_asked_for_run_at_a_time(farm, flag: list[str]) -> None:
    done = farm.write(MEETING, MEETING, MEETING).run(*flag, "--timeout", "30", check=0)
    assert ": 3 slots; " in done.stdout


@walks("run", "-n", "--proc")
def test_one_task_at_a_time_means_one(farm) -> None:
    farm.write(*["mkdir alone && sleep 0.05 && rmdir alone"] * 5).run("-n", "1", check=0)


@walks("run", "-n", "--proc")
@pytest.mark.parametrize("flag", ["-n", "--proc"])
def test_without_a_number_every_core_is_used_and_the_list_stays_the_list(farm, flag: str) -> None:
    done = farm.write("true").run(flag, check=0)
    assert f": {usable_cores()} slot" in done.stdout
    assert "8 slots" not in done.stdout or usable_cores() == 8
    assert "for the only core" in done.stdout or "one for each core" in done.stdout


def test_eight_tasks_at_a_time_is_the_default(farm) -> None:
    assert ": 8 slots (default); " in farm.write("true").run(check=0).stdout


@walks("run", "-w", "--workdir")
@pytest.mark.parametrize("flag", ["-w", "--workdir", "--work"])
def test_the_workdir_is_where_it_was_asked_for(farm, flag: str) -> None:
    farm.write("echo hello").run(flag, "deep/elsewhere", check=0)
    assert (farm.folder / "deep/elsewhere/logs/log_0").read_text() == "hello\n"
    assert not farm.workdir.exists()


@walks("run", "-r", "--runner")
@pytest.mark.parametrize("flag", ["-r", "--runner", "--run"])
def test_the_runner_is_looked_up_by_its_name(farm, flag: str) -> None:
    farm.write("true").run(flag, "default", check=0)
    assert "--runner other: there is no runner of that name; there are: " in farm.run(flag, "other").stderr


@walks("run", "-t", "--tasklist")
@pytest.mark.parametrize("flag", ["-t", "--tasklist", "--task"])
def test_the_tasklist_handler_is_looked_up_by_its_name(farm, flag: str) -> None:
    farm.write("true").run(flag, "default", check=0)
    assert "--tasklist other: there is no tasklist of that name; there are: default" in farm.run(flag, "other").stderr


_SAYS_HELLO = """
from taskfarmer.runners import BasicRunner

class Hello(BasicRunner):
    def __init__(self, word: str = "hello", overlap: bool = False):
        super().__init__()
        self.word, self.overlap = word, overlap

    def run(self, taskid, command, logfh):
        return super().run(taskid, f"echo {self.word} {self.overlap}", logfh)
"""


@walks("run", "--config")
def test_an_ini_file_that_is_named_is_read_after_all_others(farm) -> None:
    (farm.folder / "sub").mkdir()
    (farm.folder / "sub/hello.py").write_text(_SAYS_HELLO)
    (farm.folder / "sub/a.ini").write_text("[default]\nRunner = hello.Hello\nword = one\n")
    (farm.folder / "sub/b.ini").write_text("[default]\nRunner = hello.Hello\nword = two\n")
    farm.write("true").run("--config", "sub/a.ini", "--config", "sub/b.ini", check=0)
    assert farm.log(0) == "two False\n"


@walks("run", "--overlap")
def test_overlap_is_told_to_runners_that_start_steps_and_to_no_others(farm) -> None:
    (farm.folder / "hello.py").write_text(_SAYS_HELLO)
    (farm.folder / "a.ini").write_text("[steps]\nRunner = hello.Hello\n")
    farm.write("true").run("--runner", "steps", "--overlap", check=0)
    assert farm.log(0) == "hello True\n"
    assert "--overlap: BasicRunner starts no steps of its own" in farm.run("--overlap", check=2).stderr


@walks("runners", "--config", "--check", "--json", "--version", "-h", "--help")
@walks("tasklists", "--config", "--check", "--json", "--version", "-h", "--help")
def test_definitions_are_told_to_people_and_programs(farm) -> None:
    (farm.folder / "hello.py").write_text(_SAYS_HELLO)
    (farm.folder / "a.conf").write_text("[hi]\nRunner = hello.Hello\n[lines]\nTaskList = hello.Nothing\n")
    assert "hello.Hello" not in farm.call("runners").stdout
    for verb, name, status in (("runners", "hi", 0), ("tasklists", "lines", 2)):
        said = farm.call(verb, "--config", "a.conf", "--check", name)
        assert (said.returncode, said.stdout.split()[0]) == (status, name)
        told = json.loads(farm.call(verb, "--config", "a.conf", "--check", "--json", name).stdout)
        (one,) = told["definitions"]
        assert (one["name"], one["file"], bool(one["trouble"])) == (name, "a.conf", bool(status))
        assert f"usage: pytaskfarmer.py {verb}" in farm.call(verb, "--help").stdout


@walks("run", "--shell")
def test_the_shell_is_always_there_never_or_where_it_is_needed(farm) -> None:
    def seen(mode: str, command: str) -> str:
        farm.write(command).run("--shell", mode, "-w", mode, check=0, env=plain)
        return (farm.folder / mode / "logs" / "log_0").read_text()

    plain = {name: value for name, value in os.environ.items() if name != "SHLVL"}
    assert "SHLVL=" not in seen("auto", "env")
    assert "SHLVL=" in seen("always", "env")
    assert seen("never", "echo $HOME 'a  b'") == "$HOME a  b\n"


@walks("run", "--keep-mpi-env")
def test_the_farmers_own_mpi_rank_reaches_tasks_only_if_asked_for(farm) -> None:
    farm.write("echo rank=$PMI_RANK").run(check=0, env={**os.environ, "PMI_RANK": "3"})
    assert farm.log(0) == "rank=\n"
    farm.run("--keep-mpi-env", "--replace", check=0, env={**os.environ, "PMI_RANK": "3"})
    assert farm.log(0) == "rank=3\n"


@walks("run", "--dry-run")
def test_a_dry_run_says_what_would_be_started_and_touches_nothing(farm) -> None:
    before = left_behind(farm.write("touch it", "echo $HOME").folder)
    assert farm.run("--dry-run", check=0).stdout == "0 touch it\n1 bash -c 'echo $HOME'\n"
    assert left_behind(farm.folder) == before


@walks("run", "--dry-run")
def test_what_a_dry_run_shows_can_be_typed_and_upsets_no_terminal(farm) -> None:
    commands = [
        b"printf %s '\xff\xe9' it\\'s",
        b"printf %s a\r\x1b[31mb",
        b"printf %s $'\\''\x07f",
        "printf %s 'ü☃'".encode(),
    ]
    farm.tasklist.write_bytes(b"\n".join(commands))
    shown = farm.run("--dry-run", check=0).stdout
    assert shown.replace("\n", "").isprintable()
    typed = subprocess.run(["bash"], input=re.sub(r"(?m)^\d+ ", "", shown).encode(), capture_output=True, check=True)
    meant = [subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout for command in commands]
    assert typed.stdout == b"".join(meant)


# When it ends


@walks("run", "--timeout")
@pytest.mark.parametrize("flag", ["--timeout", "--time"])
def test_the_farmer_stops_when_its_time_is_up(farm, flag: str) -> None:
    done = farm.write("sleep 60", "true").run("-n", "1", flag, "0.3", check=75)
    assert "stopping (--timeout 0.3)" in done.stdout
    assert farm.waiting() == [0, 1]


def test_a_timeout_of_0_means_none_as_it_always_did(farm) -> None:
    farm.write("sleep 0.3").run("--timeout", "0", check=0)


@walks("run", "--walltime", "--margin")
def test_a_run_is_gone_before_the_job_ends(farm) -> None:
    farm.write("sleep 60")
    done = farm.run("--walltime", "31s", "--margin", "30s", check=75)
    assert "the job's time is up" in done.stdout
    assert farm.waiting() == [0]


@walks("run", "--expect", "--walltime")
def test_a_task_that_would_not_fit_is_not_started(farm) -> None:
    farm.write("touch ran")
    done = farm.run("--walltime", "5m", "--margin", "1m", "--expect", "11m", check=75)
    assert "tasks take up to 11 min, the whole job has 4 min: 1 held back." in done.stdout
    assert not (farm.folder / "ran").exists()
    assert farm.waiting() == [0]


@walks("run", "--requeue")
def test_a_slurm_job_is_started_again_if_asked_for_and_nothing_else_is(farm) -> None:
    before = left_behind(farm.write("true", "sleep 60").folder)
    refused = farm.run("--requeue", check=2)
    assert "--requeue: a Slurm job is wanted, found none" in refused.stderr
    assert left_behind(farm.folder) == before
    for name, does in (("scontrol", 'echo "$@" >> asked'), ("squeue", "exit 1")):
        (farm.folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (farm.folder / name).chmod(0o755)
    job = {**os.environ, "SLURM_JOB_ID": "12", "PATH": f"{farm.folder}:{os.environ['PATH']}"}
    farm.run("-n", "1", "--timeout", "2", env=job, check=75)
    assert not (farm.folder / "asked").exists()
    farm.write("true", "sleep 60", "true", "true").run("-n", "2", "--timeout", "2", "--requeue", env=job, check=75)
    assert (farm.folder / "asked").read_text() == "requeue 12\n"


@walks("run", "--task-timeout")
def test_a_task_that_takes_too_long_fails(farm) -> None:
    done = farm.write("sleep 60", "true").run("--task-timeout", "0.3", check=1)
    assert "failed  task 0  timed out" in done.stdout
    assert (farm.ids("failed"), farm.ids("finished")) == ([0], [1])


@walks("run", "--grace")
@pytest.mark.parametrize(("grace", "needs", "got_ready"), [("30s", 1, True), ("0.1", 30, False)])
def test_a_task_has_the_grace_it_was_given_to_get_ready(farm, grace: str, needs: int, got_ready: bool) -> None:
    farm.write(f"trap 'sleep {needs}; touch ready; exit 1' TERM; while :; do sleep 0.05; done")
    farm.run("--task-timeout", "0.5", "--grace", grace, check=1)
    assert (farm.folder / "ready").exists() is got_ready


@walks("run", "--retries")
def test_a_failing_task_is_tried_as_often_as_asked_for(farm) -> None:
    farm.write("echo x >> tries; false").run("--retries", "2", check=1)
    assert (farm.folder / "tries").read_text() == "x\n" * 3


@walks("run", "--retry-delay")
def test_the_next_try_comes_after_the_delay(farm) -> None:
    farm.write("date +%s.%N >> tries; false").run("--retries", "1", "--retry-delay", "1s", check=1)
    first, second = map(float, (farm.folder / "tries").read_text().split())
    assert second - first >= 0.95


@walks("run", "--max-failures")
def test_after_so_many_failures_nothing_more_is_started(farm) -> None:
    farm.write("false", "true", "false", *["sleep 0.2"] * 20).run("-n", "1", "--max-failures", "2", check=1)
    assert farm.ids("failed") == [0, 2]
    assert farm.waiting()


@walks("run", "--max-failures")
def test_what_fails_at_once_fails_no_more_often_than_was_said(farm) -> None:
    """Short tasks are handed out in batches: one batch must not fail more often than all are allowed to."""
    farm.write(*["true"] * 100, *["false"] * 200).run("-n", "1", "--max-failures", "5", check=1)
    assert farm.ids("failed") == [100, 101, 102, 103, 104]


@walks("run", "--no-sick-node-stop")
def test_a_node_that_is_not_to_be_judged_goes_on_whatever_fails(farm) -> None:
    farm.write('[ -z "$SICK" ] && touch begun && until [ -e go ]; do sleep 0.1; done', *['[ -z "$SICK" ]'] * 100)
    healthy = farm.start_on("n2", "-n", "1")
    wait_until((farm.folder / "begun").exists)
    said, _ = farm.start_on("n1", "-n", "2", "--no-sick-node-stop", SICK="yes").communicate(timeout=30)
    (farm.folder / "go").touch()
    healthy.communicate(timeout=30)
    assert "waiting to hear" not in said, said
    assert farm.ids("finished") == [0] and len(farm.ids("failed")) == 100, said


@walks("run", "--dead-after")
def test_a_farmer_says_after_which_silence_it_is_dead(farm) -> None:
    farm.write("cat tasks.txt_workdir/running/*/alive").run("--dead-after", "45s", check=0)
    assert farm.log(0).split()[-1] == "45"
    refused = farm.run("--dead-after", "9s", check=2)
    assert "--dead-after: at least 10s is wanted" in refused.stderr


@walks("run", "--wait-for-others")
def test_a_farmer_waits_for_others_if_it_is_told_to(farm) -> None:
    farm.write("touch began; until [ -e go ]; do sleep 0.02; done; touch ended")
    works = farm.start("-n", "1")
    wait_until((farm.folder / "began").exists)
    waits = farm.start("--wait-for-others")
    leaves = farm.run(check=0)
    assert "is still running on" in leaves.stdout and waits.poll() is None
    (farm.folder / "go").touch()
    assert "nothing to do: the only task is finished" in waits.communicate(timeout=60)[0]
    assert (farm.folder / "ended").exists()
    works.communicate(timeout=60)


# What is kept


@walks("run", "--logs")
@pytest.mark.parametrize(("which", "kept"), [("all", ["log_0", "log_1"]), ("failed", ["log_1"]), ("none", [])])
def test_the_logs_asked_for_are_kept(farm, which: str, kept: list[str]) -> None:
    farm.write("echo good", "echo bad; false").run("--logs", which, check=1)
    assert sorted(path.name for path in (farm.workdir / "logs").iterdir()) == kept


@walks("run", "--log-limit")
def test_of_a_large_output_head_and_tail_are_kept(farm) -> None:
    farm.write("seq 100000").run("--log-limit", "1k", check=0)
    log = farm.log(0)
    assert len(log) < 1200
    assert log.startswith("1\n2\n")
    assert log.endswith("\n99999\n100000\n")
    assert f"[pytaskfarmer: {588_895 - 1024} bytes left out, --log-limit 1024]" in log


@walks("run", "--log-limit")
def test_what_was_left_out_is_counted_though_the_log_was_cut_while_the_task_ran(farm) -> None:
    farm.write(
        "seq 100000; until [ $(stat -c %s tasks.txt_workdir/logs/log_0) -lt 2000 ]; do sleep 0.05; done; echo end",
        "seq 100000; until [ $(stat -c %s tasks.txt_workdir/logs/log_1) -lt 2000 ]; do sleep 0.05; done",
    ).run("--log-limit", "1k", check=0)
    for id, more in ((0, len("end\n")), (1, 0)):
        assert f"\n[pytaskfarmer: {588_895 + more - 1024} bytes left out, --log-limit 1024]\n" in farm.log(id)
        assert farm.log(id).count("left out") == 1 and farm.log(id).startswith("1\n2\n")
    assert farm.log(0).endswith("\n100000\nend\n") and farm.log(1).endswith("\n99999\n100000\n")


@walks("run", "--shared")
def test_a_shared_workdir_can_be_written_by_the_group(farm) -> None:
    farm.write("true").run("--shared", check=0, umask=0o022)
    for path in [farm.workdir, farm.workdir / "finished", farm.workdir / "lock", farm.workdir / "farm.json"]:
        assert path.stat().st_mode & stat.S_IWGRP, path


@walks("run", "--replace")
def test_another_list_replaces_the_old_one_only_if_asked_for(farm) -> None:
    farm.write("true 1").run(check=0)
    (farm.folder / "others.txt").write_text("echo new\n")
    assert farm.call("-w", "tasks.txt_workdir", "others.txt").returncode == 2
    assert farm.call("-w", "tasks.txt_workdir", "--replace", "others.txt").returncode == 0
    assert farm.lines("finished") == ["0 echo new"]


@walks("run", "--lock")
@pytest.mark.parametrize("kind", ["flock", "soft"])
def test_the_farm_is_made_with_the_kind_of_lock_asked_for(farm, kind: str) -> None:
    farm.write("true", "true").run("--lock", kind, check=0)
    assert json.loads((farm.workdir / "farm.json").read_text())["lock"]["kind"] == kind
    assert len(farm.ids("finished")) == 2


@walks("run", "--lock-dir")
def test_the_lock_is_where_it_was_asked_for(farm) -> None:
    (farm.folder / "locks").mkdir()
    farm.write("true").run("--lock-dir", "locks", check=0)
    (lock,) = (farm.folder / "locks").iterdir()
    assert json.loads((farm.workdir / "farm.json").read_text())["lock"]["path"] == str(lock)
    assert not (farm.workdir / "lock").exists()


# What is said


def on_a_terminal(farm, *words: str, term: str = "xterm") -> str:
    """What is shown on a real terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *words],
        cwd=farm.folder,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": term, "COLUMNS": "100", "LINES": "24", "LC_ALL": "C.UTF-8"},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        pass  # EIO: the other end is closed
    os.close(ours)
    process.wait(timeout=60)
    return shown.decode()


BAR = "━"


@walks("run", "--progress")
def test_a_terminal_shows_a_bar_and_the_end_takes_it_away(farm) -> None:
    shown = on_a_terminal(farm.write("sleep 1.5", "false"), "tasks.txt")
    assert BAR in shown and "1/2" in shown
    assert "1 finished, 1 failed in " in shown.split(BAR)[-1]


@walks("run", "--progress")
def test_a_terminal_shows_no_bar_if_none_is_wanted(farm) -> None:
    assert BAR not in on_a_terminal(farm.write("sleep 1.5"), "--progress", "none", "tasks.txt")


@walks("run", "--progress")
def test_a_terminal_that_can_do_nothing_gets_a_bar_only_if_it_is_wanted(farm) -> None:
    farm.write("sleep 1.5")
    assert BAR not in on_a_terminal(farm, "tasks.txt", term="dumb")
    assert "0/1" in on_a_terminal(farm, "--replace", "--progress", "bar", "tasks.txt", term="vt100")


def test_a_batch_log_has_no_bar(farm) -> None:
    assert BAR not in farm.write("sleep 1.5").run(check=0).stdout


@walks("run", "-v", "--verbose")
@pytest.mark.parametrize("flag", [["-v"], ["--verbose"], ["-v", "true"], ["-v", "1"], ["--verbose=yes"]], ids=" ".join)
def test_what_finishes_is_said_if_wanted_and_the_list_stays_the_list(farm, flag: list[str]) -> None:
    assert "finished  task 0" in farm.write("true").run(*flag, check=0).stdout


@walks("run", "-v", "--verbose")
@pytest.mark.parametrize("value", ["0", "false", "no"])
def test_a_verbosity_of_nothing_is_silent_about_what_finishes(farm, value: str) -> None:
    assert "finished  task" not in farm.write("true").run("-v", value, check=0).stdout


@walks("run", "-v", "--verbose")
def test_a_verbosity_of_2_says_where_everything_is(farm) -> None:
    assert f"output of task N: {farm.workdir}/logs/log_N" in farm.write("true").run("-v", "2", check=0).stdout


def test_a_list_may_have_the_name_of_a_verb(farm) -> None:
    (farm.folder / "run").write_text("echo it was a list\n")
    assert farm.call("./run").returncode == 0
    assert farm.call("run", "./run").returncode == 0
    assert farm.call("./run", "-n").returncode == 0


@walks("run", "--version")
@walks("status", "--version")
@walks("retry", "--version")
@pytest.mark.parametrize("verb", [[], ["run"], ["status"], ["retry"]], ids=" ".join)
def test_the_version_is_said(farm, verb: list[str]) -> None:
    done = farm.call(*verb, "--version")
    assert done.returncode == 0
    assert re.fullmatch(r"pytaskfarmer \d+\.\d+\.\d+\n", done.stdout)


@walks("run", "-h", "--help")
@walks("status", "-h", "--help")
@walks("retry", "-h", "--help")
@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("verb", ["run", "status", "retry"])
def test_help_is_given_and_says_what_the_exit_status_means(farm, verb: str, flag: str) -> None:
    done = farm.call(verb, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: pytaskfarmer.py ")
    assert "exit status: 0 everything finished" in done.stdout


# The verbs


@walks("status", "-w", "--workdir")
@walks("retry", "-w", "--workdir")
def test_a_farm_is_found_in_its_workdir(farm) -> None:
    farm.write("false").run("-w", "elsewhere", check=1)
    assert farm.call("status", "tasks.txt").returncode == 2
    assert "failed: 0" in farm.call("status", "tasks.txt", "-w", "elsewhere").stdout
    assert "failed: 0" in farm.call("status", "--workdir", "elsewhere", "tasks.txt").stdout
    assert farm.call("retry", "tasks.txt", "-w", "elsewhere").stdout == "1 failed task is to be run again\n"


@walks("status", "--json")
@walks("retry", "--json")
def test_programs_get_json(farm) -> None:
    farm.write("true", "false").run(check=1)
    assert json.loads(farm.call("status", "--json", "tasks.txt").stdout)["failed_tasks"] == [
        {"id": 1, "command": "false"}
    ]
    assert json.loads(farm.call("retry", "--json", "tasks.txt").stdout) == {"requeued": 1}


@walks("retry", "--run")
def test_a_retry_is_run_if_wanted_with_every_flag_of_run(farm) -> None:
    farm.write("test -e mended", "true").run(check=1)
    (farm.folder / "mended").touch()
    assert farm.call("retry", "tasks.txt").returncode == 0
    assert farm.waiting() == [0]
    done = farm.call("retry", "--run", "-v", "-n", "1", "tasks.txt")
    assert done.returncode == 0
    assert "finished  task 0" in done.stdout
    assert ": 1 slot; " in done.stdout


def test_a_refused_retry_puts_nothing_back(farm) -> None:
    farm.write("false", "true").run(check=1)
    for words in (["1"], ["0", "1"], ["--run", "--bogus"], ["--run", "-n", "0"], ["-n", "2"], ["--run", "--json"]):
        assert farm.call("retry", "tasks.txt", *words).returncode == 2, words
        assert farm.ids("failed") == [0], words


def test_every_flag_has_its_test(farm) -> None:
    """What `--help` offers is what this walk has seen; all flags of run go with `retry --run`."""
    for verb, walked in WALKED.items():
        lines = re.findall(r"^  (-.*?)(?:  |$)", farm.call(verb, "--help").stdout, re.MULTILINE)
        offered = {flag for line in lines for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line)}
        assert offered, verb
        if verb == "retry":
            assert offered >= WALKED["run"]
            offered -= WALKED["run"] - walked
        assert offered == walked, verb


def test_the_program_is_the_same_under_each_of_its_names(farm) -> None:
    said = {
        subprocess.run([*name, "--version"], capture_output=True, text=True, check=True).stdout
        for name in (PROGRAM, [f"{sys.prefix}/bin/pytaskfarmer.py"], [f"{sys.prefix}/bin/pytaskfarmer"])
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    "words",
    [[verb, "--help"] for verb in ("run", "status", "retry", "doctor", "runners", "tasklists")]
    + [["runners"], ["tasklists"], ["runners", "default"], ["tasklists", "TableTaskList"]],
    ids=" ".join,
)
def test_what_explains_fits_into_a_terminal_of_eighty_columns(words: list[str], farm) -> None:
    said = at_a_terminal(80, *words, folder=farm.folder)
    # Where a file lies is not wrapped: it is to be copied.
    assert [line for line in said if len(line) > 80 and not line.startswith("  defined in ")] == []
    narrow = at_a_terminal(60, *words, folder=farm.folder)
    assert len(narrow) > len(said) or words == ["status", "--help"]


@pytest.mark.parametrize("verb", ["run", "status", "retry", "doctor", "runners", "tasklists"])
def test_flags_are_explained_in_a_terminal_of_fifty_columns_too(verb: str, farm) -> None:
    said = at_a_terminal(50, verb, "--help", folder=farm.folder)
    flags = said[next(number for number, line in enumerate(said) if line in ("what runs:", "options:")) :]
    assert [line for line in flags if len(line) > 50] == []


def at_a_terminal(columns: int, *words: str, folder: Path) -> list[str]:
    """The lines of `pytaskfarmer.py WORDS` in a terminal that is so wide."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([*PROGRAM, *words], cwd=folder, stdout=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
        while block := os.read(ours, 65536):
            said += block
    os.close(ours)
    assert process.wait() == 0
    return said.decode().replace("\r\n", "\n").splitlines()
