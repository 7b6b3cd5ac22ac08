"""`retry FARM [ID ...]`: failed tasks go back to be run again."""

from __future__ import annotations

import os
from typing import Sequence

from taskfarmer import api
from taskfarmer.cli import flags
from taskfarmer.errors import UsageError


def main(words: Sequence[str]) -> int:
    """Requeue, say how many, and run them if asked."""
    args, run_words = flags.parse_retry(words)
    count = api.retry(args.farm, args.workdir, args.ids or None)
    if args.json:
        import json

        print(json.dumps({"requeued": count}))
    else:
        print(f"{count} failed tasks are to be run again" if count != 1 else "1 failed task is to be run again")
    if args.ids and count < len(set(args.ids)):
        raise UsageError(f"{len(set(args.ids)) - count} of the tasks named have not failed; the others were put back")
    if not args.run:
        return 0
    if os.path.isdir(args.farm):
        raise UsageError(f"--run wants the tasklist, {args.farm} is a workdir; the tasks were put back")
    from taskfarmer.cli import run

    workdir = ["--workdir", args.workdir] if args.workdir else []
    return run.main([args.farm, *workdir, *run_words])
