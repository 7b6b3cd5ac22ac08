"""The killer's short campaign over three nodes. The long one: `python -m tests.killer --nodes 3`."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from killer.nodes.attacks import Blow, plan
from killer.nodes.jobs import FLEETS
from killer.nodes.killer import Terms
from killer.nodes.rounds import one_round
from killer.nodes.witness import missing
from killer.rounds import table
from mutants import MUTANTS, plant
from slurm_lab import Slurm

pytestmark = pytest.mark.components
pytest_plugins = "slurm_fixture"

KILLS = 6


@pytest.fixture(autouse=True)
def kernel_that_tells() -> None:
    if why := missing():
        pytest.skip(why)


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan(random.Random("7.1"), 40) == plan(random.Random("7.1"), 40)
    assert plan(random.Random("7.1"), 40) != plan(random.Random("7.2"), 40)


def test_a_farm_over_three_nodes_under_fire_keeps_every_promise(slurm: Slurm, tmp_path: Path) -> None:
    """Nothing lost, everything recorded once, run again only for a reason, never two at once, nothing left running."""
    seed = random.randrange(1 << 32)
    rng = random.Random(f"terms {seed}")
    terms = Terms(rng.choice(FLEETS), brisk=rng.random() < 0.2)
    blows = (Blow.POWER, Blow.POWER, Blow.FARMER, Blow.GROUP, Blow.WORKER, Blow.CANCEL, Blow.STALL)
    total: Counter[str] = Counter()
    wrong = one_round(tmp_path / "round", f"{seed}", terms, KILLS, slurm, None, total, blows)
    print(f"seed {seed}, {terms}\n{table(total)}")
    assert not wrong, f"seed {seed}, {terms}:\n" + "\n".join(wrong)
    assert total["kills"] >= KILLS
    assert total["executions"] >= total["tasks"]


def test_the_killer_on_nodes_catches_a_planted_defect(slurm: Slurm, tmp_path: Path) -> None:
    """Of a farmer that takes over it must notice whose outcomes it believes."""
    program = plant(MUTANTS["token not checked by who takes over"], tmp_path / "mutant")
    seed = random.randrange(1 << 32)
    total: Counter[str] = Counter()
    for number in range(5):
        folder = tmp_path / str(number)
        if one_round(folder, f"{seed}.{number}", Terms(FLEETS[0]), 3, slurm, program, total, (Blow.POWER, Blow.GROUP)):
            print(f"caught in round {number} after {total['kills']} kills, seed {seed}")
            return
    pytest.fail(f"not caught, seed {seed}:\n{table(total)}")
