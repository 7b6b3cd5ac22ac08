"""The fixture `slurm`, for tests that say `pytest_plugins = "slurm_fixture"`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest
from slurm_lab import Slurm, missing


@pytest.fixture(scope="session")
def running_slurm() -> Iterator[Slurm]:
    """Started once for all tests."""
    # Not in pytest's own folder: the path of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="slurm."))
    folder.chmod(0o755)
    slurm = Slurm(folder)
    try:
        slurm.up()
        yield slurm
    finally:
        slurm.down()
        shutil.rmtree(folder)


@pytest.fixture
def slurm(request: pytest.FixtureRequest) -> Iterator[Slurm]:
    """A real Slurm with three idle nodes; no job is left behind."""
    if why := missing():
        pytest.skip(why)
    slurm = request.getfixturevalue("running_slurm")
    yield slurm
    slurm.clear()
