"""The planted defects fit the source, and no call that syncs is without one that leaves it out."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import LEFT_OUT, MUTANTS, PACKAGE, PROTOCOL, Mutant, Stale, mutated, plant

pytestmark = pytest.mark.quick

#: The doctor's trials: no task stands in their files, and no power cut is survived.
TRIALS = PACKAGE / "system" / "probe.py"
SYNCS = ("fsync", "fdatasync", "sync_folder", "sync", "syncfs", "O_SYNC", "O_DSYNC")


def syncs(source: str) -> list[tuple[int, int]]:
    """Line and column of each use of something that syncs, however it is spelled."""
    found = []
    for node in ast.walk(ast.parse(source)):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in SYNCS:
            found.append((node.lineno, node.col_offset))
    return sorted(found)


def site(mutant: Mutant) -> tuple[str, tuple[int, int]]:
    """The one use that a mutant leaves out."""
    before = syncs((PACKAGE / mutant.file).read_text())
    source = (PACKAGE / mutant.file).read_text()
    first = source[: source.index(mutant.old)].count("\n") + 1
    last = first + mutant.old.rstrip("\n").count("\n")
    inside = [at for at in before if first <= at[0] <= last]
    after = syncs(mutated(mutant))
    assert len(after) == len(before) - 1, f"{mutant}: exactly one sync is to be left out"
    kept = mutant.new.splitlines()
    (gone,) = [at for at in inside if source.splitlines()[at[0] - 1] not in kept]
    return mutant.file, gone


def test_every_sync_in_the_source_has_a_mutant_that_leaves_it_out() -> None:
    there = {
        (str(path.relative_to(PACKAGE)), at)
        for path in PACKAGE.rglob("*.py")
        if path != TRIALS
        for at in syncs(path.read_text())
    }
    left_out = [site(mutant) for mutant in LEFT_OUT]
    assert sorted(left_out) == sorted(there)


def test_every_mutant_is_a_program(tmp_path: Path) -> None:
    assert len(MUTANTS) == len(PROTOCOL) + len(LEFT_OUT)
    for mutant in MUTANTS.values():
        compile(mutated(mutant), mutant.file, "exec")


def test_a_planted_mutant_is_what_runs(tmp_path: Path) -> None:
    mutant = Mutant("another version", "__init__.py", '__version__ = "', '__version__ = "mutant of ', "nothing")
    plant(mutant, tmp_path / "planted")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "planted")}
    said = subprocess.run(
        [sys.executable, "-m", "taskfarmer", "--version"], env=env, cwd=tmp_path, text=True, capture_output=True
    )
    assert "mutant of" in said.stdout


def test_a_stale_mutant_is_loud() -> None:
    with pytest.raises(Stale, match="found 0"):
        mutated(Mutant("stale", "model.py", "there is no such text", "", "nothing"))
    with pytest.raises(Stale, match="was expected once"):
        mutated(Mutant("ambiguous", "model.py", "class ", "", "nothing"))
