"""Attempts that fail, take too long, are tried again; and what is kept of their output."""

from __future__ import annotations

import os

import pytest
from conftest import Farm, wait_until
from farmhands import (
    assert_nothing_runs_in,
    ended,
    processes_in,
    wait_for,
)

pytestmark = pytest.mark.quick


def logs(farm: Farm) -> list[str]:
    return sorted(os.listdir(farm.workdir / "logs"))


# --task-timeout


def test_a_task_that_takes_too_long_is_ended_with_its_whole_tree_and_the_next_ones_run(farm: Farm) -> None:
    tree = "setsid nohup sleep 600 & (setsid sh -c 'sleep 600 & sleep 600' &) ; trap '' TERM; sleep 600; sleep 600"
    farm.write("sleep 600", tree, "echo next", "true")
    done = farm.run("-n", "1", "--task-timeout", "1", "--grace", "0.3", check=1)
    assert (farm.ids("failed"), farm.ids("finished")) == ([0, 1], [2, 3])
    assert done.stdout.count("timed out") == 2
    assert farm.log(2) == "next\n"
    assert_nothing_runs_in(farm.folder)


def test_a_task_within_its_time_is_left_alone(farm: Farm) -> None:
    farm.write("sleep 0.3; echo there").run("--task-timeout", "30s", check=0)
    assert farm.log(0) == "there\n"


def test_a_timed_out_task_is_tried_again_if_asked(farm: Farm) -> None:
    farm.write("if [ $TASKFARMER_ATTEMPT = 1 ]; then sleep 600; fi").run(
        "--task-timeout", "0.5", "--retries", "1", check=0
    )


# --retries


def test_a_failed_task_is_tried_again_behind_the_rest(farm: Farm) -> None:
    farm.write("echo A$TASKFARMER_ATTEMPT >> order; false", "echo B >> order", "echo C >> order")
    farm.run("-n", "1", "--retries", "2", check=1)
    assert (farm.folder / "order").read_text().split() == ["A1", "B", "C", "A2", "A3"]
    assert (farm.ids("failed"), farm.ids("finished")) == ([0], [1, 2])
    farm.assert_each_task_stands_once(3)


def test_without_retries_a_task_is_tried_once(farm: Farm) -> None:
    farm.write("echo x >> tries; false").run(check=1)
    assert (farm.folder / "tries").read_text() == "x\n"


def test_a_task_that_succeeds_in_the_end_has_not_failed(farm: Farm) -> None:
    done = farm.write("[ $TASKFARMER_ATTEMPT = 3 ]").run("--retries", "2", check=0)
    assert "1 finished, 0 failed" in done.stdout
    assert done.stdout.count("will be tried again") == 2


def test_attempts_are_counted_across_restarts(farm: Farm) -> None:
    """A stopped attempt has a number of its own, but does not use up a retry."""
    line = "echo $TASKFARMER_ATTEMPT >> tries; [ -e go ] && exit 1; touch running; sleep 600"
    farm.write(line)
    for _ in range(2):
        farmer = farm.start("--retries", "1")
        wait_for(farm, "running")
        farmer.terminate()
        assert ended(farmer)[0] == 75
        (farm.folder / "running").unlink()
    (farm.folder / "go").touch()
    farm.run("--retries", "1", check=1)
    assert (farm.folder / "tries").read_text().split() == ["1", "2", "3", "4"]


def test_used_up_retries_stay_used_up_after_a_restart(farm: Farm) -> None:
    farm.write("echo x >> tries; false", "until [ -e go ]; do sleep 0.02; done")
    farmer = farm.start("-n", "2", "--retries", "2", "--retry-delay", "1h")
    wait_for(farm, "tries")
    wait_until(lambda: not processes_in(farm.folder, "echo x"))
    farmer.terminate()
    ended(farmer)
    (farm.folder / "go").touch()
    farm.run("-n", "1", "--retries", "2", check=1)
    assert (farm.folder / "tries").read_text() == "x\n" * 3


def test_retry_delay_waits_before_it_tries_again(farm: Farm) -> None:
    farm.write("date +%s%N >> when; [ $TASKFARMER_ATTEMPT = 2 ]").run("--retries", "1", "--retry-delay", "1.5", check=0)
    first, second = map(int, (farm.folder / "when").read_text().split())
    assert second - first >= 1.5e9


