"""One round on the nodes: a farm, a plan carried out, the verdict; and the count of what was hit."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Sequence

from slurm_lab import Slurm

from ..rounds import count_sight, count_tasks, verdict
from .attacks import KILLS, Blow, plan
from .jobs import FLEETS
from .killer import Killer, Terms
from .reasons import Reasons

#: What a campaign must have hit, or it proves nothing.
NEEDED = ("kills", Blow.POWER.value, "killed: running claim", "killed: exchange", "taken over by another host")


def terms_of(seed: str) -> Terms:
    """What kind of farm a round of a campaign has."""
    rng = random.Random(f"terms {seed}")
    return Terms(rng.choice(FLEETS), brisk=rng.random() < 0.2)


def one_round(
    folder: Path,
    seed: str,
    terms: Terms,
    kills: int,
    slurm: Slurm,
    program: Path | None,
    total: Counter[str],
    blows: Sequence[Blow] = tuple(Blow),
) -> list[str]:
    """Everything that went wrong in one round; what was hit is added to `total`."""
    rng = random.Random(seed)
    killer = Killer(folder, rng, terms, slurm, program)
    wrong = verdict(killer, plan(rng, kills, blows), Reasons(killer))
    (folder / "troubles").write_text("".join(f"{trouble}\n" for trouble in killer.log.troubles))
    total += count(killer)
    return wrong


def count(killer: Killer) -> Counter[str]:
    """What was hit, and in what state."""
    total = count_tasks(killer.farm)
    for hit in killer.hits:
        total[hit.attack.blow.value] += 1
        total["processes that lost their power"] += len(hit.pids) if hit.attack.blow is Blow.POWER else 0
        if hit.attack.blow in KILLS:
            total["kills"] += 1
            total += count_sight(hit.sight, hit.attack.blow is not Blow.WORKER)
    total["taken over by another host"] += len(re.findall(r"no sign of life\) is gone", killer.jobs.said))
    total["taken over on the same host"] += len(re.findall(r"\(pid \d+\) is gone", killer.jobs.said))
    total["farmers"] += len(killer.witness.farmers)
    return total
