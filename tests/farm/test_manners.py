"""P9: what a farm does to a shared disk, counted by strace."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from conftest import PROGRAM, Farm, wait_until

pytestmark = pytest.mark.components

MOST_PER_EXCHANGE = 40
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")


def traced(farm: Farm, *flags: str) -> list[tuple[int, str, str]]:
    """Run the farm under strace: pid, name and arguments of each system call that touches the workdir."""
    assert shutil.which("strace"), "strace is wanted: tests/components installs it"
    trace = farm.folder / "trace"
    # -y: descriptors are shown with their paths.
    command = ["strace", "-f", "-y", "-qq", "-s", "200", "-e", "trace=%file,%desc", "-o", str(trace)]
    done = subprocess.run([*command, *PROGRAM, *flags, "tasks.txt"], cwd=farm.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = []
    for line in trace.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match and str(farm.workdir) in match[3] or match and "tasks.txt_workdir" in match[3]:
            calls.append(
                (int(match[1]), match[2], match[3].replace(str(farm.workdir), "").replace("tasks.txt_workdir", ""))
            )
    return calls


def exchanges(calls: list[tuple[int, str, str]]) -> list[list[str]]:
    """What happens between taking the lock and giving it back, for each time that claims were touched."""
    farmer = calls[0][0]
    found: list[list[str]] = []
    current: list[str] | None = None
    for pid, name, arguments in calls:
        if pid != farmer:
            continue
        if name == "flock" and "/lock>" in arguments and "LOCK_EX" in arguments:
            current = []
        if current is not None and name != "lseek":  # which never leaves the process
            current.append(f"{name}({arguments}")
        if name == "flock" and "/lock>" in arguments and "LOCK_UN" in arguments and current is not None:
            if any("/claims" in call for call in current):
                found.append(current)
            current = None
    return found


def test_an_exchange_costs_at_most_forty_file_operations(farm: Farm) -> None:
    calls = traced(farm.write(*["sleep 0.01"] * 150, "sleep 1", *["true"] * 300), "-n", "2")
    counted = exchanges(calls)
    assert len(counted) >= 3
    worst = max(counted, key=len)
    assert len(worst) <= MOST_PER_EXCHANGE, "\n".join([f"{len(worst)} operations:", *worst])


def test_an_exchange_that_tells_what_was_learned_costs_no_more(farm: Farm) -> None:
    calls = traced(farm.write(*["sleep 0.01"] * 100, *["true"] * 150), "-n", "2", "--walltime", "1h")
    counted = exchanges(calls)
    told = [calls for calls in counted if any("farm.json.new" in call for call in calls)]
    assert 1 <= len(told) <= 10, f"told {len(told)} times in {len(counted)} exchanges"
    worst = max(told, key=len)
    assert len(worst) <= MOST_PER_EXCHANGE, "\n".join([f"{len(worst)} operations:", *worst])


@pytest.mark.parametrize("keep", ["all", "failed", "none"])
def test_a_task_costs_its_log_and_one_append_and_nothing_else(farm: Farm, keep: str) -> None:
    """The log: opened, and closed. What a task writes into it is the task's."""
    count = 200
    calls = traced(farm.write(*["true"] * count), "-n", "2", "--logs", keep)
    farmer = calls[0][0]
    of_workers = [(name, arguments) for pid, name, arguments in calls if pid != farmer]
    appends = [call for call in of_workers if call[0] == "write" and "/slot_" in call[1]]
    assert len(appends) == count
    of_logs = [call for call in of_workers if "/logs/" in call[1]]
    opened = [call for call in of_logs if call[0] == "openat"]
    assert len(opened) == (count if keep == "all" else 0)
    others = [call for call in of_workers if call not in appends and call not in of_logs]
    dup2 = [call for call in others + of_logs if call[0].startswith("dup")]
    rest_of_logs = [call for call in of_logs if call not in opened and call not in dup2 and call[0] != "close"]
    assert rest_of_logs == []
    rest = [call for call in others if call not in dup2]
    if keep != "failed":
        assert len(rest) <= 2 * 40, "\n".join(map(str, rest))  # once for each worker, not for each task


def test_a_farmer_that_waits_leaves_the_disk_alone(farm: Farm) -> None:
    """Six seconds more of one long task: no look at the disk but the beat of presence and the search for the dead."""
    short = traced(farm.write("sleep 2"), "-n", "1")
    shutil.rmtree(farm.workdir)
    long = traced(farm.write("sleep 8"), "-n", "1")
    more = len(long) - len(short)
    assert more < 40, "\n".join(f"{name}({arguments}" for _, name, arguments in long)


def test_a_farmer_that_stays_for_others_takes_no_lock_and_reads_little(farm: Farm) -> None:
    """While another works for ten seconds: a few small reads a second, and a look at who is there now and then."""
    other = farm.write("touch began; sleep 12").start("-n", "1")
    wait_until((farm.folder / "began").exists)
    calls = traced(farm, "--wait-for-others")
    assert other.wait(60) == 0
    assert sum("/running" in arguments for _, _, arguments in calls) > 20, "it has looked at the other"
    asked = [call for call in calls if "access" in call[1] and "/running/" in call[2]]
    assert len(asked) <= 2, "whether it may look into a folder, its own or the other's: once, and not at each look"
    locks = [call for call in calls if call[1] == "flock" and "/lock>" in call[2] and "LOCK_EX" in call[2]]
    assert len(locks) <= 5, f"{len(locks)} times, to load the list, to ask what is left, and to leave"
    assert len(calls) <= 40 * len(locks) + 12 * 40, "\n".join(f"{name}({arguments}" for _, name, arguments in calls)
