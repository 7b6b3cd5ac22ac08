"""The bench runs: what is not run rots. What it measures is judged by people, on a quiet machine, and never here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "claim": ["an exchange (25 settled, 25 claimed) at 1,000,000 lines beside one at 10,000"],
    "one-task": ["a list of one task, from start to end, beside `python3 -c pass`"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_case_of_the_bench_fills_its_rows_of_the_table(case: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--rounds", "1", "--only", case, "--dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines() if line.startswith("| ")][
        1:
    ]
    assert [row[1] for row in rows] == CASES[case]
    assert all(float(row[2]) > 0 for row in rows)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_scale_measures_real_farmers_and_simulates_as_many(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept.json", tmp_path / "runs"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "bench", "scale", "--quick", "--dir", str(folder), "--keep", str(kept)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    real = {row[0]: row for row in rows if len(row) == 5 and row[0].isdigit()}
    assert set(real) == {"1", "3"}
    assert all(float(row[1]) > 0 and float(row[2]) > 0 for row in real.values()), "they made exchanges"
    assert [one[0] for one in json.loads(kept.read_text())] == [1, 3]
    assert list(folder.iterdir()) == [], "nothing is left behind"


def test_a_missed_target_is_said_and_a_number_that_is_not_there_is_not_met() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from bench.report import Target, markdown, unmet
    finally:
        sys.path.remove(str(ROOT))
    from bench.cases import QUICK

    targets = [
        Target("speed", "speed", 1.1, None),
        Target("memory", "memory", None, 60.0),
        Target("rest", "rest", 4, None),
    ]
    rounds = [{"speed": 1.0, "memory": 20.0, "rest": float("nan")}, {"speed": 1.05, "memory": 90.0}, {"speed": 9.0}]
    table = markdown(targets, rounds, QUICK, str(ROOT), quick=False).splitlines()[-3:]
    assert table == [
        "| speed | 1.05 | 1..9 | ≥ 1.1 | **NO** |",
        "| memory | 55 | 20..90 | ≤ 60 | yes |",
        "| rest | **not measured** | | ≥ 4 | ? |",
    ]
    assert unmet(targets, rounds) == ["speed"]
