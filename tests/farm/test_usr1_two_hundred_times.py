"""SIGUSR1, as batch systems send it before the end of a job, at two hundred random moments of a farmer's life."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import STATE_FILES, Farm
from farmhands import assert_nothing_runs_in, ended

# A minute and a half: too long for every commit.
pytestmark = [pytest.mark.components, pytest.mark.usefixtures("nobody_is_left_behind")]

TIMES = 200
#: Says that it began and that it ended; every third one leaves a child that has to be ended with it.
TASK = """\
echo "$PROC_NUMBER begun" >> ../effects
case $PROC_NUMBER in *[147]) setsid sleep 0.1 & ;; esac
sleep 0.0$(($PROC_NUMBER % 10))
echo "$PROC_NUMBER ended" >> ../effects
"""
COUNT = 12


def new_farm(folder: Path) -> Farm:
    (folder / "list").mkdir(parents=True)
    (folder / "effects").touch()
    (folder / "list" / "task.sh").write_text(TASK)
    return Farm(folder / "list").write(*["sh task.sh"] * COUNT)


def start(farm: Farm) -> subprocess.Popen[str]:
    return farm.start("-n", "3", "--grace", "1")


def content(farm: Farm) -> dict[str, list[str]]:
    """What the state files say."""
    return {name: farm.lines(name) for name in (*STATE_FILES, "attempts")}


def assert_every_task_is_accounted_for(farm: Farm) -> None:
    farm.assert_each_task_stands_once(COUNT)
    assert list((farm.workdir / "running").iterdir()) == []
    effects = Counter((farm.folder.parent / "effects").read_text().splitlines())
    tries = dict.fromkeys(range(COUNT), 0)
    tries.update({int(id): int(total) for id, _, total in (line.split() for line in farm.lines("attempts"))})
    for id in farm.ids("finished"):
        assert effects[f"{id} ended"] >= 1
    for id in range(COUNT):
        assert effects[f"{id} begun"] <= tries[id] + (id in farm.ids("finished")), f"task {id} ran more than is counted"


def test_usr1_at_any_moment_ends_a_farm_in_good_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hang, exit 75, nothing left running, every task accounted for; and in the end every task has run."""
    monkeypatch.delenv("SCRATCH", raising=False)
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    farm = new_farm(tmp_path / "0")
    begun = time.monotonic()
    assert ended(start(farm), timeout=60)[0] == 0
    life = time.monotonic() - begun
    statuses: Counter[int] = Counter()
    farms = 0
    for number in range(TIMES):
        if farm.ids("finished") and len(farm.ids("finished")) == COUNT:
            farms += 1
            farm = new_farm(tmp_path / str(farms))
        before = content(farm)
        farmer = start(farm)
        delay = rng.uniform(0, 1.2 * life)
        time.sleep(delay)
        farmer.send_signal(signal.SIGUSR1)
        status, said = ended(farmer, timeout=60)
        statuses[status] += 1
        where = f"seed {seed}, number {number}, after {delay:.4f} of {life:.4f} s: exit {status}\n{said}"
        if status == -signal.SIGUSR1:  # Python was not up yet
            assert said == "", where
            assert content(farm) == before, where
        else:
            assert status == 75 or (status == 0 and len(farm.ids("finished")) == COUNT), where
            if status == 75:  # else all tasks have ended by themselves, and what they left is theirs
                assert_nothing_runs_in(farm.folder)
            assert_every_task_is_accounted_for(farm)
    if len(farm.ids("finished")) < COUNT:
        assert ended(start(farm), timeout=60)[0] == 0
    assert_every_task_is_accounted_for(farm)
    print(f"seed {seed}: {dict(statuses)} in {farms + 1} farms")
    assert statuses[75] > TIMES // 5, f"seed {seed}: {statuses}"
