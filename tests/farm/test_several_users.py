"""Two users of one group work on one list: with any umask, after any death of the other; and a third is told to keep out.

Every process under test runs as one of the two and never as root, to whom nothing is forbidden.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import filelock
import pytest
from conftest import Farm, wait_until
from farmhands import children_of, ended, kill, processes_in

import taskfarmer
from taskfarmer.system import proctable

sys.path.insert(0, str(Path(__file__).parents[1] / "stores"))

from forked import folder_in_memory

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of several users")
quick = pytest.mark.quick
in_ci = pytest.mark.components  # more of the same, and what takes seconds, is not for every commit

GROUP = 61000
#: Users of their own for each process that runs tests: what else a user has running counts.
ANNA = 61001 + 10 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
BERT = ANNA + 1
UMASKS = pytest.mark.parametrize(
    "umask", [pytest.param(0o022, marks=in_ci), pytest.param(0o077, marks=quick)], ids=["umask 022", "umask 077"]
)

#: Says in a file of the user's own that it began and ended. Two at once are told in `twice`.
TASK = """\
test $(id -u) != 0 || exit 9
me=ran_${PROC_NUMBER}_$(id -u)
exec 9> lock_$PROC_NUMBER
flock -n 9 || echo $PROC_NUMBER >> twice
echo begun >> $me
until [ -e go ]; do sleep 0.02; done
echo ended >> $me
"""


class User(NamedTuple):
    """Somebody of the group."""

    id: int
    umask: int

    def rights(self) -> dict[str, object]:
        """What makes a subprocess this user's."""
        return {"user": self.id, "group": GROUP, "extra_groups": [], "umask": self.umask}


