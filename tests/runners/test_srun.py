"""What SrunRunner says. That Slurm does as it says is asked in tests/components/test_srun_runner.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Farm
from defined import define, launch

from taskfarmer.errors import UsageError
from taskfarmer.runners import SrunRunner

pytestmark = pytest.mark.quick

SRUN = ("srun", "--exact", "--nodes=1", "--ntasks=4", "--cpus-per-task=2", "--input=none", "--kill-on-bad-exit=1")
LINE = " ".join(SRUN)
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_CPUS_PER_NODE": "4(x2)"}


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An environment with a program `srun`, and without any job."""
    for name in os.environ:
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/srun").write_text('#!/bin/sh\necho "srun $*"\n')
    (tmp_path / "bin/srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return os.environ["PATH"]


# Spelling


def test_a_plain_command_has_srun_in_front_and_no_shell() -> None:
    said = launch(SrunRunner(4, 2), "./solver --n 3")
    assert said.argv == (*SRUN, "./solver", "--n", "3") and os.path.basename(said.program) == "srun"


def test_every_option_has_its_word() -> None:
    runner = SrunRunner(8, 2, 2, 1, "2G", "pmi2", " --label   --cpu-bind=cores ", True)
    assert launch(runner, "p").argv == (
        "srun", "--overlap", "--nodes=2", "--ntasks=8", "--cpus-per-task=2", "--gpus-per-task=1", "--mem-per-cpu=2G",
        "--mpi=pmi2", "--input=none", "--kill-on-bad-exit=1", "--label", "--cpu-bind=cores", "p",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("./solver < in > out", "@ ./solver < in > out"),
        ("OMP_NUM_THREADS=2 B= ./solver", "OMP_NUM_THREADS=2 B= @ ./solver"),
        ("./a 'x y' && cp out there", "@ ./a 'x y' && cp out there"),
        ("cd run && $SRUN ./a > out", "cd run && @ ./a > out"),
        ("${SRUN} ./a; $SRUN ./b", "@ ./a; @ ./b"),
        ("./a $SRUNS", "@ ./a $SRUNS"),
        ("if-then-else $x", "@ if-then-else $x"),
    ],
)
def test_where_srun_stands_in_a_line_for_the_shell(command: str, line: str) -> None:
    assert launch(SrunRunner(4, 2), command).argv[1:] == ("-c", line.replace("@", LINE))


@pytest.mark.parametrize(
    "command", ["cd run && ./a", "for x in 1 2; do ./a; done", "(./a; ./b)", "A=1 source x", ". x; ./a"]
)
def test_what_only_a_shell_can_start_is_refused_where_srun_would_be_given_it(command: str) -> None:
    """`srun cd run && ./a` would fail, and `cd run; ./a` would run on without srun."""
    with pytest.raises(UsageError, match=r"write \$SRUN where srun belongs"):
        launch(SrunRunner(), command)


def test_setup_comes_before_srun_and_folders_are_srun_s() -> None:
    said = launch(SrunRunner(4, 2, setup="module load x", taskdir="/tmp/t_{id}"), "./a")
    assert said.argv[-1].rstrip().endswith(f"{LINE} ./a") and "module load x" in said.argv[-1]
    assert said.folder == said.cwd == "/tmp/t_7"


def test_what_slurm_says_of_the_job_s_own_tasks_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = (
        "SLURM_CPUS_PER_TASK", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NPROCS", "SLURM_TASKS_PER_NODE",
        "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_TRES_PER_TASK", "SLURM_GPUS", "SLURM_GPUS_PER_NODE",
        "SLURM_EXPORT_ENV",
    )  # fmt: skip
    kept = ("SLURM_JOB_ID", "SLURM_JOB_CPUS_PER_NODE", "SLURM_CONF", "SLURM_SUBMIT_DIR", "MY_SLURM_NTASKS")
    for name in gone + kept:
        monkeypatch.setenv(name, "1")
    said = launch(SrunRunner(cwd="/"), "true")
    assert {name for name, value in said.env.items() if value is None} == set(gone)
    assert said.fallback is not None and said.fallback.env == said.env


