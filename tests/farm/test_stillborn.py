"""Workers that cannot even begin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import Farm

pytestmark = pytest.mark.quick

# The slot files vanish between joining and the start of the workers, as when somebody removes the workdir.
SABOTAGE = """
import os, sys
from taskfarmer.stores.textfiles import TextStore
join = TextStore.join
def join_and_lose_the_slots(self, slots):
    presence = join(self, slots)
    folder = os.path.join(self.path, "running", str(self.owner))
    for name in os.listdir(folder):
        if name.startswith("slot_"):
            os.unlink(os.path.join(folder, name))
    return presence
TextStore.join = join_and_lose_the_slots
from taskfarmer.cli.main import main
main(["tasks.txt", "-n", "2"])
"""


def test_workers_that_die_at_once_end_the_farm_and_lose_no_task(farm: Farm) -> None:
    farm.write("true", "true", "true")
    done = subprocess.run([sys.executable, "-c", SABOTAGE], cwd=farm.folder, text=True, capture_output=True, timeout=60)
    assert done.returncode == 75, done.stdout + done.stderr
    assert "workers die as soon as they start" in done.stdout
    farm.run(check=0)
    farm.assert_each_task_stands_once(3)


def test_a_workdir_that_is_removed_under_a_farm_does_not_hang_it(farm: Farm) -> None:
    farm.write(*["sleep 0.2"] * 30)
    started = farm.start("-n", "2")
    while not (farm.workdir / "timeline.json").exists() and started.poll() is None and not farm.lines("finished"):
        os.sched_yield()
    farm.workdir.rename(farm.folder / "gone")
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 75, output
    assert "Traceback" not in output
