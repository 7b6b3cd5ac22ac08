"""Who a process is, and ending one with everything it has started, wherever that went."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_until

from taskfarmer.model import Launch, Owner
from taskfarmer.system import leftovers, process, proctable, tree

pytestmark = pytest.mark.quick

#: A worker in small: a subreaper that starts a shell line, waits until the tree says it stands, and ends it.
WORKER = """
import os, signal, sys
from taskfarmer.model import Launch
from taskfarmer.system import process, tree
signal.pthread_sigmask(signal.SIG_BLOCK, process.WAKE)
process.become_subreaper()
line, ready, grace, count = sys.argv[1:]
null = os.open(os.devnull, os.O_RDWR)
older = os.posix_spawn("/bin/sleep", ["sleep", "601"], os.environ) if "older" in ready else 0
import time
time.sleep(0.05)
pid = process.start(Launch("/bin/sh", ("sh", "-c", line)), dict(os.environb), null, null)
while not os.path.exists(ready) or open(ready).read().count("\\n") < int(count):
    time.sleep(0.01)
begun = time.monotonic()
ended, _ = tree.end(pid, float(grace), lambda: False)
print(ended.signal, ended.status, sorted(tree.descendants()) == ([older] if older else []), flush=True)
if older:
    os.kill(older, signal.SIGKILL)
