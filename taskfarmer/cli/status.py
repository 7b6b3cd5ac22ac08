"""`status FARM`: how a farm stands."""

from __future__ import annotations

from typing import Sequence

from taskfarmer import api
from taskfarmer.cli import flags, streams
from taskfarmer.cli.words import printable, some_ids
from taskfarmer.model import State

_SHOWN = 10


def main(words: Sequence[str]) -> int:
    """Print it; 0 everything finished, 1 all done and some failed, 75 work is left."""
    args = flags.parse_status(words)
    status = api.status(args.farm, args.workdir)
    streams.say(_json(status) if args.json else _text(status))
    if status.counts[State.TOPROCESS] or status.counts[State.RUNNING]:
        return 75
    return 1 if status.counts[State.FAILED] else 0


def _text(status: api.Status) -> str:
    lines = [status.workdir]
    lines += [f"{state.value:>10} {count:>9}" for state, count in status.counts.items()]
    for task, owner in status.running[:_SHOWN]:
        gone = ", which is gone" if owner in status.gone else ""
        lines.append(f"running  task {task.id} on {owner.host} (pid {owner.pid}{gone})  {printable(task.command, 60)}")
    if len(status.running) > _SHOWN:
        lines.append(f"running  and {len(status.running) - _SHOWN} more")
    if status.gone:
        lines.append("Whoever starts the same line again takes over the tasks of those who are gone.")
    if status.failed:
        lines.append(f"failed: {some_ids([task.id for task in status.failed], status.counts[State.FAILED])}")
    return "\n".join(lines)


def _json(status: api.Status) -> str:
    import json

    return json.dumps(
        {
            "workdir": status.workdir,
            **{state.value: count for state, count in status.counts.items()},
            "running_tasks": [
                {
                    "id": task.id,
                    "command": task.command,
                    "host": owner.host,
                    "pid": owner.pid,
                    "gone": owner in status.gone,
                }
                for task, owner in status.running
            ],
            "failed_tasks": [{"id": task.id, "command": task.command} for task in status.failed],
        }
    )
