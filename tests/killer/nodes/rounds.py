"""One round on the nodes: a farm, a plan carried out, the verdict; and the count of what was hit."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Sequence

from slurm_lab import Slurm

from ..killer import Violation
from ..oracle import examine, outcomes_unwritten
from ..tasks import read_effects
from .attacks import KILLS, Blow, plan
from .killer import FLEETS, Killer, Terms
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
    with killer:
        try:
            killer.run(plan(rng, kills, blows))
            wrong = examine(killer, Reasons(killer))
        except Violation as violation:
            wrong = [*killer.violations, str(violation)]
    (folder / "hits").write_text("".join(f"{hit}\n" for hit in killer.hits))
    (folder / "troubles").write_text("".join(f"{trouble}\n" for trouble in killer.troubles))
    total += count(killer)
    if wrong:
        wrong.append("the last attacks:\n" + "".join(f"  {hit}\n" for hit in killer.hits[-8:]))
    return wrong


def count(killer: Killer) -> Counter[str]:
    """What was hit, and in what state."""
    total: Counter[str] = Counter()
    for hit in killer.hits:
        total[hit.attack.blow.value] += 1
        total["processes that lost their power"] += len(hit.pids) if hit.attack.blow is Blow.POWER else 0
        if hit.attack.blow in KILLS:
            total["kills"] += 1
            total["killed: start-up"] += hit.sight.starting
            total["killed: running claim"] += hit.sight.claims > 0
            if hit.sight.exchange and hit.attack.blow is not Blow.WORKER:
                total["killed: exchange"] += 1
                total[f"killed: exchange, {hit.sight.exchange}"] += 1
    total["killed: task ended, outcome not written"] += outcomes_unwritten(killer)
    total["taken over by another host"] += len(re.findall(r"no sign of life\) is gone", killer.said))
    total["taken over on the same host"] += len(re.findall(r"\(pid \d+\) is gone", killer.said))
    total["farmers"] += len(killer.witness.farmers)
    total["executions"] += len(read_effects(killer.folder / "effects"))
    total["tasks"] += len(killer.commands)
    total["retries asked for"] += len(killer.requeues)
    return total
