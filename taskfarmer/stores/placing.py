"""Where a task goes once an attempt has ended, or its owner has died: its state's file, or behind the rest for a retry."""

from __future__ import annotations

from taskfarmer.model import Outcome, State
from taskfarmer.stores.attempts import MOST, Attempts
from taskfarmer.stores.lines import STATE_FILES, task_line
from taskfarmer.stores.section import Section

#: Not tried again: nobody wants it any more; it may still be running.
_FOR_GOOD = (Outcome.CANCELLED, Outcome.NOT_ENDED)


class Placing:
    """Decides it by how often the task was tried.

    `retries`: how often a failed task goes back behind the rest before it counts as failed.
    """

    def __init__(self, retries: int) -> None:
        self.attempts = Attempts()
        self._retries = retries

    def read_attempts(self, section: Section) -> None:
        """Read what was counted since the last time. In each section before anything is placed."""
        if self.is_behind(section):
            self.attempts.catch_up(section.journal.file("attempts"), section.sizes["attempts"].bytes)

    def is_behind(self, section: Section) -> bool:
        """Whether something was counted that was not read yet."""
        return self.attempts.is_behind(section.sizes["attempts"].bytes)

    def may_go_behind(self, states: set[State]) -> bool:
        """Whether attempts that ended in these states may have to be tried again."""
        return bool(self._retries) and State.FAILED in states

    def place(self, lines: dict[str, list[bytes]], id: int, command: bytes, outcome: Outcome) -> None:
        """Add to `lines` of the state files what is to be appended after an attempt with this outcome."""
        counted, total = self.attempts.counted(id), self.attempts.total(id)
        place = outcome.state.value
        if goes_back_behind_the_rest(outcome, counted, self._retries):
            place = "later"
            counted += 1
        lines[place].append(task_line(id, command))
        if place in ("later", "toprocess"):
            lines["attempts"].append(self.attempts.line(id, counted, total + 1))


def no_lines() -> dict[str, list[bytes]]:
    """For each state file, what is to be appended: nothing yet."""
    return {name: [] for name in STATE_FILES}


def append(section: Section, lines: dict[str, list[bytes]]) -> None:
    """Append to each state file what was placed there."""
    for name, of_this_state in lines.items():
        section.append(name, of_this_state)


def goes_back_behind_the_rest(outcome: Outcome, counted: int, retries: int) -> bool:
    """Whether a task that ended like this, after `counted` tries that used up a retry, is to be tried again."""
    return outcome.state is State.FAILED and outcome not in _FOR_GOOD and counted < min(retries, MOST)
