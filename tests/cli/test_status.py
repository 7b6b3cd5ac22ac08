"""What `status` says of a farm whose farmer has been killed, and to one who does not listen."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from conftest import PROGRAM, Farm, processes_with, wait_until

pytestmark = pytest.mark.quick


def test_status_says_which_running_tasks_are_of_a_dead_farmer(farm: Farm) -> None:
    mark = f"sleep 6{os.getpid()}"
    farmer = farm.write(mark).start("-n", "1", start_new_session=True)
    try:
        wait_until(lambda: farm.call("status", "tasks.txt", "--json").stdout.count('"gone": false') == 1)
        os.killpg(farmer.pid, signal.SIGKILL)
        farmer.communicate()
        wait_until(lambda: '"gone": true' in farm.call("status", "tasks.txt", "--json").stdout, what="a dead farmer")
        said = farm.call("status", "tasks.txt")
        assert said.returncode == 75
        assert f"(pid {farmer.pid}, which is gone)" in said.stdout
        assert "Whoever starts the same line again takes over" in said.stdout
        (running,) = json.loads(farm.call("status", "tasks.txt", "--json").stdout)["running_tasks"]
        assert (running["id"], running["pid"]) == (0, farmer.pid)
    finally:
        for pid in processes_with(mark):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_does_not_listen_is_told_by_the_exit_status(farm: Farm, unbuffered: str) -> None:
    farm.write("false").run(check=1)
    nobody_reads, pipe = os.pipe()
    os.close(nobody_reads)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    words = [*PROGRAM, "status", "tasks.txt"]
    done = subprocess.run(words, cwd=farm.folder, env=env, stdout=pipe, stderr=subprocess.PIPE)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (1, b"")
