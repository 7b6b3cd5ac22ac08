"""The tasklist without a list: one command for each combination of values.

    [sweep]
    TaskList = taskfarmer.tasklists.SweepTaskList
    command  = simulate --model {model} --seed {seed}
    model    = small, large
    seed     = 1..1000

The file in which it stands is its tasklist: `pytaskfarmer.py -t sweep study.ini`. How values are written: see axes.py.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import Iterator, Sequence

from taskfarmer.errors import UsageError
from taskfarmer.tasklists.axes import Values, parse_axis
from taskfarmer.tasklists.fields import Template


class SweepTaskList:
    """Each combination of values is put into one command. The last axis changes fastest.

    Options:
        `command`: the command, with fields: {AXIS} for each axis, {id}, {workdir}
        `quote`: `no` puts values in as they are, not quoted for the shell
        `AXIS`: any other name is an axis, its values written 1..10, 0..1..0.1 or a, b, c
    """

    appended_lines_are_new = False

    # The first two by position only: `path` and `workdir` may be axes.
    def __init__(self, path: str, workdir: str, /, command: str, quote: bool = True, **axes: str) -> None:
        self.path = path
        self.workdir = workdir
        self._template = Template(command, quote)
        self._axes = {name: parse_axis(name, text) for name, text in axes.items()}
        if os.path.isfile(path) and not path.endswith(".ini"):
            raise UsageError(
                f"the INI file of the sweep is wanted as its tasklist, found {path}, of which nothing would be read"
            )
        if not axes:
            raise UsageError("an axis is wanted, found none; write for example: seed = 1..10")
        for name in axes:
            if not name.isidentifier():
                raise UsageError(f"axis {name}: a name of letters, digits and _ is wanted, so that it can be a field")
        self._template.check(dict.fromkeys((*axes, "id", "workdir")))
        for name in axes:
            if name not in self._template.fields:
                raise UsageError(
                    f"axis {name}: command has no {{{name}}}, so each value of it would run the same command again"
                )

    def __iter__(self) -> Iterator[str]:
        values = {"workdir": os.path.abspath(self.workdir)}
        for id, combination in enumerate(_combinations(list(self._axes.values()))):
            values["id"] = str(id)
            values.update(zip(self._axes, combination))
            yield self._template.fill(values)


def _combinations(axes: Sequence[Sequence[Values]]) -> Iterator[tuple[str, ...]]:
    """As itertools.product, which would hold every value of each axis."""
    if not axes:
        yield ()
        return
    for value in chain.from_iterable(axes[0]):
        for rest in _combinations(axes[1:]):
            yield value, *rest
