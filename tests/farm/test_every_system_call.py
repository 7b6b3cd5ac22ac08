"""The real program is killed at each system call with which it changes a file; then the same line is started again.

What is killed is its farmer, by strace, before the call is done. Its workers live on, end their tasks, and record that: so
no task runs a second time for it. A worker is killed at its own calls, too; its farmer goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest
import straced
from acts import FINE, SCENES, TASK, WAITS, Bench, Scene
from conftest import Farm, wait_until
from farmhands import children_of, ended

pytestmark = [pytest.mark.components, pytest.mark.usefixtures("nobody_is_left_behind")]

ACTS = ("materialise", "claim", "settle", "requeue", "recover", "retry", "edit", "timeline append")


@pytest.fixture(scope="module")
def killed(request: pytest.FixtureRequest) -> Iterator[dict[str, list[straced.Call]]]:
    """The points that were killed in each act; told and checked once all scenes have run."""
    points: dict[str, list[straced.Call]] = {}
    yield points
    numbers = {act: len(calls) for act, calls in points.items()}
    if set(ACTS) <= set(numbers):
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{sum(numbers.values())} points were killed: {numbers}")
        assert sum(numbers.values()) >= 100


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_death_at_any_system_call_loses_no_task_and_doubles_none(
    scene: Scene, tmp_path: Path, killed: dict[str, list[straced.Call]]
) -> None:
    bench = Bench(scene, tmp_path)
    points = straced.points_of(bench)
    assert {act for act, _ in points} == scene.kill
    for act, call in points:
        killed.setdefault(act, []).append(straced.die_and_go_on(bench, call))


@pytest.mark.parametrize(("name", "times"), [("write", 2), ("fdatasync", 1), ("openat", 1)])
def test_a_worker_killed_at_its_own_system_calls_loses_no_task_and_no_outcome(
    farm: Farm, name: str, times: int
) -> None:
    """It records the outcome, syncs that, and opens the log of the next task: from the first on the outcome is safe."""
    (farm.folder / "task.sh").write_text(TASK)
    farmer = farm.write(WAITS, FINE).start("-n", "1")
    # A second is what a long attempt takes: then what its worker writes is synced.
    wait_until(
        lambda: any(b"start" in slot.read_bytes() for slot in farm.workdir.glob("running/*/slot_0")), what="a second"
    )
    (worker,) = children_of(farmer.pid)
    with straced.dying_at(worker, name):
        (farm.folder / "go_0").touch()
    status, said = ended(farmer)
    assert (status, f"worker {worker} of slot" in said) == (0, True), said
    farm.assert_each_task_stands_once(2)
    assert (farm.folder / "ran_0").read_text() == "begun\nended\n" * times
    assert (farm.folder / "ran_1").read_text() == "begun\nended\n"
