"""The bar of a run on a terminal."""

from __future__ import annotations

import time

from taskfarmer.cli import streams, words
from taskfarmer.farm.notices import Progress
from taskfarmer.settings.units import format_time


class Bar:
    """A live bar, made by rich; only a run of more than a second on a terminal loads it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._progress = Progress(
            MofNCompleteColumn(), BarColumn(20), TextColumn("{task.fields[more]}"), TextColumn("{task.fields[since]}"),
            console=self._console, transient=True, auto_refresh=False,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, more="", since="")
        self._progress.start()
        self._shown_at = 0.0

    def show(self, progress: Progress) -> None:
        """Redraw, at most five times a second."""
        now = time.monotonic()
        if now - self._shown_at >= 0.2:
            self._shown_at = now
            done = progress.finished + progress.failed
            total = done + progress.running + progress.left
            since = format_time(progress.seconds)
            self._progress.update(
                self._task, completed=done, total=total, more=words.pace(progress), since=since, refresh=True
            )

    def print(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(streams.showable(text))

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()
