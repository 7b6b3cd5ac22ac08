"""The plot of `python -m bench scale`. Wants matplotlib (`pip install -e '.[bench]'`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.scale import Results

_LEAST = 1e-4  # percent: nothing has no place on a logarithmic axis


def draw(results: Results, path: str) -> None:
    """Share of the time that farmers wait for the lock, over their number."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=110)
    real = {one.farmers: one.waiting for one in results.measured}
    lines = [
        (real, "o", "tab:blue", "measured: real processes on one machine"),
        ({n: seen.waiting for n, seen in results.as_measured.items()}, "-", "tab:blue", "simulated, the lock as it was measured"),
        ({n: seen.waiting for n, seen in results.shared.items()}, "-", "tab:green", "simulated, 50 exchanges/s, tasks of 5 s on 8 slots"),
        ({n: seen.waiting for n, seen in results.impatient.items()}, ":", "tab:red", "the same, if nobody came more seldom"),
    ]  # fmt: skip
    for values, style, color, label in lines:
        axes.plot(
            list(values), [max(_LEAST, 100 * value) for value in values.values()], style, color=color, label=label
        )
    axes.axhline(1.0, color="gray", linewidth=0.8, linestyle="--")
    axes.annotate("1 %", (1, 1.0), xytext=(0, 3), textcoords="offset points", color="gray")
    axes.set(xscale="log", yscale="log", xlabel="farmers", ylabel="% of a farmer's time waiting for the lock")
    axes.set_xticks([1, 4, 16, 64, 256, 1000], labels=["1", "4", "16", "64", "256", "1000"])
    axes.minorticks_off()
    axes.set_ylim(_LEAST, 120)
    axes.legend(loc="lower right", fontsize=9)
    figure.tight_layout()
    figure.savefig(path)
