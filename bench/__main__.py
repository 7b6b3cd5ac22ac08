"""`python -m bench`: measure everything, and print one Markdown table. `python -m bench scale`: many farmers. See README.md."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from bench.cases import CASES, QUICK, Numbers, Sizes, has_gnu_parallel
from bench.measure import BenchError, Place
from bench.report import markdown, read_targets, unmet

DEFAULT_ROUNDS = 5


def main() -> int:
    if sys.argv[1:2] == ["scale"]:
        from bench.scale import main as scale

        return scale(sys.argv[2:])
    args = _parse()
    sizes = QUICK if args.quick else Sizes()
    if args.huge:
        sizes = sizes._replace(huge=10 * sizes.many)
    if args.whole:
        sizes = sizes._replace(watch=math.inf)
    names = args.only or list(CASES)
    targets = read_targets()
    if "trues" in names and not has_gnu_parallel():
        print(
            "bench: GNU PARALLEL IS NOT HERE, we are not compared with it (apt-get install parallel)", file=sys.stderr
        )
    place = Place(args.dir)
    try:
        where = str(place.path)
        _measure_once(place, names)
        rounds = [_round(place, names, sizes, number) for number in range(1, args.rounds + 1)]
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    finally:
        place.close()
    text = markdown(targets, rounds, sizes, where, quick=args.quick)
    print(text)
    if args.output:
        Path(args.output).write_text(text + "\n")
    return 1 if unmet(targets, rounds) and not args.quick else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", metavar="CASE", choices=CASES, action="append", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--rounds", metavar="N", type=int, default=DEFAULT_ROUNDS, help="default 5")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: does everything run? The numbers mean little"
    )
    parser.add_argument("--huge", action="store_true", help="also ten million lines")
    parser.add_argument("--whole", action="store_true", help="watch the memory of the million lines to their end")
    parser.add_argument("--dir", metavar="DIR", help="where to work (default: the folder for temporary files)")
    parser.add_argument("--output", metavar="FILE", help="write the table there, too")
    return parser.parse_args()


def _measure_once(place: Place, names: list[str]) -> None:
    """Everything once, tiny and unrecorded: bytecode is compiled, programs are in memory."""
    tiny = QUICK._replace(
        tasks=20, growth=(20, 40), exchanges=10, claim_lines=(300, 300), many=500, watch=0.5, starts=1
    )
    for name in names:
        CASES[name](place, tiny)


def _round(place: Place, names: list[str], sizes: Sizes, number: int) -> Numbers:
    numbers: Numbers = {}
    for name in names:
        begun = time.perf_counter()
        numbers |= CASES[name](place, sizes)
        print(f"round {number}  {name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    return numbers


if __name__ == "__main__":
    sys.exit(main())
