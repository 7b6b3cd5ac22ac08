"""What stands for processes elsewhere is asked to end: killed, it would leave them behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_until

from taskfarmer.system import handles, leftovers

pytestmark = pytest.mark.quick

#: As srun: asked to end, it takes a while to end what runs elsewhere. Or it does not answer, and its helper sees to that.
SRUN = """
import os, signal, sys, time
answers, has_helper = map(int, sys.argv[1:])
open("/proc/self/comm", "w").write("srun")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
parent = os.getpid()
if has_helper and os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.05)
    answers = 1
else:
    open("ready", "w")
    while not signal.sigtimedwait([signal.SIGTERM], 60) or not answers:
        pass
time.sleep(0.4)
open("ended", "w")
sys.exit(9)
"""

#: A worker in small, in a hurry: no grace.
WORKER = """
import os, signal, sys, time
from taskfarmer.model import Launch
from taskfarmer.system import handles, process, tree
signal.pthread_sigmask(signal.SIG_BLOCK, process.WAKE)
process.become_subreaper()
handles.PATIENCE, handles.OF_THE_HELPER = float(sys.argv[1]), float(sys.argv[2])
null = os.open(os.devnull, os.O_RDWR)
pid = process.start(Launch(sys.executable, ("srun", "-c", *sys.argv[3:])), dict(os.environb), null, null)
while not os.path.exists("ready"):
    time.sleep(0.01)
ended, _ = tree.end(pid, 0.0, lambda: True)
print(ended.signal or ended.status, tree.descendants(), flush=True)
"""


#: Whether it answers and has a helper, how long either may take, whether what it stands for is ended.
CASES = [(1, 1, 60, 60, True), (0, 1, 0.5, 60, True), (0, 0, 0.2, 0.3, False)]


@pytest.mark.parametrize(("answers", "has_helper", "patience", "of_helper", "ends_well"), CASES)
def test_a_worker_in_a_hurry_lets_a_handle_or_its_helper_end_what_it_stands_for(
    tmp_path: Path, answers: int, has_helper: int, patience: float, of_helper: float, ends_well: bool
) -> None:
    words = [str(patience), str(of_helper), SRUN, str(answers), str(has_helper)]
    done = subprocess.run(
        [sys.executable, "-c", WORKER, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "9 []", done.stderr
    assert (tmp_path / "ended").exists() is ends_well


@pytest.mark.parametrize(("answers", "has_helper", "patience", "of_helper", "ends_well"), CASES)
def test_what_a_dead_farmer_left_ends_what_it_stands_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: int,
    has_helper: int,
    patience: float,
    of_helper: float,
    ends_well: bool,
) -> None:
    monkeypatch.setattr(handles, "PATIENCE", patience)
    monkeypatch.setattr(handles, "OF_THE_HELPER", of_helper)
    mark = f"TASKFARMER_OWNER=n1.1.6.{tmp_path.name}"
    task = subprocess.Popen(
        [sys.executable, "-c", SRUN, str(answers), str(has_helper)],
        cwd=tmp_path, env={**os.environ, **dict([mark.split("=")])}, start_new_session=True,
    )  # fmt: skip
    wait_until((tmp_path / "ready").exists, 30, "srun runs")
    assert leftovers.kill_marked(mark) >= 1
    assert task.wait(30) == (9 if answers else -signal.SIGKILL)
    assert (tmp_path / "ended").exists() is ends_well
