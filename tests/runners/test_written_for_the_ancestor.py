"""Users' classes that override `run(taskid, command, logfh)` and `terminate()`, written for PyTaskFarmer 0.1.0, work unchanged."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap

import pytest
from conftest import Farm
from defined import define, run
from farmhands import (
    assert_nothing_runs_in,
    children_of,
    ended,
    kill,
    processes_in,
    wait_for,
)

pytestmark = pytest.mark.quick

#: As users have written them: with a Popen of their own, around a runner of ours, and in Python alone.
CLASSES = '''
import os
import subprocess
import time

from taskfarmer.runners import BasicRunner, Runner

class Own(Runner):
    def __init__(self, shell="/bin/sh"):
        self.shell = shell
        self.process = None

    def run(self, taskid, command, logfh):
        logfh.write("task %d: %s\\n" % (taskid, command))
        logfh.flush()
        self.process = subprocess.Popen([self.shell, "-c", command], stdin=None, stdout=logfh, stderr=logfh)
        return self.process.wait()

    def terminate(self):
        open("terminated_%s" % os.environ["PROC_NUMBER"], "w").close()
        self.process.kill()

class Nice(BasicRunner):
    def run(self, taskid, command, logfh):
        return super().run(taskid, "nice " + command, logfh)

class WithoutOurConstructor(BasicRunner):
    def __init__(self, greeting):
        self.greeting = greeting

    def run(self, taskid, command, logfh):
        print(self.greeting, file=logfh)
        return BasicRunner.run(self, taskid, command, logfh)

class OnlyTerminate(BasicRunner):
    def terminate(self):
        open("terminated", "w").close()
        super().terminate()

class Evaluating(Runner):
    """Says with each command what it returns."""
    def run(self, taskid, command, logfh):
        return eval(command)

    def terminate(self):
        pass

class Stubborn(Runner):
    def run(self, taskid, command, logfh):
        open("started_%d" % taskid, "w").close()
        again = os.path.exists("go")
        while not again:
            try:
                time.sleep(0.1)
            except BaseException:
                pass
        return 0

    def terminate(self):
        raise KeyError("no, thanks")
'''


@pytest.fixture
def lab(farm: Farm) -> Farm:
    (farm.folder / "mine.py").write_text(textwrap.dedent(CLASSES))
    return farm


def start(farm: Farm, dotted: str, *commands: str, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    define(farm, dotted).write(*commands)
    return farm.start("-n", "2", "--runner", "lab", *flags)


BLOCK = "touch started_$PROC_NUMBER; [ -e go ] || sleep 600"
#: Each runs BLOCK in its way.
BLOCKING = {"mine.Own": BLOCK, "mine.Nice": f"bash -c '{BLOCK}'", "mine.OnlyTerminate": BLOCK, "mine.Stubborn": "any"}

blocking = pytest.mark.parametrize("dotted", BLOCKING)


def test_one_with_a_popen_of_its_own(lab: Farm) -> None:
    run(
        define(lab, "mine.Own", shell="/bin/bash"),
        "echo a; echo b >&2",
        "exit 3",
        "echo $((6 * 7)) $PROC_NUMBER",
        check=1,
    )
    assert lab.log(0) == "task 0: echo a; echo b >&2\na\nb\n"
    assert lab.log(2) == "task 2: echo $((6 * 7)) $PROC_NUMBER\n42 2\n"
    assert lab.ids("finished") == [0, 2] and lab.ids("failed") == [1]
    assert_nothing_runs_in(lab.folder)


def test_one_around_ours(lab: Farm) -> None:
    run(define(lab, "mine.Nice"), "nice", "nice && exit 4", "nosuchprogram", check=1)
    assert lab.log(0) == f"{min(os.nice(0) + 10, 19)}\n"
    assert lab.log(1) == f"{min(os.nice(0) + 10, 19)}\n"
    assert "nosuchprogram" in lab.log(2)
    assert lab.ids("finished") == [0] and lab.ids("failed") == [1, 2]


def test_one_that_does_not_call_our_constructor(lab: Farm) -> None:
    run(define(lab, "mine.WithoutOurConstructor", greeting="hello"), "echo world", "echo 'to you' && true")
    assert [lab.log(0), lab.log(1)] == ["hello\nworld\n", "hello\nto you\n"]


@pytest.mark.parametrize(
    ("result", "ended_as"),
    [
        ("0", "finished"), ("False", "finished"), ("7", "exit 7"), ("True", "exit 1"), ("255", "exit 255"),
        ("256", "exit 1"), ("-9", "killed (signal 9)"), ("-11", "killed (signal 11)"), ("-15", "killed (signal 15)"),
        ("-13", "killed (signal 13)"), ("-19", "exit 1"), ("-1000", "exit 1"), ("None", "exit 1"), ("'0'", "exit 1"),
        ("1 / 0", "exit 1"), ("exit()", "finished"), ("exit(5)", "exit 5"), ("exit('bye')", "exit 1"),
        ("os.system('exit 1')", "exit 1"), ("os.kill(os.getpid(), 9)", "killed (signal 9)"), ("print('x')", "exit 1"),
    ],
)  # fmt: skip
def test_what_it_returns_is_how_the_task_ended(lab: Farm, result: str, ended_as: str) -> None:
    done = define(lab, "mine.Evaluating").write(result).run("-n", "1", "-v", "--runner", "lab")
    assert done.returncode == (0 if ended_as == "finished" else 1), done.stdout
    assert ended_as in done.stdout
    lab.assert_each_task_stands_once(1)
    assert_nothing_runs_in(lab.folder)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("None", "run() must return an exit status, a whole number; it returned None"),
        ("exit('bye')", "bye\n"),
        ("print('\\udcfc')", "udcfc"),
    ],
)
def test_what_went_wrong_stands_in_the_log(lab: Farm, result: str, said: str) -> None:
    run(define(lab, "mine.Evaluating"), result, check=1)
    assert said in lab.log(0)


def test_a_number_of_another_library_is_a_number(lab: Farm) -> None:
    zero = "type('int64', (), {'__index__': lambda self: 0})()"
    run(define(lab, "mine.Evaluating"), zero)


def test_a_task_sees_what_any_task_sees(lab: Farm) -> None:
    facts = (
        "grep SigIgn /proc/self/status; readlink /proc/self/fd/0; ls /proc/self/fd | wc -l; env | grep -c ^TASKFARMER_"
    )
    run(define(lab, "mine.Own"), f"{facts}; ps -o sid= -p $$")
    lines = lab.log(0).splitlines()[1:]
    assert int(lines[0].split()[1], 16) & (1 << 31 | 1 << 32) == int(lines[0].split()[1], 16), lines[0]
    assert lines[1:4] == ["/dev/null", "4", "5"]
    assert int(lines[4]) != os.getsid(0)


@blocking
def test_a_stop_ends_it_and_gives_the_task_back(lab: Farm, dotted: str) -> None:
    farmer = start(lab, dotted, BLOCKING[dotted], BLOCKING[dotted], "true", flags=("--grace", "1"))
    wait_for(lab, "started_0", "started_1")
    farmer.send_signal(signal.SIGTERM)
    status, said = ended(farmer)
    assert status == 75, said
    assert_nothing_runs_in(lab.folder)
    assert lab.waiting() == [0, 1, 2] or sorted(lab.waiting()) == [0, 1, 2]
    if dotted in ("mine.Own", "mine.OnlyTerminate"):
        assert list(lab.folder.glob("terminated*"))


@blocking
def test_its_time_is_up_like_any_other_tasks(lab: Farm, dotted: str) -> None:
    farmer = start(lab, dotted, BLOCKING[dotted], flags=("--task-timeout", "2s", "--grace", "0.5"))
    status, said = ended(farmer, 60)
    assert status == 1 and "timed out" in said, said
    assert lab.ids("failed") == [0]
    assert_nothing_runs_in(lab.folder)


@blocking
def test_when_farmer_and_workers_are_killed_nothing_of_it_goes_on_beside_the_next_attempt(
    lab: Farm, dotted: str
) -> None:
    farmer = start(lab, dotted, BLOCKING[dotted])
    wait_for(lab, "started_0")
    before = processes_in(lab.folder)
    workers = children_of(farmer.pid)
    kill([farmer.pid, *workers])
    farmer.communicate()
    (lab.folder / "go").touch()
    again = lab.run("-n", "1", "--runner", "lab")
    assert again.returncode == 0, again.stdout + again.stderr
    assert set(processes_in(lab.folder)) & set(before) == set()
    assert lab.ids("finished") == [0]


@blocking
def test_a_killed_worker_takes_what_it_hosts_with_it(lab: Farm, dotted: str) -> None:
    farmer = start(lab, dotted, BLOCKING[dotted])
    wait_for(lab, "started_0")
    (worker,) = [pid for pid in children_of(farmer.pid) if children_of(pid)]
    tree = processes_below(worker)
    (lab.folder / "go").touch()
    kill([worker])
    status, said = ended(farmer, 60)
    assert status == 0 and "lost" in said, said
    assert set(tree) & set(processes_in(lab.folder)) == set()


def processes_below(pid: int) -> list[int]:
    below = children_of(pid)
    return below + [each for child in below for each in processes_below(child)]