"""

TREES = {
    "a child": "sleep 600 & echo $! >> @R; echo $$ >> @R; wait",
    "a pipeline": "sleep 600 | sleep 600 & echo $! >> @R; echo $$ >> @R; wait",
    "nohup": "nohup sleep 600 > /dev/null 2>&1 & echo $! >> @R; echo $$ >> @R; wait",
    "setsid": "setsid sh -c 'echo $$ >> @R; exec sleep 600' & echo $$ >> @R; wait",
    "setsid nohup in the background": "setsid nohup sh -c 'echo $$ >> @R; exec sleep 600' >/dev/null 2>&1 & echo $$ >> @R; wait",
    "a double fork": "(setsid sh -c 'sh -c \"echo \\$\\$ >> @R; exec sleep 600\" & exit') ; echo $$ >> @R; sleep 600",
}


def end(tmp_path: Path, line: str, count: int = 2, grace: str = "5", ready: str = "ready") -> tuple[str, list[int]]:
    """Run a worker that starts the line and ends it; what it said, and the pids that the line wrote down."""
    path = tmp_path / ready
    done = subprocess.run(
        [sys.executable, "-c", WORKER, line.replace("@R", str(path)), str(path), grace, str(count)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), [int(pid) for pid in path.read_text().split()]


@pytest.mark.parametrize("line", TREES.values(), ids=TREES.keys())
def test_the_whole_tree_dies(tmp_path: Path, line: str) -> None:
    said, pids = end(tmp_path, line)
    assert len(pids) == 2 and [pid for pid in pids if proctable.exists(pid)] == []
    assert said.endswith("True"), "nothing is left; how the shell ended depends on who of them died first"


def test_what_ignores_term_is_killed_after_the_grace(tmp_path: Path) -> None:
    line = "trap '' TERM; echo $$ >> @R; while :; do sleep 0.1; done"
    said, pids = end(tmp_path, line, count=1, grace="0.3")
    assert said == f"{signal.SIGKILL:d} 0 True" and not proctable.exists(pids[0])


def test_parents_are_ended_before_their_children(tmp_path: Path) -> None:
    """A script whose step is ended first may go on to the next step, and what was cut short would seem to be done."""
    for number in range(12):  # by chance they are in order
        line = "echo $$ >> @R; echo $$ >> @R; exec sleep 600"
        for _ in range(6):
            line = f"echo $$ >> @R; sh -c {shlex.quote(line)} & wait"
        task, ready = marked(tmp_path, line, TASKFARMER_OWNER=f"n1.1.7.{number}")
        wait_until(lambda ready=ready: ready.read_text().count("\n") == 8, 30, "the chain stands")
        try:
            chain = list(dict.fromkeys(map(int, ready.read_text().split())))
            assert [pid for pid in tree.descendants() if pid in chain] == chain
        finally:
            os.killpg(task.pid, signal.SIGKILL)
            task.wait(30)


def test_what_cleans_up_on_term_has_its_grace(tmp_path: Path) -> None:
    line = "trap 'sleep 0.3; echo tidy >> @R; exit 7' TERM; echo $$ >> @R; while :; do sleep 0.05; done"
    path = tmp_path / "ready"
    done = subprocess.run(
        [sys.executable, "-c", WORKER, line.replace("@R", str(path)), str(path), "20", "1"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "0 7 True", done.stderr
    assert path.read_text().endswith("tidy\n")


def test_what_an_earlier_task_left_is_spared(tmp_path: Path) -> None:
    said, _ = end(tmp_path, TREES["setsid"], ready="older")
    assert said.endswith("True")


def marked(tmp_path: Path, line: str, **variables: str) -> tuple[subprocess.Popen[bytes], Path]:
    ready = tmp_path / f"pids{len(list(tmp_path.iterdir()))}"
    task = subprocess.Popen(
        ["/bin/sh", "-c", line.replace("@R", str(ready))], env={**os.environ, **variables}, start_new_session=True
    )
    deadline = time.monotonic() + 30
    while not ready.exists() or ready.read_text().count("\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return task, ready


@pytest.mark.parametrize("line", TREES.values(), ids=TREES.keys())
def test_marked_processes_are_killed_wherever_they_went(tmp_path: Path, line: str) -> None:
    task, ready = marked(tmp_path, line, TASKFARMER_OWNER=f"n1.1.2.{tmp_path.name}")
    pids = [int(pid) for pid in ready.read_text().split()]
    assert all(map(proctable.exists, pids))
    killed = leftovers.kill_marked(f"TASKFARMER_OWNER=n1.1.2.{tmp_path.name}")
    assert killed >= 2 and not any(map(proctable.exists, pids))
    task.wait(30)  # how it ended is no matter: it may have heard of its child's death first, and gone by itself


def test_a_sessions_unmarked_members_die_with_it(tmp_path: Path) -> None:
    line = "env -u TASKFARMER_OWNER sleep 600 & echo $! >> @R; echo $$ >> @R; wait"
    task, ready = marked(tmp_path, line, TASKFARMER_OWNER=f"n1.1.3.{tmp_path.name}")
    pids = [int(pid) for pid in ready.read_text().split()]
    leftovers.kill_marked(f"TASKFARMER_OWNER=n1.1.3.{tmp_path.name}")
    assert not any(map(proctable.exists, pids))
    task.wait(30)


def test_others_tasks_are_spared(tmp_path: Path) -> None:
    name = f"n1.1.4.{tmp_path.name}"
    mine, _ = marked(tmp_path, TREES["a child"], TASKFARMER_OWNER=name, TASKFARMER_SLOT="1")
    others, _ = marked(tmp_path, TREES["a child"], TASKFARMER_OWNER=name, TASKFARMER_SLOT="11")
    longer, _ = marked(tmp_path, TREES["a child"], TASKFARMER_OWNER=name + "0", TASKFARMER_SLOT="1")
    try:
        assert leftovers.kill_marked(f"TASKFARMER_OWNER={name}", "TASKFARMER_SLOT=1") > 0
        mine.wait(30)  # how it ended is no matter, see above
        assert others.poll() is None and longer.poll() is None
    finally:
        leftovers.kill_marked(f"TASKFARMER_OWNER={name}")
        leftovers.kill_marked(f"TASKFARMER_OWNER={name}0")
        others.wait(30)
        longer.wait(30)


def test_a_session_is_killed_by_its_leader_and_not_by_a_pid_that_is_used_again(tmp_path: Path) -> None:
    line = "env -i sleep 600 & echo $! >> @R; echo $$ >> @R; exec env -i sleep 600"
    task, ready = marked(tmp_path, line)
    pids = [int(pid) for pid in ready.read_text().split()]
    start = proctable.start_time(task.pid)
    assert start is not None
    assert leftovers.kill_marked("NOBODY=has this", leaders=[leftovers.Leader(task.pid, start + 1)]) == 0
    assert all(map(proctable.exists, pids))
    assert leftovers.kill_marked("NOBODY=has this", leaders=[leftovers.Leader(task.pid, start)]) == 2
    assert not any(map(proctable.exists, pids))
    task.wait(30)


def test_what_is_forked_while_one_looks_is_found(tmp_path: Path) -> None:
    """A task that ends while its worker is mourned may leave a child that no look at all processes has seen yet."""
    for number in range(300):
        mark = f"TASKFARMER_OWNER=n1.1.4.{tmp_path.name}.{number}"
        name, _, value = mark.partition("=")
        shell = subprocess.Popen(["sh", "-c", "setsid sleep 30 & exit"], env={**os.environ, name: value})
        time.sleep(number % 60 / 10_000)
        leftovers.kill_marked(mark)
        shell.wait()
        assert leftovers.kill_marked(mark) == 0, f"left behind by number {number}"


def test_what_a_dead_worker_had_forked_is_known_by_its_name() -> None:
    """Between fork and exec a task has the environment of its worker, which is not marked."""
    pid = os.fork()
    if not pid:
        process.take_name(process.worker_name(4711))
        signal.pause()
    try:
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "worker-4711\n")
        assert leftovers.kill_marked("NOBODY=has this", name=process.worker_name(4712)) == 0
        assert leftovers.kill_marked("NOBODY=has this", name=process.worker_name(4711)) == 1
    finally:
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_nothing_is_killed_where_nothing_is_marked() -> None:
    assert leftovers.kill_marked("TASKFARMER_OWNER=nobody.has.this.name") == 0


# Who one is


def test_a_zombie_is_gone() -> None:
    child = subprocess.Popen(["sleep", "600"])
    begun = proctable.start_time(child.pid)
    owner = Owner(process.host(), child.pid, begun or 0, "abc")
    assert proctable.exists(child.pid) and not process.is_gone(owner)
    assert process.is_gone(owner._replace(start=owner.start + 1)), "a pid that is used again is somebody else"
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not proctable.exists(child.pid) and process.is_gone(owner)
    child.wait()
    assert proctable.start_time(child.pid) is None


def test_nothing_is_known_of_another_host() -> None:
    assert not process.is_gone(Owner("another-host", 999999, 1, "abc"))


def test_a_process_with_a_strange_name_is_known(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "600"])
    try:
        assert proctable.start_time(child.pid) is not None
    finally:
        child.kill()
        child.wait()


def test_an_owners_name_is_read_back_and_never_used_twice() -> None:
    one, two = process.new_owner(), process.new_owner()
    assert one != two and Owner.parse(str(one)) == one
    assert Owner.parse("n1.cluster.example.12.34.abc") == Owner("n1.cluster.example", 12, 34, "abc")
    assert Owner.parse("lost+found") is None and Owner.parse("a.b.c.d") is None


def test_a_program_is_found_as_a_shell_finds_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    assert process.find_program("mine", str(tmp_path)) is None, "it is not executable"
    (tmp_path / "mine").chmod(0o755)
    assert process.find_program("mine", f"/nowhere:{tmp_path}") == f"{tmp_path}/mine"
    assert process.find_program("./mine", str(tmp_path)) == "./mine"


def test_a_tasks_signals_are_reset_and_its_session_is_its_own(tmp_path: Path) -> None:
    out = tmp_path / "status"
    fd = os.open(out, os.O_CREAT | os.O_WRONLY)
    null = os.open(os.devnull, os.O_RDONLY)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        line = "grep -E '^Sig(Ign|Blk)' /proc/self/status; cut -d' ' -f6 /proc/$$/stat; echo $$"
        pid = process.start(Launch("/bin/sh", ("sh", "-c", line)), dict(os.environb), null, fd)
        os.waitpid(pid, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGTERM, before)
        os.close(fd)
        os.close(null)
    blocked, ignored, session, own = out.read_text().split("\n")[:4]
    assert int(blocked.split()[1], 16) == 0 and int(ignored.split()[1], 16) & (1 << (signal.SIGTERM - 1)) == 0
    assert session.strip() == own.strip() == str(pid)
