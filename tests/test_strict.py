"""`tests/strict.py`: nothing is left untested in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

HEAD = "import pytest\npytestmark = pytest.mark.quick\n"
SKIPS = """
def test_a(): pytest.skip("no such thing 0")

@pytest.mark.skipif(True, reason="no such thing 1")
def test_b(): pass

@pytest.mark.xfail(reason="no such thing 2")
def test_c(): assert 0

@pytest.fixture
def fixture(): pytest.skip("no such thing 3")

def test_d(fixture): pass
"""


def run(folder: Path, test: str, expected_skips: str = "") -> subprocess.CompletedProcess[str]:
    """Run one test file strictly, with a list of expected skips."""
    shutil.copy(Path(__file__).with_name("strict.py"), folder)
    (folder / "expected_skips.txt").write_text(expected_skips)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n quick:\n components:\n campaign:\n")
    (folder / "test_it.py").write_text(test)
    return subprocess.run(
        [sys.executable, str(folder / "strict.py"), "-m", "quick", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )


def test_a_marked_test_that_passes_passes(tmp_path: Path) -> None:
    assert run(tmp_path, HEAD + "def test_a(): pass\n").returncode == 0


def test_a_test_that_fails_fails_the_run(tmp_path: Path) -> None:
    assert run(tmp_path, HEAD + "def test_a(): assert 0\n").returncode == 1


def test_a_test_without_a_marker_fails_the_run_though_nobody_selects_it(tmp_path: Path) -> None:
    done = run(tmp_path, "import pytest\n@pytest.mark.quick\ndef test_a(): pass\ndef test_b(): pass\n")
    assert done.returncode == 1
    assert "test_it.py::test_b" in done.stderr


def test_a_skip_fails_the_run_unless_its_reason_is_listed(tmp_path: Path) -> None:
    test = HEAD + SKIPS
    done = run(tmp_path, test, "no such\n")
    assert done.returncode == 1
    assert all(f"no such thing {number}" in done.stderr for number in range(4))
    done = run(tmp_path, test, "# why\nno such thing 0\nno such thing 1\nno such thing 2\n")
    assert done.returncode == 1
    assert "no such thing 2" not in done.stderr
    assert "no such thing 3" in done.stderr
    assert run(tmp_path, test, "no such*\n").returncode == 0


def test_a_whole_file_that_is_skipped_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, HEAD + "pytest.skip('no such thing here', allow_module_level=True)\n")
    assert done.returncode != 0
    assert "no such thing here" in done.stderr


def test_a_run_without_any_test_fails(tmp_path: Path) -> None:
    assert run(tmp_path, "").returncode != 0
