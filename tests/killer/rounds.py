"""One round: a farm, a plan carried out, the verdict; and the count of what was hit."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any, Protocol, Sequence

from .attacks import Aim, Target, plan
from .farm import Farm, Violation
from .killer import Killer, Terms
from .oracle import Judge, examine, outcomes_unwritten
from .reasons import Reasons
from .sight import Sight
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
    wrong = verdict(killer, plan(rng, kills, aims, targets), Reasons(killer))
    total += count(killer)
    return wrong


class Round(Protocol):
    """What a verdict is about: a farm, and what is done to it. A context."""

    farm: Farm
    hits: Sequence[object]

    def __enter__(self) -> object: ...
    def __exit__(self, *exc: object) -> None: ...
    def run(self, steps: Sequence[Any]) -> None: ...


def verdict(killer: Round, steps: Sequence[object], judge: Judge) -> list[str]:
    """Everything that is wrong after a plan was carried out, or on the way; what was hit stands in the file `hits`."""
    with killer:
        try:
            killer.run(steps)
            wrong = examine(killer.farm, judge)
        except Violation as violation:
            wrong = [*killer.farm.violations, str(violation)]
    hits = [str(hit) for hit in killer.hits]
    (killer.farm.folder / "hits").write_text("".join(f"{hit}\n" for hit in hits))
    if wrong:
        wrong.append("the last attacks:\n" + "".join(f"  {hit}\n" for hit in hits[-8:]))
    return wrong


def count(killer: Killer) -> Counter[str]:
    """What was hit, and in what state."""
    total = count_tasks(killer.farm)
    for hit in killer.hits:
        total[hit.attack.signal.name] += 1
        total[f"{hit.attack.signal.name} to {hit.attack.target.value}"] += 1
        if hit.what not in ("farmer", "worker"):
            total[f"verb {hit.what} killed"] += 1
        if hit.attack.signal is signal.SIGKILL:
            total["killed: with a running task"] += hit.tasks > 0
            total += count_sight(hit.sight, hit.victim in hit.pids)
    total["edits by hand"] += len(killer.hand_edits)
    return total


def count_sight(sight: Sight, is_author: bool) -> Counter[str]:
    """What one that was killed was doing; `is_author`: the exchange that it was seen in was cut short with it."""
    total = Counter({"killed: start-up": int(sight.starting), "killed: running claim": int(sight.claims > 0)})
    if sight.exchange and is_author:
        total["killed: exchange"] += 1
        total[f"killed: exchange, {sight.exchange}"] += 1
    return total


def count_tasks(farm: Farm) -> Counter[str]:
    """What became of the tasks."""
    return Counter(
        {
            "killed: task ended, outcome not written": outcomes_unwritten(farm),
            "executions": len(read_effects(farm.effects)),
            "tasks": len(farm.commands),
            "retries asked for": len(farm.requeues),
        }
    )


def table(total: Counter[str]) -> str:
    """The counts, one per line."""
    return "\n".join(f"{total[name]:>8}  {name}" for name in sorted(total))
