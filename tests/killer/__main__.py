"""python -m tests.killer --kills 2000 --seed 7 [--farmers 3 | --nodes 3] [--mutant NAME] [--keep DIR]

Rounds of forty kills, each with a farm of its own, until so many are done or a promise is broken. The seed is printed first,
and every round says what to type to have it alone. Exit 1 and the whole folder kept: a promise was broken.

--nodes 3: farmers in jobs on the nodes of a real Slurm that is started for it, twenty kills a round, power cuts among them.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "components")]

from mutants import MUTANTS, plant  # noqa: E402

from .rounds import NEEDED, one_round, table, terms_of  # noqa: E402


class Field(NamedTuple):
    """Where the rounds are played. `play`: one round in a folder, from a seed, counted; what went wrong in it."""

    play: Callable[[Path, str, Path | None, Counter[str]], list[str]]
    terms: Callable[[str], object]
    kills: str  # under which name they are counted
    needed: tuple[str, ...]


def main() -> int:
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("killed"))  # not without having cleared away
    seed = args.seed if args.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    base = Path(tempfile.mkdtemp(prefix="killer_", dir=args.keep))
    program = plant(MUTANTS[args.mutant], base / "mutant") if args.mutant else None
    with on_nodes() if args.nodes else nullcontext(one_host(args.farmers)) as field:
        wrong = campaign(args, seed, base, field, program)
    if not wrong:
        shutil.rmtree(base)
    return wrong


def campaign(args: argparse.Namespace, seed: int, base: Path, field: Field, program: Path | None) -> int:
    """Round after round; the exit status."""
    total: Counter[str] = Counter()
    begun = time.monotonic()
    number = args.round or 0
    nodes = " --nodes 3" if args.nodes else ""
    while total[field.kills] < args.kills and (args.round is None or number == args.round):
        folder = base / f"round_{number}"
        wrong = field.play(folder, f"{seed}.{number}", program, total)
        print(
            f"round {number}: {total[field.kills]} kills, {total['executions']} executions, {time.monotonic() - begun:.0f} s  "
            f"({field.terms(f'{seed}.{number}')}; alone:{nodes} --seed {seed} --round {number})",
            flush=True,
        )
        if wrong:
            print(table(total))
            print(f"\n{len(wrong)} VIOLATIONS, seed {seed}, round {number}, all kept in {folder}")
            print("\n".join(wrong))
            return 1
        shutil.rmtree(folder)
        number += 1
    print(table(total))
    if args.round is None and (missed := [name for name in field.needed if not total[name]]):
        print(f"nothing was proved, since none was hit of: {', '.join(missed)}")
        return 1
    print(f"no violation, seed {seed}, {time.monotonic() - begun:.0f} s")
    return 0


def one_host(farmers: int) -> Field:
    """So many farmers here."""

    def play(folder: Path, seed: str, program: Path | None, total: Counter[str]) -> list[str]:
        return one_round(folder, seed, terms_of(seed, farmers), 40, program, total)

    return Field(play, lambda seed: terms_of(seed, farmers), "SIGKILL", NEEDED)


@contextmanager
def on_nodes() -> Iterator[Field]:
    """Jobs on the nodes of a Slurm of our own."""
    from slurm_lab import Slurm, missing

    from .nodes import rounds, witness

    if why := missing() or witness.missing():
        sys.exit(why)
    place = Path(tempfile.mkdtemp(prefix="slurm."))
    place.chmod(0o755)
    slurm = Slurm(place)

    def play(folder: Path, seed: str, program: Path | None, total: Counter[str]) -> list[str]:
        return rounds.one_round(folder, seed, rounds.terms_of(seed), 20, slurm, program, total)

    try:
        slurm.up()
        yield Field(play, rounds.terms_of, "kills", rounds.NEEDED)
    finally:
        slurm.down()
        shutil.rmtree(place, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.killer", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000, help="how many in all; what does not kill comes on top")
    parser.add_argument("--seed", type=int, help="the same seed, the same plan of attacks")
    parser.add_argument("--round", type=int, help="only this round")
    parser.add_argument("--farmers", type=int, default=3)
    parser.add_argument("--nodes", type=int, choices=[3], help="over the nodes of a real Slurm")
    parser.add_argument("--mutant", choices=MUTANTS, help="hunt a program with this defect planted")
    parser.add_argument("--keep", type=Path, help="where the folders of the rounds are made")
    return parser


if __name__ == "__main__":
    sys.exit(main())
