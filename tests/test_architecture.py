"""The folder is the floor: a module imports from its own room or below; and a start loads little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parent.parent
#: A thousand nodes start at once: what a start loads, they all read from one disk.
HEAVY = ("rich", "yaml", "sqlite3", "filelock", "asyncio", "dataclasses", "hashlib", "subprocess")


def test_every_module_imports_from_its_own_room_or_below_and_none_in_a_circle() -> None:
    lint = "from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run(
        [sys.executable, "-c", lint, "--config", "setup.cfg", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_every_room_is_in_the_contract() -> None:
    contract = (ROOT / "setup.cfg").read_text().partition("layers =\n")[2]
    rooms = [
        path.stem for path in (ROOT / "taskfarmer").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    missing = [room for room in rooms if room != "__init__" and f"taskfarmer.{room}" not in contract.split()]
    assert missing == []


@pytest.mark.parametrize("module", ["taskfarmer.cli.main", "taskfarmer.api"])
def test_a_start_loads_nothing_heavy(module: str) -> None:
    program = f"import sys; import {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split()) - set(bare.stdout.split())
    assert module in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_a_whole_run_loads_nothing_that_a_list_of_plain_commands_does_not_need(tmp_path: Path) -> None:
    """Not only its first step. (`hashlib` for the list, and what `multiprocessing.pool` needs, is needed.)"""
    (tmp_path / "tasks.txt").write_text("true\n")
    program = """import sys
from taskfarmer.cli.main import main
try:
    main(["tasks.txt"])
except SystemExit as end:
    print(end.code, *sorted(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    status, *loaded = done.stdout.splitlines()[-1].split()
    assert status == "0" and "taskfarmer.farm.pool" in loaded
    needless = {"rich", "yaml", "sqlite3", "filelock", "asyncio", "dataclasses", "inspect", "difflib", "logging", "pwd"}
    needless |= {"configparser", "grp", "pathlib"}
    # What an installed package loads at every start of this Python is not ours.
    always = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert sorted(needless & set(loaded) - set(always.stdout.split())) == []


@pytest.mark.parametrize(
    ("room", "word", "allowed"),
    [
        ("taskfarmer", "filelock", {"system/lock.py"}),
        ("taskfarmer", "signal.signal(", {"farm/stop.py", "system/hosted.py"}),
        ("taskfarmer", "preexec_fn=", set()),
    ],
)
def test_only_its_keeper_knows_a_hazard(room: str, word: str, allowed: set[str]) -> None:
    found = set()
    for path in (ROOT / room).rglob("*.py"):
        code = [line.split("#")[0] for line in path.read_text().splitlines()]
        if any(word in line and ("import" in line or "(" in word or "=" in word) for line in code):
            found.add(str(path.relative_to(ROOT / room)))
    assert found <= allowed
