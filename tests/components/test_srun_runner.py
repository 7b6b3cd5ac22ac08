"""SrunRunner in a real Slurm: tasks of several ranks over nodes, and that nothing of them outlives its task."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from conftest import Farm, wait_until
from slurm_lab import PATIENCE, Slurm

pytestmark = pytest.mark.components
pytest_plugins = "slurm_fixture"

MPI_PYTHON = (
    Path(os.environ.get("COMPONENTS_DIR", os.path.expanduser("~/.cache/taskfarmer-components"))) / "mpi/bin/python"
)
#: Each rank tells that it began, holds a lock while it runs (twice at once is told), and that it ended.
RANK = """
exec 9> lock_${PROC_NUMBER}_$SLURM_PROCID
flock -n 9 || echo "$PROC_NUMBER" >> twice
echo "began $PROC_NUMBER $SLURM_PROCID $(hostname)" >> oracle
until [ -e "${1:-go}" ]; do sleep 0.1 9>&-; done
echo "ended $PROC_NUMBER $SLURM_PROCID $(hostname)" >> oracle
"""
REDUCE = """
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.Get_rank() + 1)
print("rank", world.Get_rank(), "of", world.Get_size(), "on", MPI.Get_processor_name(), "sum", total, flush=True)
"""


class Field(Farm):
    """A farm in whose folder a job runs one farmer, whose runner `lab` starts steps."""

    def __init__(self, folder: Path, slurm: Slurm) -> None:
        super().__init__(folder)
        self.slurm = slurm
        (folder / "rank.sh").write_text(RANK)

    def define(self, **options: object) -> Field:
        """The options of the runner."""
        lines = [f"{name} = {value}" for name, value in options.items()]
        text = "\n".join(["[lab]", "Runner = taskfarmer.runners.SrunRunner", *lines, ""])
        (self.folder / "lab.ini").write_text(text)
        return self

    def submit(self, flags: str = "", script: str = "exec @", nodes: int = 2) -> int:
        """A job of two nodes with 4 cores each; `@` in its script is the farmer. What a job of this kind says of its own
        tasks (2 on each node, of 2 cores) must not be taken for options of the steps."""
        farmer = f"pytaskfarmer.py --runner lab {flags} tasks.txt"
        (self.folder / "job.sh").write_text(f"#!/bin/bash\n{script.replace('@', farmer)}\n")
        words = (f"--nodes={nodes}", "--ntasks-per-node=2", "--cpus-per-task=2", "--mem-per-cpu=100", "job.sh")
        return self.slurm.submit(self.folder, *words)

    def said(self, job: int) -> str:
        """What the farmer of a job has printed."""
        return (self.folder / f"slurm-{job}.out").read_text()

    def oracle(self, what: str = "") -> list[list[str]]:
        """What ranks have told: what, task, rank, node."""
        path = self.folder / "oracle"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [words for words in lines if words[0].startswith(what)]

    def most_at_once(self) -> int:
        """How many ranks have run at a time."""
        running = most = 0
        for words in self.oracle():
            running += 1 if words[0] == "began" else -1
            most = max(most, running)
        return most

    def steps(self, job: int) -> list[str]:
        """The steps that Slurm runs for a job, the farmer's own shell left out."""
        found = self.slurm.say("squeue", "-h", "-s", "-j", str(job), "-o", "%i").split()
        return [step for step in found if re.fullmatch(r"[0-9.]+", step)]

    def pids(self, name: str) -> list[int]:
        """Processes of this name that run in the folder, on whatever node."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_ours(pid, name)]

    def _is_ours(self, pid: int, name: str) -> bool:
        try:
            here = os.readlink(f"/proc/{pid}/cwd") == str(self.folder)
            return here and Path(f"/proc/{pid}/comm").read_text().startswith(name)
        except OSError:
            return False

    def steps_asked_for(self) -> int:
        """How many sruns have asked Slurm for a step a second ago: they say so only when they have been heard."""
        before = self.pids("srun")
        time.sleep(1)
        return sum(not _is_helper(pid) for pid in set(before) & set(self.pids("srun")))

    def ranks(self) -> list[int]:
        """The ranks that run."""
        return [pid for pid in self.pids("bash") if b"rank.sh" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def go(self, name: str = "go") -> None:
        """What ranks wait for."""
        (self.folder / name).touch()

    def assert_all_is_done(self, tasks: int) -> None:
        """Each task has finished and never ran twice at once, and nothing runs any more."""
        assert not (self.folder / "twice").exists()
        assert sorted(self.ids("finished")) == list(range(tasks))
        self.assert_each_task_stands_once(tasks)
        assert self.ranks() == self.pids("srun") == []


@pytest.fixture
def field(slurm: Slurm, tmp_path: Path) -> Field:
    return Field(tmp_path, slurm)


# Running


def test_the_ranks_of_an_mpi_program_on_two_nodes_find_each_other(slurm: Slurm, field: Field) -> None:
    if not MPI_PYTHON.exists():
        pytest.skip("MPI is not here: tests/components/install.sh mpi")
    (field.folder / "reduce.py").write_text(REDUCE)
    # The nodes share a kernel, which UCX takes for shared memory.
    field.define(ntasks=4, nodes=2, mpi="pmi2", setup="export UCX_TLS=tcp,self")
    field.write(*[f"{MPI_PYTHON} reduce.py"] * 4, f"{MPI_PYTHON} reduce.py > out")
    job = field.submit()
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    assert "2 slots" in field.said(job)
    for text in [*map(field.log, range(4)), (field.folder / "out").read_text()]:
        found = sorted(re.findall(r"rank (\d) of 4 on (n[1-3]) sum 10$", text, re.MULTILINE))
        assert [rank for rank, _ in found] == list("0123"), text
        assert len({node for _, node in found}) == 2
    field.assert_all_is_done(5)


def test_the_shipped_definition_runs(slurm: Slurm, field: Field) -> None:
    field.write("bash -c 'echo rank $SLURM_PROCID of $SLURM_NTASKS'")
    (field.folder / "job.sh").write_text("#!/bin/bash\nexec pytaskfarmer.py --runner srun tasks.txt\n")
    job = slurm.submit(field.folder, "--nodes=1", "--ntasks=4", "job.sh")
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    assert "1 slot" in field.said(job)
    assert sorted(field.log(0).splitlines()) == [f"rank {rank} of 4" for rank in range(4)]


def test_tasks_fill_the_whole_job_and_no_more(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2).write(*["bash rank.sh"] * 4, *["bash rank.sh rank.sh"] * 8)
    job = field.submit()
    wait_until(lambda: len(field.oracle("began")) == 8, PATIENCE, "four tasks run at once")
    assert {words[3] for words in field.oracle()} == {"n1", "n2"}
    field.go()
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    assert "4 slots" in field.said(job) and field.most_at_once() == 8
    assert "busy" not in "".join(field.log(id) for id in range(4))
    field.assert_all_is_done(12)


def test_a_step_that_finds_no_room_yet_waits(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=4).write(*["bash rank.sh"] * 3)
    job = field.submit("-n 3")
    wait_until(lambda: len(field.oracle("began")) == 8 and field.steps_asked_for() == 3, PATIENCE, "one waits")
    field.go()
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    assert "Requested nodes are busy" in "".join(field.log(id) for id in range(3))
    assert field.most_at_once() == 8
    field.assert_all_is_done(3)


def test_how_ranks_end_is_how_the_task_ends(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2, cpus_per_task=2)
    one_dies = "[ $SLURM_PROCID = 0 ] || {}; sleep 600"
    field.write(
        "bash -c 'exit $((SLURM_PROCID * 3))'",
        f"bash -c '{one_dies.format('exit 5')}'",
        f"bash -c '{one_dies.format('kill -9 $$')}'",
        "/no/such/program",
        "bash -c 'echo $SLURM_CPUS_PER_TASK cores of $SLURM_NTASKS ranks'",
        "cat",
    )
    job = field.submit()
    assert slurm.wait(job) == ["FAILED"], field.said(job)
    assert field.ids("finished") == [5, 4] or field.ids("finished") == [4, 5]
    said = field.said(job)
    for task, status in ((0, "exit 3"), (1, "exit 143"), (2, "exit 143"), (3, "exit 2")):
        assert re.search(rf"task {task} +{status}\b", said), said
    assert "task 1: Exited with exit code 5" in field.log(1) and "task 1: Killed" in field.log(2)
    assert field.log(4) == "2 cores of 2 ranks\n" * 2 and field.log(5) == ""
    assert field.steps(job) == []


# Ending


def test_a_task_whose_time_is_up_ends_on_all_nodes(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2, nodes=2).write("bash rank.sh", "bash rank.sh rank.sh")
    job = field.submit("-n 1 --task-timeout 3s", "@; until [ -e go ]; do sleep 0.1; done")
    wait_until(lambda: field.ids("finished") == [1], PATIENCE, "the other task is done")
    assert field.ids("failed") == [0] and {words[3] for words in field.oracle()} == {"n1", "n2"}
    wait_until(lambda: field.steps(job) == [], 20, "no step is left in the job")
    assert field.ranks() == field.pids("srun") == []
    field.go()
    slurm.wait(job)
    assert re.search("task 0 +timed out", field.said(job))


HOLD = "trap : TERM; @ & wait $!; wait $!; echo status $?; until [ -e go ]; do sleep 0.1; done"


def test_a_stop_ends_the_tasks_on_all_nodes_and_the_next_job_does_them(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2, nodes=2).write(*["bash rank.sh"] * 6)
    for how in ("kill", "scancel --signal=USR1 --batch", "scancel"):
        already = len(field.oracle("began"))
        job = field.submit(script="exec @" if "USR1" in how else HOLD)
        wait_until(lambda: len(field.oracle("began")) == already + 8, PATIENCE, "four tasks run")  # noqa: B023
        if how == "kill":
            os.kill(_parent(field.pids("worker-")[0]), signal.SIGTERM)
            wait_until(lambda: "status 75" in field.said(job), PATIENCE, "the farmer has stopped")  # noqa: B023
            wait_until(lambda: field.steps(job) == [], 20, "no step is left in the job")  # noqa: B023
            assert field.ranks() == []
            slurm.say("scancel", str(job))
        else:
            slurm.say(*how.split(), str(job))
        slurm.wait(job)
        wait_until(lambda: field.ranks() == [], 20, "nothing runs any more")
        assert sorted(field.waiting()) == list(range(6)), field.said(job)
    field.go()
    assert slurm.wait(field.submit()) == ["COMPLETED"]
    field.assert_all_is_done(6)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_second_signal_ends_them_no_less(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2, nodes=2).write(*["bash rank.sh"] * 6)
    job = field.submit(script="@; echo status $?; until [ -e go ]; do sleep 0.1; done")
    wait_until(lambda: len(field.oracle("began")) == 8, PATIENCE, "four tasks run on two nodes")
    [farmer] = {_parent(pid) for pid in field.pids("worker-")}
    os.kill(farmer, signal.SIGTERM)
    os.kill(farmer, signal.SIGTERM)
    wait_until(lambda: "status 75" in field.said(job), PATIENCE, "the farmer has stopped")
    wait_until(lambda: field.steps(job) == [], 20, "no step is left in the job")
    assert field.ranks() == [] and sorted(field.waiting()) == list(range(6))
    field.go()
    slurm.wait(job)


@pytest.mark.parametrize("how", ["once", "twice"])
def test_a_stop_does_not_wait_for_an_srun_that_does_not_answer_and_nothing_runs_twice_at_once(
    slurm: Slurm, field: Field, how: str
) -> None:
    """srun is killed, Slurm ends its step some seconds later, and the next farmer of the job waits for that."""
    field.define(ntasks=2, nodes=2).write(*["bash rank.sh"] * 4)
    job = field.submit(script="@; echo status $?; until [ -e again ]; do sleep 0.1; done; exec @")
    wait_until(lambda: len(field.oracle("began")) == 8, PATIENCE, "four tasks run on two nodes")
    [farmer] = {_parent(pid) for pid in field.pids("worker-")}
    sruns = [pid for pid in field.pids("srun") if not _is_helper(pid)]
    for pid in sruns:
        os.kill(pid, signal.SIGSTOP)  # as one that waits for a controller that has no time for it
    for _ in range(2 if how == "twice" else 1):
        os.kill(farmer, signal.SIGTERM)
        time.sleep(0.2)
    wait_until(lambda: "status 75" in field.said(job), PATIENCE, "the farmer has stopped")
    assert not set(sruns) & set(field.pids("srun")) and field.ids("failed") == [], field.said(job)
    field.go("again")
    wait_until(lambda: len(field.oracle("began")) == 16, PATIENCE, "all of them run again")
    assert len(field.ranks()) == 8 and len(field.steps(job)) == 4
    field.go()
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    field.assert_all_is_done(4)


# Killing


@pytest.mark.parametrize("victim", ["worker-", "srun"])
def test_a_task_whose_worker_or_srun_is_killed_never_runs_twice_at_once(
    slurm: Slurm, field: Field, victim: str
) -> None:
    field.define(ntasks=2, nodes=2).write(*["bash rank.sh"] * 2)
    job = field.submit("--retries 2 -n 2")  # half of the cores are free
    wait_until(lambda: len(field.oracle("began")) == 4, PATIENCE, "two tasks run on two nodes")
    [pid, *_] = [pid for pid in field.pids(victim) if not _is_helper(pid)]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(field.oracle("began")) == 6, PATIENCE, "its task runs again")
    assert len(field.ranks()) == 4
    field.go()
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    field.assert_all_is_done(2)


def _is_helper(pid: int) -> bool:
    """srun has one, a child of its own name."""
    return Path(f"/proc/{_parent(pid)}/comm").read_text() == Path(f"/proc/{pid}/comm").read_text()


def test_the_next_farmer_of_a_job_ends_what_a_killed_one_ran_before_it_runs_it(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2, nodes=2).write(*["bash rank.sh"] * 4)
    job = field.submit(script="@; echo status $?; exec @")
    wait_until(lambda: len(field.oracle("began")) == 8, PATIENCE, "four tasks run on two nodes")
    workers = field.pids("worker-")
    for pid in [_parent(workers[0]), *workers]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(field.oracle("began")) == 16, PATIENCE, "all of them run again")
    assert len(field.ranks()) == 8 and len(field.steps(job)) == 4
    field.go()
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    assert "status 137" in field.said(job)
    field.assert_all_is_done(4)


def test_what_workers_of_a_killed_farmer_still_run_is_left_to_them(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2, nodes=2).write(*["bash rank.sh"] * 8)
    job = field.submit(script="@; echo status $?; exec @")
    wait_until(lambda: len(field.oracle("began")) == 8, PATIENCE, "four tasks run on two nodes")
    os.kill(_parent(field.pids("worker-")[0]), signal.SIGKILL)
    wait_until(lambda: field.steps_asked_for() == 8, PATIENCE, "those of the next farmer wait")
    field.go()
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    assert "status 137" in field.said(job) and len(field.oracle("began")) == len(field.oracle("ended")) == 16
    field.assert_all_is_done(8)


# Where the farmer runs


def test_a_farmer_in_a_step_is_refused_and_told_why(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2).write("true")
    job = field.submit(script="srun --ntasks=1 --nodes=1 @")
    assert slurm.wait(job) == ["FAILED"]
    assert "the farmer itself runs in a step of srun, which holds the cores" in field.said(job)
    assert not field.workdir.exists()


def test_with_overlap_a_farmer_in_a_step_starts_steps(slurm: Slurm, field: Field) -> None:
    field.define(ntasks=2, nodes=2).write(*["bash rank.sh rank.sh"] * 6)
    job = field.submit("--overlap", script="srun --ntasks=1 --nodes=1 @")
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    assert len(field.oracle("ended")) == 12 and {words[3] for words in field.oracle()} == {"n1", "n2"}
    field.assert_all_is_done(6)
