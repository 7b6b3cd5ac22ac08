"""One round: a farm, a plan carried out, the verdict; and the count of what was hit."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path
from typing import Sequence

from .attacks import Aim, Target, plan
from .killer import Killer, Terms, Violation
from .oracle import examine, outcomes_unwritten
from .reasons import Reasons
from .tasks import read_effects

#: What a campaign must have hit, or it proves nothing.
NEEDED = ("killed: running claim", "killed: exchange", "killed: start-up")


def terms_of(seed: str, farmers: int) -> Terms:
    """What kind of farm a round of a campaign has."""
    rng = random.Random(f"terms {seed}")
    return Terms(farmers, brisk=rng.random() < 0.25, soft=rng.random() < 0.2)


def one_round(
    folder: Path,
    seed: str,
    terms: Terms,
    kills: int,
    program: Path | None,
    total: Counter[str],
    aims: Sequence[Aim] = tuple(Aim),
    targets: Sequence[Target] = tuple(Target),
) -> list[str]:
    """Everything that went wrong in one round; what was hit is added to `total`."""
    rng = random.Random(seed)
    killer = Killer(folder, rng, terms, program)
    try:
        killer.run(plan(rng, kills, aims, targets))
        wrong = examine(killer, Reasons(killer))
    except Violation as violation:
        wrong = [*killer.violations, str(violation)]
    finally:
        killer.clear_away()
    (folder / "hits").write_text("".join(f"{hit}\n" for hit in killer.hits))
    total += count(killer)
    if wrong:
        wrong.append("the last attacks:\n" + "".join(f"  {hit}\n" for hit in killer.hits[-8:]))
    return wrong


def count(killer: Killer) -> Counter[str]:
    """What was hit, and in what state."""
    total: Counter[str] = Counter()
    for hit in killer.hits:
        total[hit.attack.signal.name] += 1
        total[f"{hit.attack.signal.name} to {hit.attack.target.value}"] += 1
        if hit.what not in ("farmer", "worker"):
            total[f"verb {hit.what} killed"] += 1
        if hit.attack.signal is signal.SIGKILL:
            total["killed: start-up"] += hit.sight.starting
            total["killed: running claim"] += hit.sight.claims > 0
            total["killed: with a running task"] += hit.tasks > 0
            if hit.sight.exchange and hit.victim in hit.pids:
                total["killed: exchange"] += 1
                total[f"killed: exchange, {hit.sight.exchange}"] += 1
    total["killed: task ended, outcome not written"] += outcomes_unwritten(killer)
    total["executions"] += len(read_effects(killer.folder / "effects"))
    total["tasks"] += len(killer.commands)
    total["retries asked for"] += len(killer.requeues)
    total["edits by hand"] += len(killer.hand_edits)
    return total


def table(total: Counter[str]) -> str:
    """The counts, one per line."""
    return "\n".join(f"{total[name]:>8}  {name}" for name in sorted(total))
