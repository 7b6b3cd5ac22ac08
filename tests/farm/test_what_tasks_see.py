"""A task sees what a shell would see that was started where the farmer was: nothing is bound, hidden or added unasked."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROGRAM, Farm

pytestmark = pytest.mark.quick

ADDED = {"PROC_NUMBER", *(f"TASKFARMER_{name}" for name in ("TASK_ID", "ATTEMPT", "SLOT", "OWNER", "WORKDIR"))}
#: The same question as a plain program, as a list for sh, and as something only bash understands.
STARTS = {"direct": "{}", "sh": "true && {}", "bash": "{} && :"}

starts = pytest.mark.parametrize("start", STARTS)


def outside(farm: Farm, command: str, **options) -> str:
    """What a shell says that is started where the farmer is."""
    words = ["bash", "-c", command]
    return subprocess.run(words, cwd=farm.folder, text=True, capture_output=True, check=True, **options).stdout


def ask(farm: Farm, start: str, command: str, *flags: str, **options) -> str:
    """What a task says."""
    farm.write(STARTS[start].format(command)).run("-n", "1", *flags, check=0, **options)
    return farm.log(0)


def environment(text: str) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in text.rstrip("\0").split("\0"))


@starts
def test_the_environment_is_that_of_the_shell_but_for_the_named_additions(farm: Farm, start: str) -> None:
    env = {**os.environ, "ODD": "two\nlines = \u00fc", "EMPTY": "", "VIRTUAL_ENV": "/x", "CONDA_PREFIX": "/y"}
    env["PWD"] = str(farm.folder)
    wanted = environment(outside(farm, "env -0", env=env))
    found = environment(ask(farm, start, "env -0", env=env))
    ignored = {"_", "SHLVL", "OLDPWD"}  # what each shell writes anew
    assert found.keys() - wanted.keys() - ignored == ADDED
    assert wanted.keys() - found.keys() - ignored == set()
    assert {name: found[name] for name in wanted.keys() - ignored} == {
        name: wanted[name] for name in wanted.keys() - ignored
    }


def test_the_additions_say_which_task_this_is(farm: Farm) -> None:
    farm.write("true", "env -0").run("-n", "2", check=0)
    found = environment(farm.log(1))
    assert (found["PROC_NUMBER"], found["TASKFARMER_TASK_ID"], found["TASKFARMER_ATTEMPT"]) == ("1", "1", "1")
    assert found["TASKFARMER_SLOT"] in ("0", "1")
    assert found["TASKFARMER_WORKDIR"] == str(farm.workdir)
    assert len(found["TASKFARMER_OWNER"].rsplit(".", 3)) == 4


def test_an_environment_that_is_not_text_passes_unharmed(farm: Farm) -> None:
    env = {**os.environb, b"ODD": b"\xff\xfe=\xe4"}
    farm.write("env -0").run("-n", "1", check=0, env=env)
    assert b"\0ODD=\xff\xfe=\xe4\0" in (farm.workdir / "logs" / "log_0").read_bytes()


@starts
@pytest.mark.parametrize(
    "command", ["taskset -pc $$", "pwd", "ulimit -a", "umask", "id", "cat /proc/self/oom_score_adj", "nice"]
)
def test_limits_place_and_cores_are_those_of_the_shell(farm: Farm, start: str, command: str) -> None:
    """Started with an odd mask, odd limits, an odd niceness and one core, so that a default cannot look right."""
    if "$" in command or command.split()[0] in ("pwd", "ulimit", "umask"):
        command = f"bash -c '{command}'"

    def odd() -> None:
        os.umask(0o037)
        os.nice(3)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        resource.setrlimit(resource.RLIMIT_NOFILE, (321, 321))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    said = ask(farm, start, command, preexec_fn=odd)
    wanted = outside(farm, command, preexec_fn=odd)
    assert without_pid(said) == without_pid(wanted)


def without_pid(text: str) -> str:
    """`pid 12's current affinity list: 1` without its pid."""
    return re.sub(r"^pid \d+'s", "", text)


@starts
def test_stdin_is_empty(farm: Farm, start: str) -> None:
    assert ask(farm, start, "readlink /proc/self/fd/0") == "/dev/null\n"


@starts
def test_the_only_open_descriptors_are_the_three(farm: Farm, start: str) -> None:
    (farm.folder / "fds.py").write_text(
        "import os; print(*[fd for fd in range(999) if os.path.exists(f'/dev/fd/{fd}')])"
    )
    assert ask(farm, start, f"{sys.executable} fds.py") == "0 1 2\n"


@starts
def test_output_and_errors_go_to_the_log_in_order(farm: Farm, start: str) -> None:
    (farm.folder / "both").write_text("#!/bin/sh\necho one\necho two >&2\necho three\n")
    (farm.folder / "both").chmod(0o755)
    assert ask(farm, start, "./both") == "one\ntwo\nthree\n"


@starts
def test_signals_are_reset(farm: Farm, start: str) -> None:
    """The farmer itself is started with signals ignored, as under nohup or by a careless parent."""

    def careless() -> None:
        for number in ("HUP", "INT", "QUIT", "PIPE", "ALRM", "TERM", "USR1", "USR2", "XFSZ"):
            signal.signal(getattr(signal, f"SIG{number}"), signal.SIG_IGN)

    said = ask(farm, start, "grep Sig /proc/self/status", preexec_fn=careless, restore_signals=False)
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in said.splitlines() if "SigQ" not in line}
    of_glibc = 1 << 31 | 1 << 32  # signals 32 and 33: posix_spawn(3) itself leaves them ignored; nobody can send them
    assert masks["SigBlk"] == 0
    assert masks["SigIgn"] & ~of_glibc == 0, hex(masks["SigIgn"])


@starts
def test_a_task_leads_a_session_of_its_own(farm: Farm, start: str) -> None:
    """A shell of the line may be the leader; it is never the session of the farmer."""
    code = "import os; print(os.getsid(0), os.getppid(), os.getpid(), os.getpgid(0))"
    session, parent, pid, group = map(int, ask(farm, start, f'python3 -c "{code}"').split())
    assert session in (pid, parent)
    assert group == session != os.getsid(0)


STEP = {
    "PMI_RANK": "3", "PMI2_X": "1", "PMIX_NAMESPACE": "x", "OMPI_COMM_WORLD_RANK": "3", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "SLURM_STEP_ID": "0", "SLURM_STEPID": "0", "SLURM_STEP_NODELIST": "n1",
    "SLURM_TASK_PID": "77", "SLURM_GTIDS": "0",
}  # fmt: skip
JOB = {
    "SLURM_JOB_ID": "12",
    "SLURM_CPUS_ON_NODE": "2",
    "SLURM_ARRAY_TASK_ID": "4",
    "SLURM_JOB_NODELIST": "n1",
    "PMIS": "1",
}


def test_variables_of_the_farmers_own_step_are_hidden_and_those_of_the_job_are_not(farm: Farm) -> None:
    found = environment(ask(farm, "direct", "env -0", env={**os.environ, **STEP, **JOB}))
    assert STEP.keys() & found.keys() == set()
    assert JOB.keys() - found.keys() == set()


def test_keep_mpi_env_keeps_them(farm: Farm) -> None:
    found = environment(ask(farm, "direct", "env -0", "--keep-mpi-env", env={**os.environ, **STEP, **JOB}))
    assert {**STEP, **JOB}.items() - found.items() == set()


def test_a_task_runs_where_the_farmer_was_started_even_by_another_name_of_that_place(farm: Farm) -> None:
    (farm.folder / "real").mkdir()
    (farm.folder / "link").symlink_to("real")
    tasklist = farm.folder / "real" / "tasks.txt"
    tasklist.write_text("pwd\n/bin/pwd\n")
    command = f"cd link && {' '.join(PROGRAM)} tasks.txt"
    subprocess.run(["bash", "-c", command], cwd=farm.folder, check=True, capture_output=True)
    logs = Path(f"{tasklist}_workdir") / "logs"
    assert (logs / "log_0").read_text() == f"{farm.folder}/link\n"
    assert (logs / "log_1").read_text() == f"{farm.folder}/real\n"