def test_a_task_that_wants_no_gpus_leaves_those_of_the_job_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not told, a step takes all, and the next one waits for it."""
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    assert "--gres=none" in launch(SrunRunner(), "a").argv
    assert "--gres=none" not in launch(SrunRunner(gpus_per_task=1), "a").argv
    monkeypatch.delenv("SLURM_GPUS_ON_NODE")
    assert "--gres=none" not in launch(SrunRunner(), "a").argv


# Room


@pytest.mark.parametrize(
    ("cores", "ntasks", "cpus", "nodes", "slots"),
    [
        ("4", 1, 1, 1, 4),
        ("4(x3)", 1, 1, 1, 12),
        ("4(x3)", 3, 1, 1, 3),
        ("4(x2),3", 1, 2, 1, 5),
        ("4(x2)", 4, 1, 2, 2),
        ("4(x3)", 4, 1, 2, 3),
        ("4(x3)", 4, 2, 2, 1),
        ("8,1", 2, 1, 2, 1),
        ("4(x2)", 3, 1, 2, 2),
        ("4(x2)", 5, 1, 1, 0),
        ("4", 2, 1, 2, 0),
        ("64(x100)", 1, 1, 1, 6400),
    ],
)
def test_as_many_tasks_as_the_whole_job_has_room_for(
    cores: str, ntasks: int, cpus: int, nodes: int, slots: int
) -> None:
    assert SrunRunner(ntasks, cpus, nodes).slots({"SLURM_JOB_CPUS_PER_NODE": cores}) == slots


def test_gpus_are_room_too() -> None:
    environ = {**JOB, "SLURM_GPUS_ON_NODE": "2"}
    assert SrunRunner(gpus_per_task=1).slots(environ) == 4
    assert SrunRunner(2, gpus_per_task=1).slots(environ) == 2
    assert SrunRunner(2, gpus_per_task=1, nodes=2).slots(environ) == 2
    assert SrunRunner(gpus_per_task=3).slots(environ) == 0
    assert SrunRunner(gpus_per_task=1).slots(JOB) == 0


def test_who_does_not_know_what_the_job_holds_does_not_say() -> None:
    assert SrunRunner().slots({"SLURM_JOB_ID": "7"}) is None


# Refusals


@pytest.mark.parametrize(
    ("options", "name"),
    [({"ntasks": 0}, "ntasks"), ({"cpus_per_task": 0}, "cpus_per_task"), ({"nodes": 0}, "nodes"),
     ({"ntasks": 2, "nodes": 3}, "nodes"), ({"gpus_per_task": -1}, "gpus_per_task")],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_named(options: dict[str, int], name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}: at (least|most)"):
        SrunRunner(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "runner", "sentence"),
    [
        ({}, SrunRunner(), "a Slurm job is wanted"),
        ({**JOB, "PATH": "/nowhere"}, SrunRunner(), "srun is wanted, found none on PATH"),
        ({**JOB, "SLURM_STEP_ID": "0"}, SrunRunner(), "runs in a step of srun, which holds the cores"),
        (JOB, SrunRunner(5), "wants 5 x 1 cores on 1 node, and the job has room for none: 8 cores on 2 nodes"),
        (JOB, SrunRunner(gpus_per_task=1), "wants 1 x 1 cores and 1 GPUs on 1 node, and the job has room"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_claimed(
    environ: dict[str, str], runner: SrunRunner, sentence: str, path: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        runner.check({"PATH": path, **environ})


@pytest.mark.parametrize("step", [{}, {"SLURM_STEP_ID": "4294967291"}, {"SLURM_STEP_ID": "4294967290"}])
def test_the_batch_shell_is_the_place(step: dict[str, str], path: str) -> None:
    SrunRunner().check({"PATH": path, **JOB, **step})


def test_overlap_allows_a_farmer_in_a_step(path: str) -> None:
    SrunRunner(overlap=True).check({"PATH": path, **JOB, "SLURM_STEP_ID": "0"})


# The farmer


def steps(farm: Farm, **options: str) -> Farm:
    """A farm whose runner `lab` starts steps."""
    return define(farm, "taskfarmer.runners.SrunRunner", **options)


def in_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch shell of a job."""
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)


def test_the_runner_says_how_many_slots_there_are(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    in_job(monkeypatch)
    steps(farm, ntasks="2").write("true", "echo 'a b'")
    done = farm.run("--runner", "lab", check=0)
    assert "4 slots" in done.stdout
    assert (farm.workdir / "logs/log_1").read_text().endswith("echo a b\n")


def test_outside_of_a_job_nothing_is_touched(farm: Farm) -> None:
    done = steps(farm).write("true").run("--runner", "lab", check=2)
    assert "a Slurm job is wanted, found none (no SLURM_JOB_ID)" in done.stderr and not farm.workdir.exists()


def test_a_dry_run_needs_no_job(farm: Farm) -> None:
    done = steps(farm, ntasks="4", cpus_per_task="2").write("./a > out").run("--runner", "lab", "--dry-run", check=0)
    assert done.stdout == f"0 bash -c '{LINE} ./a > out'\n"


def test_a_line_that_cannot_be_a_step_is_a_failed_task(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    in_job(monkeypatch)
    done = steps(farm).write("cd /; ls").run("--runner", "lab", check=1)
    assert "write $SRUN where srun belongs" in done.stdout + done.stderr
