"""`run TASKLIST`: the main job."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from typing import Sequence

from taskfarmer import api
from taskfarmer.cli import PROGRAM, flags, streams
from taskfarmer.cli.talk import Talk
from taskfarmer.errors import UsageError
from taskfarmer.farm.notices import Notice, Requeue, Summary, Trouble
from taskfarmer.model import Launch
from taskfarmer.runners import shell


def main(words: Sequence[str]) -> int:
    """Run, or with --dry-run only say what would be run; return the exit status."""
    args = flags.parse_run(words)
    return run(args.list, args)


def run(tasklist: str, args: Namespace) -> int:
    """Run a tasklist as these flags say."""
    options = flags.run_options(args)
    if args.dry_run:
        return _dry_run(tasklist, options)
    talk = Talk(tasklist, args.workdir, args.progress, args.verbose, options.logs != "none", _definition_flags(args))
    with talk:
        summary = api.run(tasklist, options, talk.start, talk.hear, for_good=True)
        talk.end(summary)
    if summary.requeue is Requeue.YES:
        api.requeue()  # the last thing we do: it ends us
    return exit_status(summary)


def _definition_flags(args: Namespace) -> list[str]:
    chosen = [("--tasklist", args.handler), ("--runner", args.runner)]
    words = [word for flag, name in chosen if name != "default" for word in (flag, name)]
    return words + [word for file in args.config for word in ("--config", file)]


def exit_status(summary: Summary) -> int:
    """0 all finished; 1 some failed, or --max-failures was reached; 75 start again. (2 is an exception's.)"""
    if summary.stopped and summary.stopped.startswith("--max-failures"):
        return 1
    if summary.gave_up or summary.left or (summary.stopped and (summary.interrupted or summary.in_doubt)):
        return 75
    return 1 if summary.farm_failed else 0


def _dry_run(tasklist: str, options: api.RunOptions) -> int:
    def note(notice: Notice) -> None:
        if isinstance(notice, Trouble):
            streams.complain(f"{PROGRAM}: {notice.message}")

    sys.dont_write_bytecode = True  # a user's class would leave a folder beside its INI file
    try:
        for task, launch in api.launches(tasklist, options, note):
            print(streams.showable(f"{task.id} {_as_a_line(launch)}"))
    except ValueError as error:
        raise UsageError(f"{tasklist}: {error}") from error
    return 0


def _as_a_line(launch: Launch) -> str:
    """A launch as a person would type it."""
    directory = f"cd {_as_a_word(launch.cwd)} && " if launch.cwd else ""
    removed = [word for name, value in launch.env.items() if value is None for word in ("-u", name)]
    added = [f"{name}={value}" for name, value in launch.env.items() if value is not None]
    words = ["env", *removed, *added] if launch.env else []
    return directory + " ".join(map(_as_a_word, [*words, *map(shell.for_eyes, launch.argv)]))


def _as_a_word(text: str) -> str:
    """Quoted for bash, and for eyes: "it's" rather than 'it'"'"'s'; $'\\n' for what could upset a terminal, or a line."""
    if not text.replace("\t", "").isprintable():
        return f"$'{''.join(map(_visible, text))}'"
    if "'" in text and not any(character in text for character in '"$`\\!'):
        return f'"{text}"'
    return shlex.quote(text).replace("""'"'"'""", "'\\''")


def _visible(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable() or character == "\t":
        return character
    if character == "\n":
        return "\\n"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
