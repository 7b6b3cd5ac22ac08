"""A farm with a definition of a runner beside its list."""

from __future__ import annotations

from conftest import Farm

from taskfarmer.model import Launch, Slot, Task
from taskfarmer.runners import Runner


def define(farm: Farm, dotted: str, **options: str) -> Farm:
    """Write `lab.ini` with the runner `lab`."""
    lines = [f"{name} = {value}".replace("\n", "\n    ") for name, value in options.items()]
    (farm.folder / "lab.ini").write_text("\n".join(["[lab]", f"Runner = {dotted}", *lines, ""]))
    return farm


def run(farm: Farm, *commands: str, check: int | None = 0, flags: tuple[str, ...] = (), **options) -> Farm:
    """Run these commands with the runner `lab`."""
    farm.write(*commands).run("-n", "1", "--runner", "lab", *flags, check=check, **options)
    return farm


def launch(runner: Runner, command: str, id: int = 7, slot: int = 0) -> Launch:
    """What a runner says of a command."""
    return runner.launch(Task(id, command), Slot(slot))
