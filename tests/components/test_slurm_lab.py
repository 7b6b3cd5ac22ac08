"""What the tests under Slurm stand on: nodes that are hosts of their own, with the files in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import wait_until
from slurm_lab import PATIENCE, Slurm

pytestmark = pytest.mark.components
pytest_plugins = "slurm_fixture"

PIDS = "readlink /proc/self/ns/pid > pid.$(hostname)"
TICK = "until [ -e over ]; do date >> tick.$(hostname); sleep 0.1; done"


def on_three_nodes(folder: Path, line: str) -> str:
    """A batch script that runs a shell line on each node."""
    (folder / "line.sh").write_text(f"{line}\n")
    (folder / "job.sh").write_text("#!/bin/bash\n#SBATCH -N3 --no-kill\nsrun -N3 -n3 --no-kill sh line.sh\n")
    return "job.sh"


def test_nodes_have_names_of_their_own_pids_of_their_own_and_the_files_in_common(slurm: Slurm, tmp_path: Path) -> None:
    assert slurm.wait(slurm.submit(tmp_path, on_three_nodes(tmp_path, PIDS))) == ["COMPLETED"]
    spaces = {path.name: path.read_text() for path in tmp_path.glob("pid.*")}
    assert sorted(spaces) == ["pid.n1", "pid.n2", "pid.n3"]
    assert len(set(spaces.values())) == 3, "each node counts its processes from 1"


def test_a_power_cut_ends_every_process_of_a_node_and_of_no_other(slurm: Slurm, tmp_path: Path) -> None:
    slurm.submit(tmp_path, on_three_nodes(tmp_path, TICK))
    wait_until(lambda: len(list(tmp_path.glob("tick.*"))) == 3, PATIENCE, "three nodes tick")
    slurm.cut_power("n3")
    dead, alive = tmp_path / "tick.n3", tmp_path / "tick.n2"
    size, begun = dead.stat().st_size, alive.stat().st_size
    wait_until(lambda: alive.stat().st_size > begun + 300, PATIENCE, "n2 goes on")
    assert dead.stat().st_size == size
