"""The timeline, in the real Perfetto UI."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import perfetto_ui
import pytest
from conftest import Farm, wait_until

pytestmark = [
    pytest.mark.components,
    pytest.mark.skipif(perfetto_ui.missing() is not None, reason=str(perfetto_ui.missing())),
]

SLOTS = 3
# Each command but the one that cannot start leaves a line in `runs`: what ran is counted without the timeline.
RAN = "echo ran >> runs"
BLOCKED = [f"{RAN}; touch began_{n}; test -e second_time || sleep 600" for n in range(SLOTS)]
COMMANDS = [
    *(f"{RAN}; sleep 0.0{seed} # ./simulate --seed {seed}" for seed in range(1, 9)),
    *BLOCKED,
    f"{RAN}; exit 3",
    f"{RAN}; kill -KILL $$",
    f"{RAN}; test ! -e second_time || sleep 600 # takes too long",
    f"{RAN}; test -e tried || {{ touch tried; exit 1; }}",
    "/no/such/program --with 'a \"quoted\" word'",
    *(f"{RAN}; sleep 0.1 # ./analyse --part {part}" for part in range(6)),
]


@pytest.fixture
def stopped_and_started_again(farm: Farm) -> tuple[Farm, list[int]]:
    """A farm two farmers worked in, one after the other, in which tasks ended in many ways; the farmers' pids."""
    farm.write(*COMMANDS)
    with open(farm.folder / "said", "w") as said:
        first = farm.start("-n", str(SLOTS), stdout=said)
    try:
        wait_until(lambda: first.poll() is not None or _all_block(farm), what="the first farmer's work")
        first.send_signal(signal.SIGINT)
        assert first.wait(30) == 75, (farm.folder / "said").read_text()
    finally:
        first.kill()
    (farm.folder / "second_time").touch()
    second = farm.start("-n", str(SLOTS), "--retries", "1", "--task-timeout", "1s")
    try:
        output, _ = second.communicate(timeout=60)
        assert second.returncode == 1, output
    finally:
        second.kill()
    farm.assert_each_task_stands_once(len(COMMANDS))
    return farm, [first.pid, second.pid]


def _all_block(farm: Farm) -> bool:
    return all((farm.folder / f"began_{n}").exists() for n in range(SLOTS))


@pytest.fixture
def screenshot(tmp_path: Path) -> Path:
    """Where the picture goes: SCREENSHOT_DIR, for whoever wants to look at it."""
    return Path(os.environ.get("SCREENSHOT_DIR") or tmp_path) / "perfetto.png"


def test_perfetto_shows_every_attempt_of_every_farmer(
    stopped_and_started_again: tuple[Farm, list[int]], screenshot: Path
) -> None:
    farm, pids = stopped_and_started_again
    look = perfetto_ui.look_at(farm.workdir / "timeline.json", screenshot)
    assert look.complaint is None
    assert look.errors == []
    attempts = [slice for slice in look.slices if slice["thread"].startswith("slot ")]
    ran = len((farm.folder / "runs").read_text().splitlines())
    outcomes = Counter(slice["category"] for slice in attempts)
    assert outcomes["finished"] == len(farm.ids("finished"))
    assert outcomes["interrupted"] >= 1
    assert {"finished", "failed", "killed", "timed-out", "interrupted"} == set(outcomes)
    unstartable = [slice for slice in attempts if "/no/such/program" in slice["name"]]
    assert len(attempts) - len(unstartable) == ran
    assert unstartable
    assert {slice["depth"] for slice in attempts} == {0}, "attempts of one slot follow each other"
    assert [process["name"].endswith(f"(farmer {pid})") for process, pid in zip(_by_start(look), pids)] == [True] * 2
    names = Counter((thread["upid"], thread["name"]) for thread in look.threads if thread["name"].startswith("slot"))
    assert names == {(process["upid"], f"slot {n}"): 1 for process in look.processes for n in range(SLOTS)}
    assert screenshot.stat().st_size > 10_000


def _by_start(look: perfetto_ui.Look) -> list[dict[str, object]]:
    order = list(dict.fromkeys(slice["process"] for slice in look.slices))
    return sorted(look.processes, key=lambda process: order.index(process["name"]))