class Team(Farm):
    """A farm of two users, and the program as one of them starts it."""

    def __init__(self, folder: Path, code: Path, umask: int) -> None:
        super().__init__(folder)
        self.anna, self.bert = User(ANNA, umask), User(BERT, umask)
        self._program = [_python_for_everybody(), "-m", "taskfarmer"]
        self._env = {**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"}

    def write_tasks(self, count: int) -> Team:
        """A list of tasks that wait for `go`."""
        (self.folder / "task.sh").write_text(TASK)
        self.write(*["sh task.sh"] * count)
        for name in ("twice", *(f"lock_{id}" for id in range(count))):
            (self.folder / name).touch()
            (self.folder / name).chmod(0o666)
        return self

    def start_as(self, user: User, *flags: str) -> subprocess.Popen[str]:
        """Start a farmer; whoever kills its group kills its workers, but not its tasks."""
        farmer = subprocess.Popen(
            [*self._program, *flags, "tasks.txt"], cwd=self.folder, env=self._env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **user.rights(),
        )  # fmt: skip
        assert os.stat(f"/proc/{farmer.pid}").st_uid == user.id
        return farmer

    def call_as(self, user: User, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        return subprocess.run(
            [*self._program, *words], cwd=self.folder, env=self._env, text=True, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=60, **user.rights(),
        )  # fmt: skip

    def runs(self, id: int, user: User) -> list[str]:
        """What a task has said when this user ran it."""
        path = self.folder / f"ran_{id}_{user.id}"
        return path.read_text().split() if path.exists() else []

    def begun(self, user: User) -> list[int]:
        """The tasks that this user has begun."""
        return sorted(int(path.name.split("_")[1]) for path in self.folder.glob(f"ran_*_{user.id}"))

    def claimed(self) -> set[str]:
        """The tokens of all claims."""
        files = self.workdir.glob("running/*/claims")
        return {line.split()[0] for claims in files for line in claims.read_text().splitlines()}

    def recorded(self) -> set[str]:
        """The tokens of all attempts of which a worker has written down the end."""
        lines = [line for slot in self.workdir.glob("running/*/slot_*") for line in slot.read_text().splitlines()]
        return {line.split()[1] for line in lines if line.startswith("end ")}

    def go(self) -> None:
        (self.folder / "go").touch()

    def kill_farm(self, farmer: subprocess.Popen[str]) -> None:
        """Farmer and workers die at once, their tasks do not."""
        kill([farmer.pid, *children_of(farmer.pid)])
        ended(farmer)

    def kill_everything(self, farmer: subprocess.Popen[str]) -> None:
        """As when a node is switched off."""
        workers = children_of(farmer.pid)
        tasks = [task for worker in workers for task in children_of(worker)]
        kill([farmer.pid, *workers, *tasks])
        ended(farmer)
        wait_until(lambda: not any(map(proctable.exists, tasks)), what="the end of its tasks")

    def assert_all_is_the_groups(self) -> None:
        """Files are 0664 and folders 2775, whatever the umask."""
        for path in [self.workdir, *self.workdir.rglob("*")]:
            about = path.stat()
            assert (oct(about.st_mode & 0o7777), about.st_gid) == ("0o2775" if path.is_dir() else "0o664", GROUP), path
            assert about.st_uid != 0, path

    def assert_never_two_at_once(self) -> None:
        assert (self.folder / "twice").read_text() == ""


def _python_for_everybody() -> str:
    """The Python that runs the tests, or the system's if that one is in a folder only root may enter."""
    python = Path(sys.executable).resolve()
    open_to_all = all(folder.stat().st_mode & 0o001 for folder in python.parents)
    return str(python) if open_to_all else "/usr/bin/python3"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder into which everybody may look. (Nobody else may look into pytest's own.)"""
    with folder_in_memory(Path(tempfile.gettempdir())) as folder:
        folder.chmod(0o755)
        yield folder
        for _ in range(3):
            kill([pid for inner in folder.iterdir() for pid in processes_in(inner)])


@pytest.fixture
def code(place: Path) -> Path:
    """The program, where the users find it."""
    hidden = shutil.ignore_patterns("__pycache__")
    for package in (taskfarmer, filelock):
        folder = Path(str(package.__file__)).parent
        shutil.copytree(folder, place / "code" / folder.name, ignore=hidden)
    return place / "code"


@pytest.fixture
def group_folder(place: Path) -> Path:
    """A folder as groups have them: what is made in it is the group's."""
    folder = place / "project"
    folder.mkdir()
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    return folder


@pytest.fixture
def own_folder(place: Path) -> Path:
    """A folder of anna's, in which others may make files but have no right to hers."""
    folder = place / "annas"
    folder.mkdir()
    os.chown(folder, ANNA, GROUP)
    folder.chmod(0o777)
    return folder


@pytest.fixture
def team(farm: Farm, group_folder: Path, code: Path) -> Callable[[int], Team]:
    """Their farm, once their umask is known."""
    return lambda umask: Team(group_folder, code, umask)


# Together


@UMASKS
def test_two_users_share_the_work(team: Callable[[int], Team], umask: int) -> None:
    farm = team(umask).write_tasks(8)
    first = farm.start_as(farm.anna, "-n", "2")
    wait_until(lambda: len(farm.begun(farm.anna)) == 2, what="anna's tasks")
    second = farm.start_as(farm.bert, "-n", "2")
    wait_until(lambda: len(farm.begun(farm.bert)) == 2, what="bert's tasks")
    farm.assert_all_is_the_groups()
    farm.go()
    for farmer in (first, second):
        status, said = ended(farmer)
        assert status == 0, said
    farm.assert_each_task_stands_once(8)
    assert len(farm.begun(farm.anna)) + len(farm.begun(farm.bert)) == 8
    farm.assert_never_two_at_once()
    farm.assert_all_is_the_groups()
    events = json.loads((farm.workdir / "timeline.json").read_text())
    assert sorted(e["args"]["task"] for e in events if e["ph"] == "X") == list(range(8))
    assert len({e["pid"] for e in events}) == 2


@pytest.mark.parametrize(
    ("flag", "umask"),
    [
        pytest.param("setgid", 0o077, marks=quick),
        pytest.param("--shared", 0o022, marks=quick),
        pytest.param("setgid", 0o022, marks=in_ci),
        pytest.param("--shared", 0o077, marks=in_ci),
    ],
)
def test_a_group_may_work_where_the_first_user_said_so(place: Path, code: Path, umask: int, flag: str) -> None:
    folder = place / "project"
    folder.mkdir()
    os.chown(folder, ANNA, GROUP)
    folder.chmod(0o2775 if flag == "setgid" else 0o775)
    farm = Team(folder, code, umask)
    farm.write("id -u; exit 3", "id -u")
    flags = ["--shared"] if flag == "--shared" else []
    done = farm.call_as(farm.anna, *flags, "tasks.txt")
    assert done.returncode == 1, done.stderr
    farm.assert_all_is_the_groups()
    farm.write("id -u; exit 3", "id -u", "id -u")
    assert farm.call_as(farm.bert, "status", "tasks.txt").returncode == 1
    assert farm.call_as(farm.bert, "retry", "tasks.txt").returncode == 0
    done = farm.call_as(farm.bert, "tasks.txt")
    assert done.returncode == 1, done.stderr
    farm.assert_each_task_stands_once(3)
    assert [farm.log(id) for id in range(3)] == [f"{BERT}\n", f"{ANNA}\n", f"{BERT}\n"]
    farm.assert_all_is_the_groups()
    assert {path.stat().st_uid for path in farm.workdir.glob("*") if path.is_file()} == {ANNA, BERT}


@UMASKS
def test_a_farm_is_shared_from_the_day_its_owner_says_so(own_folder: Path, code: Path, umask: int) -> None:
    farm = Team(own_folder, code, umask)
    farm.write("id -u; exit 3", "id -u")
    assert farm.call_as(farm.anna, "tasks.txt").returncode == 1
    assert farm.call_as(farm.bert, "retry", "--run", "tasks.txt").returncode == 2
    assert farm.call_as(farm.anna, "--shared", "tasks.txt").returncode == 1
    done = farm.call_as(farm.bert, "retry", "--run", "tasks.txt")
    assert done.returncode == 1, done.stderr + done.stdout
    assert (farm.log(0), farm.log(1)) == (f"{BERT}\n", f"{ANNA}\n")


@quick
def test_a_folder_that_only_passes_its_group_on_shares_nothing(place: Path, code: Path) -> None:
    """A user's own folder inside a group's: the setgid bit was inherited, the right to write was not given."""
    folder = place / "annas"
    folder.mkdir()
    os.chown(folder, ANNA, GROUP)
    folder.chmod(0o2755)
    farm = Team(folder, code, 0o022)
    farm.write("true")
    assert farm.call_as(farm.anna, "tasks.txt").returncode == 0
    assert not [path for path in [farm.workdir, *farm.workdir.rglob("*")] if path.stat().st_mode & 0o020]


# Death


@pytest.mark.parametrize(
    ("first", "umask"),
    [
        pytest.param("anna", 0o077, marks=quick),
        pytest.param("bert", 0o022, marks=quick),
        pytest.param("anna", 0o022, marks=in_ci),
        pytest.param("bert", 0o077, marks=in_ci),
    ],
)
def test_one_user_takes_over_what_the_other_left(team: Callable[[int], Team], umask: int, first: str) -> None:
    """Claims go back, and what had ended but was not settled is settled, not run again."""
    farm = team(umask).write_tasks(6)
    dead, alive = (farm.anna, farm.bert) if first == "anna" else (farm.bert, farm.anna)
    (farm.folder / "tasks.txt").write_text("true\n" + "sh task.sh\n" * 6)
    farmer = farm.start_as(dead, "-n", "3")
    wait_until(lambda: len(farm.begun(dead)) == 3, what="their tasks")
    wait_until(lambda: farm.ids("finished") == [0], what="a task that is settled")
    fd = os.open(farm.workdir / "lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)  # so that nothing is settled from here on
    farm.go()
    wait_until(lambda: farm.claimed() <= farm.recorded(), what="the records of their end")
    farm.kill_everything(farmer)
    os.close(fd)
    done = farm.call_as(alive, "-n", "3", "tasks.txt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is gone: " in done.stdout and "tasks had ended" in done.stdout
    farm.assert_each_task_stands_once(7)
    assert [farm.runs(id, dead) + farm.runs(id, alive) for id in range(1, 7)] == [["begun", "ended"]] * 6
    farm.assert_never_two_at_once()
    farm.assert_all_is_the_groups()


@in_ci
def test_a_living_users_farmer_takes_over_a_dead_ones_tasks(team: Callable[[int], Team]) -> None:
    farm = team(0o077).write_tasks(6)
    first = farm.start_as(farm.anna, "-n", "2")
    wait_until(lambda: len(farm.begun(farm.anna)) == 2, what="anna's tasks")
    second = farm.start_as(farm.bert, "-n", "6")
    wait_until(lambda: len(farm.begun(farm.bert)) == 4, what="bert's tasks")
    farm.kill_everything(first)
    wait_until(lambda: farm.begun(farm.bert) == list(range(6)), what="anna's tasks, run by bert")
    farm.go()
    status, said = ended(second)
    assert status == 0 and "is gone: 2 tasks are back" in said, said
    farm.assert_each_task_stands_once(6)
    farm.assert_never_two_at_once()


@quick
def test_a_task_that_outlived_another_users_farm_is_not_run_a_second_time_meanwhile(
    team: Callable[[int], Team],
) -> None:
    """Its environment cannot be read, nor can it be ended: so it is waited for."""
    farm = team(0o022).write_tasks(3)
    first = farm.start_as(farm.anna, "-n", "1")
    wait_until(lambda: farm.runs(0, farm.anna) == ["begun"], what="anna's task")
    farm.kill_farm(first)
    assert processes_in(farm.folder, "task.sh"), "the task lives on"
    second = farm.start_as(farm.bert, "-n", "3")
    wait_until(lambda: farm.begun(farm.bert) == [1, 2], what="bert's tasks")
    (farm.folder / "task.sh").write_text("exit 0")  # whoever runs it from here on
    kill([pid for pid in processes_in(farm.folder, "task.sh") if os.stat(f"/proc/{pid}").st_uid == farm.bert.id])
    status, said = ended(second)
    assert status == 75, said
    assert "is gone, but process" in said and f"user {ANNA} may be what it left running" in said
    assert farm.runs(0, farm.bert) == [] and farm.runs(0, farm.anna) == ["begun"]
    farm.assert_never_two_at_once()
    # Once it is gone, bert takes the task over.
    kill(processes_in(farm.folder, "task.sh"))
    wait_until(lambda: not processes_in(farm.folder, "task.sh"), what="its end")
    done = farm.call_as(farm.bert, "tasks.txt")
    assert "is gone: 1 task is back" in done.stdout, done.stdout
    farm.assert_each_task_stands_once(3)


@quick
def test_a_user_ends_what_an_own_farm_left_running(team: Callable[[int], Team]) -> None:
    """The other user stepped aside; the one it belongs to does not need to."""
    farm = team(0o077).write_tasks(1)
    first = farm.start_as(farm.anna, "-n", "1")
    wait_until(lambda: farm.runs(0, farm.anna) == ["begun"], what="anna's task")
    farm.kill_farm(first)
    again = farm.start_as(farm.anna, "-n", "1")
    wait_until(lambda: farm.runs(0, farm.anna) == ["begun", "begun"], what="anna's task again")
    farm.go()
    status, said = ended(again)
    assert status == 0, said
    farm.assert_never_two_at_once()


@quick
def test_a_users_other_processes_do_not_keep_a_dead_farmers_tasks(team: Callable[[int], Team]) -> None:
    """Of a shell that is older than the farm, and of a login that is younger."""
    farm = team(0o022).write_tasks(1)
    cat = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    shell = subprocess.Popen(["sh"], **cat, **farm.anna.rights())
    time.sleep(0.05)  # the kernel counts in hundredths: the farmer is to be younger
    first = farm.start_as(farm.anna, "-n", "1")
    wait_until(lambda: farm.runs(0, farm.anna) == ["begun"], what="anna's task")
    assert shell.stdin
    shell.stdin.write("sleep 600 & sleep 600\n")
    shell.stdin.flush()
    login = ["setpriv", f"--reuid={farm.anna.id}", f"--regid={GROUP}", "--clear-groups", "setsid", "sleep", "600"]
    daemon = subprocess.Popen(["sh", "-c", '"$@"; true', "sh", *login], start_new_session=True)
    try:
        wait_until(lambda: len(children_of(shell.pid)) == 2 and children_of(daemon.pid), what="anna's other processes")
        farm.kill_everything(first)
        farm.go()
        done = farm.call_as(farm.bert, "tasks.txt")
        assert done.returncode == 0 and "is gone: 1 task is back" in done.stdout, done.stdout
    finally:
        kill([*children_of(shell.pid), shell.pid, *children_of(daemon.pid), daemon.pid])
        shell.communicate()
        daemon.wait()


# Not shared


@UMASKS
@pytest.mark.parametrize("words", [["run"], ["status"], ["retry"]], ids=" ".join)
def test_in_a_farm_that_is_not_shared_another_user_is_told_whose_it_is(
    own_folder: Path, code: Path, umask: int, words: list[str]
) -> None:
    farm = Team(own_folder, code, umask)
    farm.write("exit 1", "true")
    assert farm.call_as(farm.anna, "tasks.txt").returncode == 1
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [farm.workdir, *farm.workdir.rglob("*")]}
    done = farm.call_as(farm.bert, *words, "tasks.txt")
    what = "tasks.txt_workdir/farm.json" if umask == 0o022 else "tasks.txt_workdir"
    assert done.stderr.startswith(f"pytaskfarmer.py: {what} belongs to user {ANNA}: Permission denied."), done.stderr
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [farm.workdir, *farm.workdir.rglob("*")]}
    assert after == before


@quick
@pytest.mark.parametrize("name", ["lock", "failed", "timeline.json", "logs"])
def test_one_file_that_is_not_the_groups_is_told_before_anything_is_claimed(
    team: Callable[[int], Team], name: str
) -> None:
    farm = team(0o022)
    farm.write("true", "false")
    assert farm.call_as(farm.anna, "tasks.txt").returncode == 1
    farm.write("true", "false", "touch ran")
    (farm.workdir / name).chmod(0o755 if (farm.workdir / name).is_dir() else 0o644)
    done = farm.call_as(farm.bert, "tasks.txt")
    assert f"tasks.txt_workdir/{name} belongs to user {ANNA}" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert not (farm.folder / "ran").exists() and farm.waiting() == []


@quick
def test_a_soft_lock_is_for_one_user(team: Callable[[int], Team]) -> None:
    farm = team(0o022)
    farm.write("true")
    assert farm.call_as(farm.anna, "--lock", "soft", "tasks.txt").returncode == 0
    farm.write("true", "touch ran")
    done = farm.call_as(farm.bert, "tasks.txt")
    assert "--lock soft" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (2, "")


# What cannot be seen

HIDDEN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from taskfarmer.model import Owner
from taskfarmer.system import leftovers, process, proctable
child = os.fork()
if not child:
    os.setgid({group}); os.setuid(61001); time.sleep(600)
start = proctable.start_time(child)
time.sleep(0.1)
os.system("mount -o remount,hidepid={hidepid} /proc") and sys.exit(3)
if bert := os.fork():  # the first process of the namespace stays root's
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(bert, 0)[1]))
os.setgroups([]); os.setgid({group}); os.setuid(61002)
owner = Owner(process.host(), child, start, "abc")
assert not process.is_gone(owner), "it lives"
assert process.is_gone(owner._replace(pid=99999)), "nobody has that pid"
assert leftovers.may_run_on(owner, 61001) == "processes that are hidden from us"
assert leftovers.kill_marked("TASKFARMER_OWNER=x") == 0
"""


@quick
@pytest.mark.parametrize("hidepid", [1, 2])
def test_where_proc_hides_other_users_nobody_is_taken_for_dead(place: Path, code: Path, hidepid: int) -> None:
    program = HIDDEN.format(group=GROUP, hidepid=hidepid)
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*alone, _python_for_everybody(), "-c", program, str(code)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@in_ci
def test_a_stopped_users_farmer_is_not_dead(team: Callable[[int], Team]) -> None:
    farm = team(0o077).write_tasks(2)
    first = farm.start_as(farm.anna, "-n", "1")
    wait_until(lambda: farm.runs(0, farm.anna) == ["begun"], what="anna's task")
    everybody = [first.pid, *children_of(first.pid)]
    kill(everybody, signal.SIGSTOP)
    farm.go()
    done = farm.call_as(farm.bert, "tasks.txt")
    assert "is gone" not in done.stdout and farm.runs(0, farm.bert) == []
    kill(everybody, signal.SIGCONT)
    status, said = ended(first)
    assert status == 0, said
    farm.assert_each_task_stands_once(2)


# A task that becomes somebody else

#: The task itself, or a child of it in its session.
BECOMING = {
    "itself": "./become sh -c 'echo $$ > pid; exec sleep 600'",
    "a child": "./become sh -c 'echo $$ > pid; exec sleep 600' & wait",
}


@pytest.fixture
def stranger(team: Callable[[int], Team]) -> Iterator[Team]:
    """A farm whose tasks can become bert, as with `sudo`; what has done so writes its pid into a file."""
    farm = team(0o022)
    program = farm.folder / "setpriv"
    shutil.copy(str(shutil.which("setpriv")), program)
    os.chown(program, 0, 0)
    program.chmod(0o4755)
    (farm.folder / "become").write_text(
        f'#!/bin/sh\nexec ./setpriv --reuid={BERT} --regid={GROUP} --clear-groups "$@"\n'
    )
    (farm.folder / "become").chmod(0o755)
    yield farm
    kill(berts(farm))


def berts(farm: Team) -> list[int]:
    """What has become bert and runs."""
    return [pid for pid in processes_in(farm.folder, "sleep 600") if os.stat(f"/proc/{pid}").st_uid == BERT]


def start_a_task_that_becomes_bert(farm: Team, line: str, *flags: str) -> tuple[subprocess.Popen[str], int]:
    farm.write(line, "touch next")
    farmer = farm.start_as(farm.anna, "-n", "1", "--grace", "0.2", *flags)
    wait_until(lambda: berts(farm), what="what has become bert")
    return farmer, berts(farm)[0]


def assert_failed_and_told(farm: Team, pid: int, said: str) -> None:
    assert berts(farm) == [pid], "it runs on, once"
    assert farm.ids("failed") == [0] and farm.lines("attempts") == []
    assert "failed  task 0  not ended" in said and f"runs on: process {pid} of user {BERT}" in said, said
    assert "Traceback" not in said and "lost" not in said


@quick
@pytest.mark.parametrize("line", BECOMING.values(), ids=BECOMING.keys())
def test_a_stop_does_not_give_back_a_task_that_only_another_user_can_end(stranger: Team, line: str) -> None:
    """It would be run a second time meanwhile. And nobody dies of not being allowed to end it."""
    farmer, pid = start_a_task_that_becomes_bert(stranger, line)
    farmer.terminate()
    status, said = ended(farmer)
    assert status == 75, said
    assert_failed_and_told(stranger, pid, said)
    assert stranger.waiting() == [1]
    stranger.assert_each_task_stands_once(2)


@quick
@pytest.mark.parametrize("line", BECOMING.values(), ids=BECOMING.keys())
def test_a_task_whose_time_is_up_is_not_tried_again_while_only_another_user_can_end_it(
    stranger: Team, line: str
) -> None:
    farmer, pid = start_a_task_that_becomes_bert(stranger, line, "--task-timeout", "2", "--retries", "3")
    status, said = ended(farmer)
    assert status == 1 and stranger.ids("finished") == [1], said
    assert_failed_and_told(stranger, pid, said)
    stranger.assert_each_task_stands_once(2)


@quick
@pytest.mark.parametrize("line", BECOMING.values(), ids=BECOMING.keys())
def test_the_task_of_a_killed_worker_is_not_run_again_while_only_another_user_can_end_it(
    stranger: Team, line: str
) -> None:
    farmer, pid = start_a_task_that_becomes_bert(stranger, line)
    [slot] = stranger.workdir.glob("running/*/slot_*")
    wait_until(lambda: "start" in slot.read_text(), what="the worker has written down who runs")
    kill(children_of(farmer.pid))
    status, said = ended(farmer)
    assert status == 1 and stranger.ids("finished") == [1], said
    assert berts(stranger) == [pid] and stranger.ids("failed") == [0]
    assert f"runs on: process {pid} of user {BERT}" in said, said
    stranger.assert_each_task_stands_once(2)


@quick
@pytest.mark.parametrize("line", BECOMING.values(), ids=BECOMING.keys())
def test_a_dead_farmers_task_waits_while_only_another_user_can_end_it(stranger: Team, line: str) -> None:
    farmer, pid = start_a_task_that_becomes_bert(stranger, line)
    [slot] = stranger.workdir.glob("running/*/slot_*")
    wait_until(lambda: "start" in slot.read_text(), what="the worker has written down who runs")
    stranger.kill_farm(farmer)
    for _ in range(2):  # the task's shell is ended the first time
        done = stranger.call_as(stranger.anna, "tasks.txt")
        assert done.returncode == 75, done.stdout + done.stderr
        assert f"is gone, but process {pid} of user {BERT} may be what it left running" in done.stdout, done.stdout
        assert berts(stranger) == [pid]
    kill([pid])
    (stranger.folder / "become").write_text("exit 0")
    done = stranger.call_as(stranger.anna, "tasks.txt")
    assert done.returncode == 0 and "is gone: 1 task is back" in done.stdout, done.stdout + done.stderr
    stranger.assert_each_task_stands_once(2)


@quick
def test_a_stop_tells_what_an_ended_task_left_to_another_user(stranger: Team) -> None:
    leave = "./become setsid sh -c 'echo $$ > pid; exec sleep 600' & until [ -s pid ]; do sleep 0.02; done"
    stranger.write(leave, "touch next; exec sleep 601")
    farmer = stranger.start_as(stranger.anna, "-n", "1", "--grace", "0.2")
    wait_until((stranger.folder / "next").exists, what="the next task runs")
    [pid] = berts(stranger)
    farmer.terminate()
    status, said = ended(farmer)
    assert status == 75 and f"runs on: process {pid} of user {BERT}" in said, said
    assert "Traceback" not in said and "lost" not in said
    assert (stranger.ids("finished"), stranger.waiting()) == ([0], [1])
    stranger.assert_each_task_stands_once(2)


@quick
@pytest.mark.parametrize("hidepid", [1, 2])
@pytest.mark.parametrize("line", BECOMING.values(), ids=BECOMING.keys())
def test_what_only_another_user_can_end_is_told_also_where_proc_hides_it(
    stranger: Team, hidepid: int, line: str
) -> None:
    stranger.write(line, "touch next")
    farmer = f"setpriv --reuid={ANNA} --regid={GROUP} --clear-groups {_python_for_everybody()} -m taskfarmer"
    program = (
        f"mount -o remount,hidepid={hidepid} /proc && {farmer} -n 1 --grace 0.2 --task-timeout 2 tasks.txt; exit $?"
    )
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", program]
    done = subprocess.run(
        alone, cwd=stranger.folder, env=stranger._env, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr == "", done.stdout + done.stderr
    assert stranger.ids("failed") == [0] and stranger.ids("finished") == [1]
    assert "failed  task 0  not ended" in done.stdout and "runs on: process " in done.stdout, done.stdout
    assert "lost" not in done.stdout
    stranger.assert_each_task_stands_once(2)
