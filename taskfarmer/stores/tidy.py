"""A workdir in which what a person edited is put right before anybody relies on it. See stores/repair.py."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Iterable, Iterator

from taskfarmer.stores.repair import repair
from taskfarmer.stores.section import Section, alone_in
from taskfarmer.stores.workdir import Workdir


class Tidy:
    """The sections of one workdir.

    `commands`, once a list was loaded, reads it anew: for tasks that stand in no file any more. `tell` hears what was
    found.
    """

    def __init__(self, workdir: Workdir, tell: Callable[[str], None]) -> None:
        self.commands: Callable[[], Iterable[str]] | None = None
        self._workdir = workdir
        self._tell = tell

    @contextmanager
    def section(
        self, names: Iterable[str] | Callable[[Section], Iterable[str]], farm_age: float = 0.0
    ) -> Iterator[Section]:
        """A section in which these files are as the last exchange left them. `farm_age`: see alone_in."""
        while True:
            with alone_in(self._workdir, farm_age) as section:
                to_touch = names(section) if callable(names) else names
                if self._workdir.farm is None or not (section.was_edited(to_touch) or self._can_bring_back(section)):
                    yield section
                    return
                self._workdir.read_farm_again()  # what others have just loaded must not pass for an edit
                message = repair(
                    section, self.commands, [h for _, held in self._workdir.owners.all_claims() for h in held]
                )
            if message:
                self._tell(message)

    def _can_bring_back(self, section: Section) -> bool:
        """Whether somebody who had no list found that tasks stand in no file, and we have it."""
        return self.commands is not None and bool(section.farm.get("lost"))
