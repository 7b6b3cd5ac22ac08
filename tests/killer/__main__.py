"""python -m tests.killer --kills 2000 --seed 7 [--farmers 3] [--mutant NAME] [--keep DIR]

Rounds of forty kills, each with a farm of its own, until so many are done or a promise is broken. The seed is printed first,
and every round says what to type to have it alone. Exit 1 and the whole folder kept: a promise was broken.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutants import MUTANTS, plant  # noqa: E402

from .rounds import NEEDED, one_round, table, terms_of  # noqa: E402

A_ROUND = 40


def main() -> int:
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("killed"))  # not without having cleared away
    seed = args.seed if args.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    base = Path(tempfile.mkdtemp(prefix="killer_", dir=args.keep))
    program = plant(MUTANTS[args.mutant], base / "mutant") if args.mutant else None
    total: Counter[str] = Counter()
    begun = time.monotonic()
    number = args.round or 0
    while total["SIGKILL"] < args.kills and (args.round is None or number == args.round):
        folder = base / f"round_{number}"
        terms = terms_of(f"{seed}.{number}", args.farmers)
        wrong = one_round(folder, f"{seed}.{number}", terms, A_ROUND, program, total)
        print(
            f"round {number}: {total['SIGKILL']} kills, {total['executions']} executions, "
            f"{time.monotonic() - begun:.0f} s  ({terms}; alone: --seed {seed} --round {number})",
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
    if args.round is None and (missed := [name for name in NEEDED if not total[name]]):
        print(f"nothing was proved, since none was hit of: {', '.join(missed)}")
        return 1
    print(f"no violation, seed {seed}, {time.monotonic() - begun:.0f} s")
    shutil.rmtree(base)
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.killer", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000, help="how many SIGKILLs in all; other signals come on top")
    parser.add_argument("--seed", type=int, help="the same seed, the same plan of attacks")
    parser.add_argument("--round", type=int, help="only this round")
    parser.add_argument("--farmers", type=int, default=3)
    parser.add_argument("--mutant", choices=MUTANTS, help="hunt a program with this defect planted")
    parser.add_argument("--keep", type=Path, help="where the folders of the rounds are made")
    return parser


if __name__ == "__main__":
    sys.exit(main())
