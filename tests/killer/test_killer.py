"""The killer's short campaign, and that it catches what it is there to catch. The long one: `python -m tests.killer`."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from mutants import MUTANTS, plant

from .attacks import Aim, Target, plan
from .killer import Terms
from .rounds import NEEDED, one_round, table

pytestmark = pytest.mark.components  # half a minute each: too long for every commit

KILLS = 32
#: What to aim at for it.
CAUGHT = {
    "token not checked by who takes over": ([Aim.RANDOM], [Target.GROUP]),
    "outcome recorded only by the farmer": ([Aim.RANDOM], [Target.FARMER]),
    "presence held by the farmer alone": ([Aim.RANDOM, Aim.EXCHANGE], [Target.FARMER]),
    "done before it is written down": ([Aim.EXCHANGE], [Target.FARMER, Target.GROUP]),
}


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan(random.Random("7.1"), 40) == plan(random.Random("7.1"), 40)
    assert plan(random.Random("7.1"), 40) != plan(random.Random("7.2"), 40)


def test_three_farmers_under_fire_keep_every_promise(tmp_path: Path) -> None:
    """Nothing lost, everything recorded once, run again only for a reason, never two at once, no orphans."""
    seed = random.randrange(1 << 32)
    total: Counter[str] = Counter()
    for number in range(3):  # one round hits everything, nearly always
        wrong = one_round(tmp_path / str(number), f"{seed}.{number}", Terms(), KILLS, None, total)
        assert not wrong, f"seed {seed}, round {number}:\n" + "\n".join(wrong)
        if all(total[name] for name in NEEDED):
            break
    print(f"seed {seed}\n{table(total)}")
    assert total["SIGKILL"] >= 30
    assert all(total[name] for name in NEEDED), table(total)


@pytest.mark.parametrize("name", CAUGHT)
def test_the_killer_catches_a_planted_defect(name: str, tmp_path: Path) -> None:
    program = plant(MUTANTS[name], tmp_path / "mutant")
    seed = random.randrange(1 << 32)
    total: Counter[str] = Counter()
    for number in range(10):
        if one_round(tmp_path / str(number), f"{seed}.{number}", Terms(), 8, program, total, *CAUGHT[name]):
            print(f"caught in round {number} after {total['SIGKILL']} kills, seed {seed}")
            return
    pytest.fail(f"not caught, seed {seed}:\n{table(total)}")
