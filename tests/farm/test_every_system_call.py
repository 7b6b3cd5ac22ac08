"""The real program is killed at each system call with which it changes a file; then the same line is started again.

What is killed is its farmer, by strace, before the call is done. Its workers live on, end their tasks, and record that: so
no task runs a second time for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest
import straced
from acts import SCENES, Bench, Scene
from farmhands import nobody_is_left_behind  # noqa: F401  (the fixture works by being here)

pytestmark = pytest.mark.components

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
