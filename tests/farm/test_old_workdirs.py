"""A workdir of PyTaskFarmer 0.1.0, killed in every way it can be, and the edits by hand that its users know: ours goes on.

Its formats: `toprocess`, `finished` and `failed` hold `ID command`; a running task stands in none of them; `toprocess` is
rewritten in place at each start of a task, the others are appended to, `timeline.json` is rewritten as one line.
"""

from __future__ import annotations

import json
import subprocess

import pytest
from conftest import Farm

pytestmark = pytest.mark.quick

COUNT = 8
EVENT = (
    '{"cat": "task", "name": "echo 0 >> ran", "pid": 15959, "tid": 15960, "ts": 1795240539468480.0, '
    '"dur": 2170.32, "ph": "X", "args": {}}'
)
ALL = range(COUNT)


def lines(*ids: int) -> str:
    return "".join(f"{id} echo {id} >> ran\n" for id in ids)


def old_workdir(farm: Farm, **files: str) -> Farm:
    """What 0.1.0 left of a list of eight tasks."""
    farm.write(*(f"echo {id} >> ran" for id in ALL))
    (farm.workdir / "logs").mkdir(parents=True)
    (farm.workdir / "lock").touch()
    for name, content in files.items():
        (farm.workdir / name.replace("timeline", "timeline.json")).write_text(content)
    return farm


def ran(farm: Farm) -> list[int]:
    path = farm.folder / "ran"
    return [int(id) for id in path.read_text().split()] if path.exists() else []


#: How it died: what it left, and the tasks that are to be run.
DEATHS: dict[str, tuple[dict[str, str], list[int]]] = {
    "before its first task": ({}, [*ALL]),
    "killed while two ran": ({"toprocess": lines(5, 6, 7), "finished": lines(1, 0), "failed": lines(3)}, [2, 4, 5, 6, 7]),
    "killed while the last ran": ({"toprocess": "", "finished": lines(*range(6))}, [6, 7]),
    "killed before anything had ended": ({"toprocess": lines(4, 5, 6, 7)}, [*ALL]),
    "killed after truncating toprocess": ({"toprocess": "", "finished": lines(0, 1)}, [2, 3, 4, 5, 6, 7]),
    "killed while rewriting toprocess, in a line": (
        {"toprocess": lines(3, 4, 5) + "6 ec", "finished": lines(0, 1)}, [2, 3, 4, 5, 6, 7],
    ),
    "killed while rewriting toprocess, in an id": (
        {"toprocess": lines(3, 4, 5) + "6", "finished": lines(0, 1)}, [2, 3, 4, 5, 6, 7],
    ),
    "no space for a line of finished, its id is whole": (
        {"toprocess": lines(3, 4, 5, 6, 7), "finished": lines(0) + "1 echo 1 >"}, [2, 3, 4, 5, 6, 7],
    ),
    "no space for a line of finished, its id is not": (
        {"toprocess": lines(3, 4, 5, 6, 7), "finished": lines(0) + "1"}, [1, 2, 3, 4, 5, 6, 7],
    ),
    "no space for a line of failed": (
        {"toprocess": lines(3, 4, 5, 6, 7), "finished": lines(0), "failed": lines(1) + "2"}, [2, 3, 4, 5, 6, 7],
    ),
    "finished without its last newline": (
        {"toprocess": lines(3, 4, 5, 6, 7), "finished": lines(0, 1, 2)[:-1]}, [3, 4, 5, 6, 7],
    ),
    "an idle worker put back what had ended": (
        {"toprocess": lines(0, 1, 4, 5, 6, 7), "finished": lines(1, 0, 2), "failed": lines(3)}, [4, 5, 6, 7],
    ),
    "two nodes without a common lock": (
        {"toprocess": lines(6, 7), "finished": lines(0, 1, 1, 2, 0, 3), "failed": lines(3, 4, 4)}, [5, 6, 7],
    ),
    "stopped well": ({"toprocess": lines(2, 3, 4, 5, 6, 7), "finished": lines(1, 0)}, [2, 3, 4, 5, 6, 7]),
    "all is done": ({"toprocess": "", "finished": lines(*ALL)}, []),
    "only toprocess is left": ({"toprocess": lines(5, 6, 7)}, [*ALL]),
    "only finished is left": ({"finished": lines(5, 6, 7)}, [0, 1, 2, 3, 4]),
}  # fmt: skip


