"""`run TASKLIST`: the main job."""

from __future__ import annotations

import shlex
from argparse import Namespace
from typing import Sequence

from taskfarmer import api
from taskfarmer.cli import flags
from taskfarmer.cli.talk import Talk
from taskfarmer.errors import UsageError
from taskfarmer.farm.notices import Requeue, Summary


def main(words: Sequence[str]) -> int:
    """Run, or with --dry-run only say what would be run; return the exit status."""
    args = flags.parse_run(words)
    return run(args.list, args)


def run(tasklist: str, args: Namespace) -> int:
    """Run a tasklist as these flags say."""
    options = flags.run_options(args)
    if args.dry_run:
        return _dry_run(tasklist, options)
    with Talk(tasklist, args.workdir, args.progress, args.verbose, options.logs != "none") as talk:
        summary = api.run(tasklist, options, talk.start, talk.hear, for_good=True)
        talk.end(summary)
    if summary.requeue is Requeue.YES:
        api.requeue()  # the last thing we do: it ends us
    return exit_status(summary)


def exit_status(summary: Summary) -> int:
    """0 all finished; 1 some failed, or --max-failures was reached; 75 start again. (2 is an exception's.)"""
    if summary.stopped and summary.stopped.startswith("--max-failures"):
        return 1
    if summary.gave_up or summary.left or (summary.stopped and summary.interrupted):
        return 75
    return 1 if summary.farm_failed else 0


def _dry_run(tasklist: str, options: api.RunOptions) -> int:
    try:
        for task, argv in api.commands(tasklist, options):
            line = f"{task.id} {shlex.join(argv)}"
            print(line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    except ValueError as error:
        raise UsageError(f"{tasklist}: {error}") from error
    return 0
