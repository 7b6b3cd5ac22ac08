"""`doctor`, on one host and on several: each of them has a name of its own (uts_namespaces(7)) and the same folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest
from conftest import PROGRAM, on_host, processes_with, wait_until

pytestmark = pytest.mark.quick

DOCS = Path(__file__).parents[2] / "docs" / "filesystems.md"
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where it is asked; nothing may be left in it, and nobody running."""
    folder = tmp_path / "shared"
    folder.mkdir()
    yield folder
    wait_until(lambda: not processes_with(str(folder)), what="the end of all processes")
    assert os.listdir(folder) == []


def environment(**more: str) -> dict[str, str]:
    """Ours, without what a batch system may have put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")} | more


def start(host: str, folder: Path, *flags: str, **variables: str) -> subprocess.Popen[str]:
    """Start `doctor FOLDER` on a host of that name."""
    return subprocess.Popen(
        [*on_host(host), *PROGRAM, "doctor", str(folder), *flags],
        env=environment(**variables),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(*asked: subprocess.Popen[str]) -> list[tuple[int, str, str]]:
    """Exit status, standard output and standard error of each."""
    said = [process.communicate(timeout=120) for process in asked]
    return [(process.returncode, out, err) for process, (out, err) in zip(asked, said)]


def call(*words: str) -> tuple[int, str, str]:
    """Run `doctor WORDS`."""
    done = subprocess.run(
        [*PROGRAM, "doctor", *words],
        env=environment(),
        text=True,
        capture_output=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


# On one host


def test_a_local_filesystem_is_safe_for_farmers_on_this_host(folder: Path) -> None:
    status, out, err = call(str(folder))
    assert (status, err) == (0, "")
    assert f"safe for farmers on {os.uname().nodename}" in out.splitlines()
    assert not re.search(r"\b(no|refused|hangs|not asked)\b", out)
    assert float(re.search(r"an exchange takes +([\d.]+) ms", out)[1]) > 0  # type: ignore[index]


def test_the_keys_of_json_are_those_of_the_table_in_the_docs(folder: Path) -> None:
    status, out, _ = call(str(folder), "--json")
    found = json.loads(out)
    assert (status, found["verdict"]) == (0, "safe")
    table = DOCS.read_text().partition("## For programs")[2]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert list(found) == documented
    assert set(found["one_host"]) == {"flock", "soft", "create", "rename", "content"}
    assert {asked["answer"] for asked in found["one_host"].values()} == {"yes"}
    assert (found["hosts"], found["between_hosts"]) == ([os.uname().nodename], None)


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("seat_0", signal.SIGTERM),
        ("host_0/probe/meeting/replaced", signal.SIGINT),
        ("host_0/farm/toprocess", signal.SIGUSR1),
    ],
)
def test_nothing_is_left_behind_when_it_is_interrupted(folder: Path, moment: str, number: signal.Signals) -> None:
    asked = start("n1", folder)
    wait_until(lambda: asked.poll() is not None or list(folder.glob(f".pytaskfarmer-doctor-*/{moment}")))
    asked.send_signal(number)
    ((status, out, err),) = ended(asked)
    if status != 0:  # else it was quicker
        assert (status, out) == (75, "")
        assert re.fullmatch(r"pytaskfarmer.py: stopped \(.*\)\n", err)
    wait_until(lambda: not processes_with(str(folder)), what="the end of its child")
    assert os.listdir(folder) == []


def test_a_killed_one_leaves_no_process_running(folder: Path) -> None:
    asked = start("n1", folder)
    wait_until(lambda: list(folder.glob(".pytaskfarmer-doctor-*/host_0/probe/meeting/seat_1")), what="its child")
    asked.kill()
    ended(asked)
    wait_until(lambda: not processes_with(str(folder)), what="the end of its child")
    subprocess.run(f"rm -rf {folder}/.pytaskfarmer-doctor-*", shell=True, check=True)


def test_a_folder_one_may_not_write_to_is_refused(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.parents:
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o055)
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    done = subprocess.run([*as_nobody, *PROGRAM, "doctor", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"pytaskfarmer.py: {folder}: cannot be written: Permission denied\n"


def mounted(folder: Path, options: str) -> subprocess.CompletedProcess[str]:
    """Ask in a tmpfs that is mounted there for nobody else, and list what is left."""
    script = 'folder=$1; mount -t tmpfs -o "$0" none "$1" && shift && "$@"; s=$?; ls -A "$folder"; exit $s'
    words = ["unshare", "--mount", "sh", "-c", script, options, str(folder), *PROGRAM, "doctor", str(folder)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment())


def test_a_read_only_filesystem_is_refused(folder: Path) -> None:
    done = mounted(folder, "ro")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"pytaskfarmer.py: {folder}: cannot be written: Read-only file system\n"


@pytest.mark.parametrize("options", ["size=8k", "nr_inodes=20"])
def test_on_a_full_filesystem_it_says_so_and_takes_everything_away(folder: Path, options: str) -> None:
    done = mounted(folder, options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing can be found out: No space left on device" in done.stderr


def test_a_closed_pipe_does_no_harm(folder: Path) -> None:
    command = f'{sys.executable} -m taskfarmer doctor {folder} | head -1; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, timeout=120, env=environment())
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


@pytest.mark.parametrize("full", [["stdout"], ["stdout", "stderr"]], ids="+".join)
def test_a_verdict_that_cannot_be_said_is_none(folder: Path, full: list[str]) -> None:
    """Not 0, 1 or 2, each of which says what the filesystem is worth."""
    with open("/dev/full", "w") as disk:
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | dict.fromkeys(full, disk)
        done = subprocess.run(
            [*PROGRAM, "doctor", str(folder)],
            text=True,
            timeout=120,
            env=environment(),
            stdin=subprocess.DEVNULL,
            **said,
        )
    assert done.returncode == 75, done.stderr
    assert done.stderr in (None, "pytaskfarmer.py: standard output cannot be written: No space left on device\n")


def test_a_folder_whose_name_the_terminal_cannot_show_is_shown_all_the_same(folder: Path) -> None:
    (folder / "gr\u00fcn").mkdir()
    done = subprocess.run(
        [*PROGRAM, "doctor", str(folder / "gr\u00fcn")],
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    (folder / "gr\u00fcn").rmdir()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{folder}/gr\\xfcn: ")


# On several hosts


def test_two_hosts_with_one_token_find_a_shared_filesystem_safe(folder: Path) -> None:
    hosts = [start(name, folder, "--token", "T-1.x", "--json") for name in ("n1", "n2")]
    results = ended(*hosts)
    assert [status for status, _, _ in results] == [0, 0]
    (found,) = [json.loads(out) for _, out, _ in results if out]
    assert found["verdict"] == "safe"
    assert sorted(found["hosts"]) == ["n1", "n2"]
    assert {asked["answer"] for asked in found["between_hosts"].values()} == {"yes"}
    assert all(seconds < 60 for seconds in found["delays"].values())
    ((host, ahead, within),) = [clock.values() for clock in found["clocks"]]
    assert host in ("n1", "n2")
    assert abs(ahead) <= within + 0.01


def test_one_host_speaks_and_the_others_say_who(folder: Path) -> None:
    results = ended(*(start(f"n{number}", folder, "--token", "T", "--hosts", "3") for number in (1, 2, 3)))
    assert [status for status, _, _ in results] == [0, 0, 0]
    short, others, long = sorted((out for _, out, _ in results), key=len)
    assert short == others
    assert re.fullmatch(r"n[123] says: safe\n", short)
    assert long.splitlines()[-1] == "safe"
    assert "between hosts" in long


def test_the_nodes_of_a_slurm_step_meet_by_themselves(folder: Path) -> None:
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "2"}
    hosts = [start(name, folder, SLURM_LOCALID="0", **step) for name in ("n1", "n2")]
    second_task_of_a_node = start("n1", folder, SLURM_LOCALID="1", **step)
    assert ended(second_task_of_a_node) == [(0, "", "")]
    results = ended(*hosts)
    assert [status for status, _, _ in results] == [0, 0]
    assert sorted(out.splitlines()[-1][-4:] for _, out, _ in results) == ["safe", "safe"]


def test_a_batch_job_of_one_node_asks_alone(folder: Path) -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "1"}
    ((status, out, _),) = ended(start("n1", folder, **job))
    assert (status, "safe for farmers on n1" in out) == (0, True)


def test_one_host_twice_proves_nothing_and_is_refused(folder: Path) -> None:
    results = ended(*(start("n1", folder, "--token", "T") for _ in range(2)))
    assert [status for status, _, _ in results] == [2, 2]
    assert all("n1 came twice: start it once on each host" in err for _, _, err in results)


def test_who_waits_says_what_to_type_and_gives_up_in_time(folder: Path) -> None:
    ((status, out, err),) = ended(start("n1", folder, "--token", "T", "--wait", "1"))
    assert (status, out) == (2, "")
    first, last = err.splitlines()
    assert first == f"n1: waiting for 1 more host: pytaskfarmer.py doctor {folder} --token T"
    assert "1 of 2 hosts came within 1 s" in last


def test_who_waits_and_cannot_say_so_waits_all_the_same(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        words = ["doctor", str(folder), "--token", "T", "--wait", "1"]
        done = subprocess.run([*PROGRAM, *words], stderr=full, stdout=full, timeout=120, env=environment())
    assert done.returncode == 2


@pytest.mark.parametrize("first_is_stopped", [True, False])
def test_when_one_host_is_stopped_the_other_says_so_and_ends(folder: Path, first_is_stopped: bool) -> None:
    first = start("n1", folder, "--token", "T", "--hosts", "3")
    wait_until(lambda: (folder / ".pytaskfarmer-doctor-T" / "said_0").exists())
    second = start("n2", folder, "--token", "T", "--hosts", "3")
    wait_until(lambda: "local" in _said(folder, 1), what="the second at the meeting")
    stopped, other = (first, second) if first_is_stopped else (second, first)
    stopped.terminate()
    (status, _, err), (others_status, _, others_err) = ended(stopped, other)
    assert (status, others_status) == (75, 2), err + others_err
    assert "has left" in others_err or "was left" in others_err


def _said(folder: Path, seat: int) -> str:
    path = folder / ".pytaskfarmer-doctor-T" / f"said_{seat}"
    return path.read_text() if path.exists() else ""
