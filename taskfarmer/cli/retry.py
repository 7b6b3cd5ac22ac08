"""`retry FARM [ID ...]`: failed tasks go back to be run again."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import Sequence

from taskfarmer import api
from taskfarmer.cli import flags, streams
from taskfarmer.errors import UsageError


def main(words: Sequence[str]) -> int:
    """Requeue, say how many, and run them if asked."""
    args = flags.parse_retry(words)
    _check(args)
    count = 0 if args.dry_run else api.retry(args.farm, args.workdir, args.ids or None)
    if args.json:
        import json

        streams.say(json.dumps({"requeued": count}))
    elif not args.dry_run:
        streams.say(_said(count))
    if not args.run:
        return 0
    from taskfarmer.cli import run

    return run.run(args.farm, args)


def _check(args: Namespace) -> None:
    """Refuse what cannot be done before anything is."""
    if args.run and os.path.isdir(args.farm):
        raise UsageError(f"--run: a tasklist is wanted, {args.farm} is a folder; nothing was put back")
    if args.requeue:
        api.check_requeue()
    if args.ids:
        failed = {task.id for task in api.status(args.farm, args.workdir, sys.maxsize).failed}
        others = sorted(set(args.ids) - failed)
        if others:
            which = f"task {others[0]} has" if len(others) == 1 else f"tasks {', '.join(map(str, others))} have"
            raise UsageError(f"{which} not failed; nothing was put back")


def _said(count: int) -> str:
    if count == 0:
        return "no task has failed: nothing is put back"
    return "1 failed task is to be run again" if count == 1 else f"{count} failed tasks are to be run again"
