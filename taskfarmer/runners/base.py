"""What a runner is: task and slot in, Launch out."""

from __future__ import annotations

from taskfarmer.model import Launch, Slot, Task


class Runner:
    """Says how a command is started. Override `launch`; it must be pure and quick, it runs once per attempt."""

    def launch(self, task: Task, slot: Slot) -> Launch:
        """The argv, the additions to the environment and the directory for this task."""
        raise NotImplementedError