def test_max_failures_starts_nothing_more_and_finishes_what_runs(farm: Farm) -> None:
    slow = "touch slow; until [ -e failed_3 ]; do sleep 0.02; done; sleep 0.3; echo whole >> slow"
    fail = "until [ -e slow ]; do sleep 0.02; done; touch failed_$PROC_NUMBER; false"
    farm.write(slow, *[fail] * 3, *["sleep 0.2; touch never_$PROC_NUMBER"] * 200)
    done = farm.run("-n", "2", "--max-failures", "3", check=1)
    assert "--max-failures 3" in done.stdout
    assert farm.ids("failed") == [1, 2, 3]
    assert (farm.folder / "slow").read_text() == "whole\n"
    assert len(farm.waiting()) > 190
    farm.assert_each_task_stands_once(204)


# --logs


def test_logs_all_keeps_every_output(farm: Farm) -> None:
    farm.write("echo a", "echo b >&2; false", "true").run(check=1)
    assert logs(farm) == ["log_0", "log_1", "log_2"]
    assert [farm.log(id) for id in range(3)] == ["a\n", "b\n", ""]


def test_logs_failed_keeps_as_many_files_as_tasks_have_failed(farm: Farm) -> None:
    farm.write(*(f"echo {id}; [ $(( {id} % 10 )) != 3 ]" for id in range(60)), "nosuchprogram", "kill -9 $$")
    farm.run("-n", "3", "--logs", "failed", check=1)
    failed = sorted(farm.ids("failed"))
    assert failed == [3, 13, 23, 33, 43, 53, 60, 61]
    assert logs(farm) == sorted(f"log_{id}" for id in failed)
    assert [farm.log(id) for id in failed[:6]] == [f"{id}\n" for id in failed[:6]]
    assert "nosuchprogram" in farm.log(60)


def test_logs_failed_keeps_no_log_of_a_task_that_failed_first_and_finished_later(farm: Farm) -> None:
    farm.write("echo try $TASKFARMER_ATTEMPT; [ $TASKFARMER_ATTEMPT = 3 ]", "echo no; false")
    farm.run("-n", "1", "--logs", "failed", "--retries", "2", check=1)
    assert logs(farm) == ["log_1"]


def test_logs_failed_keeps_no_log_of_a_task_that_finished_when_a_person_retried_it(farm: Farm) -> None:
    farm.write("echo out; [ -e go ]").run("--logs", "failed", check=1)
    assert logs(farm) == ["log_0"]
    (farm.folder / "go").touch()
    assert farm.call("retry", "tasks.txt", "--run", "--logs", "failed").returncode == 0
    assert farm.ids("finished") == [0]
    assert logs(farm) == []


def test_logs_failed_keeps_no_log_of_a_task_that_was_stopped(farm: Farm) -> None:
    farmer = farm.write("echo out; touch began; sleep 600").start("--logs", "failed")
    wait_for(farm, "began")
    farmer.terminate()
    ended(farmer)
    assert logs(farm) == []


def test_logs_none_keeps_nothing(farm: Farm) -> None:
    farm.write("echo a", "echo b; false", "nosuchprogram").run("--logs", "none", check=1)
    assert logs(farm) == []
    assert sorted(farm.ids("failed")) == [1, 2]


def test_the_log_is_that_of_the_last_attempt(farm: Farm) -> None:
    farm.write("echo attempt $TASKFARMER_ATTEMPT; false").run("--retries", "1", check=1)
    assert farm.log(0) == "attempt 2\n"


# --log-limit

LIMIT = 20_000


@pytest.mark.parametrize("keep", ["all", "failed"])
def test_log_limit_keeps_head_and_tail(farm: Farm, keep: str) -> None:
    farm.write("seq 1 100000; false").run("--logs", keep, "--log-limit", str(LIMIT), check=1)
    text = farm.log(0)
    assert len(text) <= LIMIT + 100
    assert text.startswith("1\n2\n3\n")
    assert text.endswith("99999\n100000\n")
    assert "bytes left out, --log-limit 20000" in text


def test_log_limit_leaves_a_smaller_output_alone(farm: Farm) -> None:
    farm.write("seq 1 1000").run("--log-limit", str(LIMIT), check=0)
    assert farm.log(0) == "".join(f"{n}\n" for n in range(1, 1001))


