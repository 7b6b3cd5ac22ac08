"""`python -m bench scale`: how much of their time farmers wait for each other, from one to a thousand. See README.md."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import NamedTuple, Sequence

from bench.farmers import LENGTH, Measured, fit, measure
from bench.measure import BenchError, Place
from bench.report import markdown, read_targets, unmet
from bench.simulation import LockModel, Scenario, Seen, Simulation
from taskfarmer.farm.pace import INTERVAL, Pace

REAL = (1, 2, 4, 8, 16, 32, 64)
SIMULATED = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
#: A shared filesystem that does fifty exchanges a second, and one that does thirty.
FIFTY, THIRTY = LockModel(0.0176, 0.5, 5e-6), LockModel(0.0294, 0.5, 5e-6)
#: How often all of them must have had the lock until what happened while they came is over.
_ROUNDS = 8.0


class Sizes(NamedTuple):
    """`seconds` that real farmers are watched; how many farmers are real, how many simulated; `part` of the simulated time."""

    seconds: float = 20.0
    real: Sequence[int] = REAL
    simulated: Sequence[int] = SIMULATED
    part: float = 1.0


QUICK = Sizes(3.0, (1, 3), (1, 3, 10), 0.1)


class Work(NamedTuple):
    """Tasks that a thousand farmers are tried with, when they have been at it for a while."""

    name: str
    slots: int
    length: float
    since: float
    until: float


WORKS = (
    # Longer than the others: until it is known what so many claims at a time take, they come too often.
    Work("0.01 s, 1 slot", 1, 0.01, 700.0, 900.0),
    Work("5 s, 8 slots", 8, 5.0, 200.0, 300.0),
    Work("10 min, 128 slots", 128, 600.0, 200.0, 400.0),
)


class Impatient(Pace):
    """What farmers would do if nothing made them come more seldom."""

    interval = INTERVAL  # type: ignore[assignment]


class Results(NamedTuple):
    """Everything that stands in the plot, by number of farmers."""

    measured: list[Measured]
    fitted: dict[int, LockModel]
    as_measured: dict[int, Seen]
    shared: dict[int, Seen]
    impatient: dict[int, Seen]
    thousand: dict[str, Seen]


def main(words: Sequence[str]) -> int:
    """Measure, fit, simulate, draw."""
    args = _parse(words)
    sizes = QUICK if args.quick else Sizes()
    place = Place(args.dir)
    try:
        measured = _read(args.measured) if args.measured else _measure(place, sizes)
        where = str(place.path)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    finally:
        place.close()
    if args.keep:
        Path(args.keep).write_text(json.dumps(measured))
    results = simulate(measured, sizes)
    numbers = _numbers(results)
    text = "\n\n".join([markdown(read_targets(), [numbers], sizes, where, args.quick), *tables(results)])
    print(text)
    if args.output:
        Path(args.output).write_text(text + "\n")
    if args.plot:
        from bench.plot import draw

        draw(results, args.plot)
    return 1 if unmet(read_targets(), [numbers]) and not args.quick else 0


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few farmers, a short while: does everything run?")
    parser.add_argument("--dir", metavar="DIR", help="where to work (default: the folder for temporary files)")
    parser.add_argument("--keep", metavar="FILE", help="write what was measured there (JSON)")
    parser.add_argument("--measured", metavar="FILE", help="take what was measured from there")
    parser.add_argument("--plot", metavar="FILE", help="draw it (.png or .svg); wants matplotlib")
    parser.add_argument("--output", metavar="FILE", help="write the tables there, too")
    return parser.parse_args(words)


def _measure(place: Place, sizes: Sizes) -> list[Measured]:
    measured = []
    for farmers in sizes.real:
        measured.append(measure(place, farmers, sizes.seconds))
        print(f"{farmers} real farmers: waiting {measured[-1].waiting:.2%}", file=sys.stderr)
    return measured


def _read(path: str) -> list[Measured]:
    return [Measured(*one) for one in json.loads(Path(path).read_text())]


def simulate(measured: list[Measured], sizes: Sizes) -> Results:
    """The same numbers of farmers with the lock as it was measured, more of them with a lock on a shared filesystem."""
    fitted = fit(measured)
    watch = 60.0 * sizes.part

    def like_real(farmers: int) -> Seen:
        model = fitted[max(known for known in fitted if known <= farmers)]
        since = max(2 * watch, sizes.part * _ROUNDS * farmers * model.mean)
        return _run(Scenario(farmers, 1, LENGTH, 10**9, since + 2 * watch, since, spread=0.02), model)

    def shared(farmers: int, pace: type[Pace] = Pace) -> Seen:
        return _run(Scenario(farmers, 8, 5.0, 10**9, 4 * watch, 2.5 * watch), FIFTY, pace)

    return Results(
        measured,
        fitted,
        {farmers: like_real(farmers) for farmers in sizes.simulated},
        {farmers: shared(farmers) for farmers in sizes.simulated},
        {farmers: shared(farmers, Impatient) for farmers in sizes.simulated},
        {work.name: _thousand(work, max(sizes.simulated), sizes.part) for work in WORKS},
    )


def _thousand(work: Work, farmers: int, part: float) -> Seen:
    return _run(Scenario(farmers, work.slots, work.length, 10**10, work.until * part, work.since * part), THIRTY)


def _run(scenario: Scenario, lock: LockModel, pace: type[Pace] = Pace) -> Seen:
    print(f"{scenario.farmers} simulated farmers", file=sys.stderr)
    return Simulation(scenario, lock, pace).run()


def _numbers(results: Results) -> dict[str, float]:
    most = max(results.shared)
    return {
        "waiting of a thousand": max(seen.waiting for seen in results.thousand.values()),
        "tries of a thousand": results.shared[most].tries_a_second,
        "waiting, simulated against measured": max(
            abs(results.as_measured[one.farmers].waiting - one.waiting)
            for one in results.measured
            if one.farmers in results.as_measured
        ),
    }


def tables(results: Results) -> list[str]:
    """What was measured, and what was simulated."""
    real = [
        f"| {one.farmers} | {statistics.median(one.holds) * 1e3:.1f} | {len(one.holds) / one.seconds:.1f} | {one.waiting:.2%} "
        f"| {results.as_measured[one.farmers].waiting:.2%} |"
        for one in results.measured
    ]
    many = [
        f"| {name} | {seen.waiting:.2%} | {seen.idle:.1%} | {seen.taken:.0%} | {seen.tries_a_second:.0f} |"
        for name, seen in results.thousand.items()
    ]
    return [
        "\n".join(
            [
                "| real farmers | an exchange, ms | exchanges/s | waiting | simulated |",
                "|---|---|---|---|---|",
                *real,
            ]
        ),
        "\n".join(
            [
                f"| {max(results.shared)} simulated farmers, 30 exchanges/s | waiting | slots idle | lock taken | tries/s |",
                "|---|---|---|---|---|",
                *many,
            ]
        ),
    ]
