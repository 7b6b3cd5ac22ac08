"""Starts the attempts of one slot as its runner says, and clears away after them."""

from __future__ import annotations

from typing import Any

from taskfarmer.model import Claim, Launch, Slot, Task
from taskfarmer.runners.base import Runner, runs_itself, spell
from taskfarmer.system import hosted, launching
from taskfarmer.system.launching import NotStarted


class Starter:
    """One slot's runner at work. `runner`: a class and the options of its constructor."""

    def __init__(self, runner: tuple[type[Runner], dict[str, Any]], slot: Slot, null: int) -> None:
        self._class, self._options = runner
        self._runner = self._class(**self._options)
        self._hosts = runs_itself(self._runner)
        self._slot = slot
        self._null = null
        self._ear = launching.Ear()
        self._scratch: str | None = None

    def start(self, claim: Claim, env: dict[bytes, bytes], output: int) -> int:
        """Start an attempt; return its pid. Raises OSError as execve(2) says it, NotStarted, ValueError (a NUL byte),
        TypeError (what a user's class calls words)."""
        if self._hosts:
            return hosted.start(lambda: _Hosted(self._class(**self._options), claim), env, self._null, output)
        launch = self._spell(claim)
        launching.make_folders(launch)
        self._scratch = launch.scratch
        return self._ear.start(launch, env, self._null, output)

    def _spell(self, claim: Claim) -> Launch:
        try:
            return spell(self._runner, Task(claim.id, claim.command), self._slot)
        except (Exception, SystemExit) as error:
            # A user's class may raise anything. That is one failed task, not the farm's end.
            raise NotStarted(f"the runner {self._class.__name__} failed: {type(error).__name__}: {error}") from error

    def command_began(self) -> bool:
        """Whether the attempt that has ended ever came to its command, as far as can be known."""
        return self._ear.command_began()

    def clear(self) -> None:
        """The attempt has ended: remove what was made for it alone. Raises OSError when that cannot be done."""
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            launching.remove(scratch)


class _Hosted(hosted.Act):
    """A runner that starts its tasks itself, at one task."""

    def __init__(self, runner: Runner, claim: Claim) -> None:
        self._runner = runner
        self._claim = claim

    def run(self) -> object:
        with open(1, "w", closefd=False, errors="surrogateescape") as log:
            return self._runner.run(self._claim.id, self._claim.command, log)

    def terminate(self) -> None:
        self._runner.terminate()