@pytest.mark.parametrize("death", DEATHS)
def test_an_old_workdir_is_finished_whatever_killed_it(farm: Farm, death: str) -> None:
    files, to_run = DEATHS[death]
    old_workdir(farm, **files)
    done = farm.run("-n", "1")
    failed = farm.ids("failed")
    assert done.returncode == (1 if failed else 0), done.stdout + done.stderr
    assert ran(farm) == to_run, done.stdout
    farm.assert_each_task_stands_once(COUNT)
    lost = len(set(to_run) - {int(line.split()[0]) for line in files.get("toprocess", "").splitlines() if " " in line})
    if files:
        assert "was left by PyTaskFarmer 0.1.0" in done.stdout
        assert (f"{lost} tasks that stood in none of its files are back" in done.stdout) is bool(lost), done.stdout
    again = farm.run()
    assert again.returncode == done.returncode and "0.1.0" not in again.stdout and ran(farm) == to_run


@pytest.mark.parametrize(
    "timeline",
    ["[]", f"[{EVENT}]", f"[{EVENT}, {EVENT}]", f"[{EVENT}, {EVENT[:40]}", "", f"[{', '.join([EVENT] * 1000)}]",
     f"[{', '.join([EVENT] * 1000)}"],
    ids=["empty", "one", "two", "torn", "truncated", "long", "long and torn"],
)  # fmt: skip
def test_an_old_timeline_is_gone_on_with_as_valid_json(farm: Farm, timeline: str) -> None:
    old_workdir(farm, toprocess=lines(5, 6, 7), timeline=timeline)
    farm.run(check=0)
    events = json.loads((farm.workdir / "timeline.json").read_text())
    slices = [event for event in events if event["ph"] == "X"]
    kept = timeline.count('"cat"') if timeline.endswith("]") else 0
    assert len(slices) == kept + COUNT


def test_an_old_broken_line_is_told_and_nothing_is_touched(farm: Farm) -> None:
    """Not a torn one: somebody wrote it."""
    old_workdir(farm, toprocess=lines(5, 6, 7), finished=lines(0) + "garbage\n" + lines(1))
    before = farm.lines("finished"), farm.lines("toprocess")
    done = farm.run(check=2)
    assert "finished, line 2" in done.stderr and ran(farm) == []
    assert (farm.lines("finished"), farm.lines("toprocess")) == before
    (farm.workdir / "finished").write_text(lines(0, 1))
    farm.run("-n", "1", check=0)
    assert ran(farm) == [2, 3, 4, 5, 6, 7]


# What users do by hand


def stopped_farm(farm: Farm) -> Farm:
    """Tasks 0 and 1 finished, 2 and 3 failed, 4 to 7 wait."""
    stop = "[ -e mended ] || { kill -INT $(cut -d' ' -f4 /proc/$PPID/stat); sleep 60; exit; }; "
    fail = "; [ -e mended ]"
    farm.write(*(f"{stop * (id == 4)}echo {id} >> ran{fail * (id in (2, 3))}" for id in ALL))
    farm.run("-n", "1", check=75)
    assert ran(farm) == [0, 1, 2, 3] and farm.waiting() == [4, 5, 6, 7] and farm.ids("failed") == [2, 3]
    (farm.folder / "ran").unlink()
    (farm.folder / "mended").touch()
    return farm


def shell(farm: Farm, line: str) -> None:
    subprocess.run(line, shell=True, cwd=farm.workdir, check=True)


@pytest.mark.parametrize("look", [False, True], ids=["at once", "after a look"])
@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("cat failed >> toprocess; rm failed", [3, 2, 4, 5, 6, 7]),
        ("cat failed >> toprocess", [3, 2, 4, 5, 6, 7]),
        ("cat failed toprocess > x; mv x toprocess; rm failed", [4, 5, 6, 7, 3, 2]),
        ("rm toprocess", [4, 5, 6, 7]),
        ("rm toprocess failed", [2, 3, 4, 5, 6, 7]),
        ("rm toprocess finished failed", [*ALL]),
        ("rm -r ../tasks.txt_workdir", [*ALL]),
        ("tac toprocess > x; mv x toprocess", [7, 6, 5, 4]),
    ],
)  # fmt: skip
def test_an_edit_by_hand_is_understood(farm: Farm, line: str, runs: list[int], look: bool) -> None:
    stopped_farm(farm)
    shell(farm, line)
    if look:
        farm.call("status", "tasks.txt")
    done = farm.run("-n", "1")
    assert ran(farm) == runs, done.stdout
    farm.assert_each_task_stands_once(COUNT)
    assert sorted(farm.ids("failed")) == [id for id in (2, 3) if id not in runs]
    assert done.returncode == (1 if farm.ids("failed") else 0)