def test_log_limit_holds_while_the_task_is_still_running(farm: Farm) -> None:
    """A task that talks for hours must not fill the disk before it ends."""
    chatter = "echo begin; while [ ! -e go ]; do seq 1 500; sleep 0.005; done; echo end"
    farmer = farm.write(chatter).start("--log-limit", str(LIMIT))
    log = farm.workdir / "logs" / "log_0"
    written = farm.workdir / "logs" / "log_0"
    wait_until(lambda: written.exists() and b"left out" in written.read_bytes(), what="the first cut")
    wait_until(lambda: log.stat().st_size < 2 * LIMIT, what="a cut")
    biggest = 0

    def cut_again() -> bool:
        nonlocal biggest
        size = log.stat().st_size
        grown, biggest = biggest, max(biggest, size)
        return size < grown // 2

    for _ in range(3):
        wait_until(cut_again, what="another cut")
    (farm.folder / "go").touch()
    assert ended(farmer)[0] == 0
    text = farm.log(0)
    assert len(text) <= LIMIT + 200
    assert text.startswith("begin\n1\n2\n")
    assert text.endswith("500\nend\n")


# -n and --shell


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_n_tasks_run_at_a_time(farm: Farm, slots: int) -> None:
    """Every task waits until as many run as there may be; one more would be seen, one less would wait for ever."""
    meet = "touch here_$PROC_NUMBER; ls | grep -c '^here_' >> seen; until [ -e go ]; do sleep 0.02; done"
    farmer = farm.write(*[meet] * (slots + 2)).start("-n", str(slots))
    wait_for(farm, *(f"here_{id}" for id in range(slots)))
    wait_until(lambda: len(processes_in(farm.folder, "touch here")) >= slots)
    assert not (farm.folder / f"here_{slots}").exists()
    (farm.folder / "go").touch()
    assert ended(farmer)[0] == 0


def test_shell_never_splits_at_blanks_and_quotes_only(farm: Farm) -> None:
    farm.write("printf '[%s]' '$HOME' a\\ b \"c  d\" ; x").run("--shell", "never", check=0)
    assert farm.log(0) == "[$HOME][a b][c  d][;][x]"


def test_shell_always_starts_bash_for_plain_commands(farm: Farm) -> None:
    farm.write("ps -o comm= -p $PPID >/dev/null; echo $BASH_VERSION", "cat /proc/self/stat").run(
        "--shell", "always", check=0
    )
    assert farm.log(0).startswith("5") or farm.log(0)[0].isdigit()
    dry = farm.run("--shell", "always", "--dry-run", check=0).stdout
    assert "1 bash -c 'cat /proc/self/stat'" in dry


# What cannot be started


def test_what_cannot_be_started_is_a_failed_task_with_the_reason_in_its_log(farm: Farm) -> None:
    (farm.folder / "plain.txt").write_text("no program\n")
    (farm.folder / "badhead").write_text("#!/no/such/interpreter\n")
    (farm.folder / "badhead").chmod(0o755)
    lines = {
        "nosuchprogram": (127, "not found"),
        "./nosuchprogram x": (127, "No such file"),
        "./plain.txt": (126, "Permission denied"),
        ".": (2, ""),
        "./": (126, "directory"),
        "/etc": (126, "directory"),
        "./plain.txt/x": (126, "Not a directory"),
        "./badhead": (127, ""),
        "nosuchprogram | cat; false": (1, "not found"),
    }
    said = farm.write(*lines, "echo fine").run("-n", "1", check=1).stdout
    assert farm.ids("finished") == [len(lines)]
    for id, (status, reason) in enumerate(lines.values()):
        assert f"failed  task {id}  exit {status} " in said
        assert reason in farm.log(id)


#: A line longer than execve(2) takes.
LONG = "echo " + "x" * 200_000


@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_what_the_kernel_refuses_is_a_failed_task_and_not_the_end_of_the_farm(farm: Farm, mode: str) -> None:
    """A line that is too long, and a quote that is never closed."""
    said = farm.write(LONG, "echo 'open", "env true").run("-n", "1", "--shell", mode, check=1).stdout
    assert farm.ids("finished") == [2]
    assert farm.ids("failed") == [0, 1]
    assert "Traceback" not in said
    assert "Argument list too long" in farm.log(0)
    assert len(farm.log(0)) < 1000
    assert farm.log(1)


def test_an_attempt_that_was_not_started_is_told_as_such(farm: Farm) -> None:
    assert "failed  task 0  not started" in farm.write(LONG).run(check=1).stdout


def test_the_exit_status_of_a_task_is_told(farm: Farm) -> None:
    said = farm.write("exit 7", "kill -9 $$", "kill -SEGV $$").run("-n", "1", check=1).stdout
    assert "task 0  exit 7 " in said
    assert "task 1  killed (signal 9)" in said
    assert "task 2  killed (signal 11)" in said
