"""The flags. Those of the ancestor keep spelling, default and meaning.

`-n` and `-v` may stand without a value: the next word counts as one only if it looks like one, so that `-n list.txt`
means the flag alone and then the list.
"""

from __future__ import annotations

import argparse
from typing import Sequence

from taskfarmer import __version__
from taskfarmer.api import RunOptions
from taskfarmer.errors import UsageError
from taskfarmer.farm.orders import LOGS
from taskfarmer.runners.shell import MODES
from taskfarmer.settings.units import parse_size, parse_time
from taskfarmer.system.lock import KINDS

PROGRAM = "pytaskfarmer.py"
VERBS = ("run", "status", "retry")
PROGRESS = ("auto", "bar", "lines", "none")

_YES_OR_NO = {"0": 0, "1": 1, "2": 2, "true": 1, "false": 0, "yes": 1, "no": 0}
_EVERY_CORE = "every"

_RUN_USAGE = "%(prog)s [run] [flags] TASKLIST"
_RUN_ABOUT = """\
Work through TASKLIST, a file with one shell command per line, in parallel. Start the same
line again, at any time and on as many nodes as you like: they share the work, and what is
finished is not run again. Progress is kept in TASKLIST_workdir.

other commands: %(prog)s status TASKLIST, %(prog)s retry TASKLIST [ID ...]  (each with --help)"""
_RUN_END = """\
times: 90, 90s, 15m, 1h30m, 01:30:00. sizes: 4096, 64k, 10M.
exit status: 0 everything finished; 1 all done, some failed; 2 usage, nothing touched;
75 stopped or work is left, start the same line again."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message} (see {PROGRAM} --help)")


def parse_run(words: Sequence[str]) -> argparse.Namespace:
    """The flags of `run`."""
    parser = _Parser(
        PROGRAM, _RUN_USAGE, _RUN_ABOUT, _RUN_END,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, add_help=False,
    )  # fmt: skip
    parser.add_argument(
        "list", metavar="TASKLIST", help="one command per line; blank lines and lines with # in column 0 are skipped"
    )
    add = parser.add_argument_group("what runs").add_argument
    add(
        "-n",
        "--proc",
        metavar="N",
        type=_slots,
        help="tasks at a time (default 8; -n alone: every core this job may use)",
    )
    add("-w", "--workdir", metavar="DIR", help="where progress and logs are kept (default TASKLIST_workdir)")
    add("-r", "--runner", metavar="NAME", default="default", help="how commands are started")
    add("-t", "--tasklist", metavar="NAME", default="default", dest="handler", help="how the list is read")
    add(
        "--shell",
        choices=MODES,
        default="auto",
        help="auto: plain commands are started directly, others by bash (default)",
    )
    add("--keep-mpi-env", action="store_true", help="let tasks see the farmer's own MPI and Slurm step variables")
    add("--dry-run", action="store_true", help="print what would be started, touch nothing")
    add = parser.add_argument_group("when it ends").add_argument
    add("--timeout", metavar="TIME", type=_time, help="this farmer stops after TIME; what ran is run again next time")
    add("--task-timeout", metavar="TIME", type=_time, help="end a task that takes longer; it counts as failed")
    add(
        "--grace",
        metavar="TIME",
        type=_time,
        default=5.0,
        help="from asking a task to end (TERM) to ending it (KILL) (default 5s)",
    )
    add(
        "--retries",
        metavar="N",
        type=_count,
        default=0,
        help="try a failed task up to N times more, behind the rest (default 0)",
    )
    add("--retry-delay", metavar="TIME", type=_time, default=0.0, help="wait before that")
    add("--max-failures", metavar="N", type=_positive, help="start nothing more after N failed tasks")
    add = parser.add_argument_group("what is kept").add_argument
    add("--logs", choices=LOGS, default="all", help="keep the output of all tasks (default), of failed ones, or none")
    add("--log-limit", metavar="SIZE", type=_size, default=0, help="keep only head and tail of a larger output")
    add("--shared", action="store_true", help="let my group work in this workdir, too")
    add("--replace", action="store_true", help="forget what the workdir knows of another list")
    add("--lock", choices=KINDS, default="flock", help="soft: for filesystems without file locks")
    add("--lock-dir", metavar="DIR", help="where a new farm's lock is kept (default $SCRATCH, else the workdir)")
    add = parser.add_argument_group("what is said").add_argument
    add("--progress", choices=PROGRESS, default="auto", help="bar on a terminal, lines in a batch log (default auto)")
    add(
        "-v",
        "--verbose",
        metavar="LEVEL",
        type=_level,
        default=0,
        help="also say what finishes; -v 2: and where things are",
    )
    _add_general(add)
    # Abbreviations of the ancestor's that people have in their scripts.
    for short, dest in (("--work", "workdir"), ("--run", "runner"), ("--task", "handler")):
        parser.add_argument(short, dest=dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--time", dest="timeout", type=_time, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser.parse_args(_with_values(words))


def run_options(args: argparse.Namespace) -> RunOptions:
    """What the flags mean to the farm."""
    return RunOptions(
        workdir=args.workdir,
        slots=0 if args.proc == _EVERY_CORE else args.proc,
        runner=args.runner,
        tasklist_handler=args.handler,
        timeout=args.timeout or None,  # the ancestor's 0 means none
        task_timeout=args.task_timeout,
        grace=args.grace,
        retries=args.retries,
        retry_delay=args.retry_delay,
        max_failures=args.max_failures,
        shell=args.shell,
        logs=args.logs,
        log_limit=args.log_limit,
        lock=args.lock,
        lock_dir=args.lock_dir,
        shared=args.shared,
        replace=args.replace,
        keep_mpi_env=args.keep_mpi_env,
        tell_finished=args.verbose > 0,
    )


def parse_status(words: Sequence[str]) -> argparse.Namespace:
    """The flags of `status`."""
    parser = _verb_parser("status", "Say how a farm stands: what waits, runs, is finished and has failed.")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(words)


def parse_retry(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of `retry`, and those of `run` that may follow with --run."""
    parser = _verb_parser(
        "retry",
        "Put failed tasks, all or those named, back to be run again. With --run, run them now; the flags of\nrun are allowed then.",
    )
    parser.add_argument("ids", metavar="ID", nargs="*", type=_count, help="a task to retry (default: every failed one)")
    parser.add_argument("--run", action="store_true", help="and run them")
    parser.add_argument("--json", action="store_true", help="for programs")
    args, rest = parser.parse_known_args(words)
    if rest and not args.run:
        parser.error(f"unknown: {' '.join(rest)}")
    return args, rest


def _verb_parser(verb: str, about: str) -> argparse.ArgumentParser:
    parser = _Parser(
        f"{PROGRAM} {verb}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False, add_help=False,
    )  # fmt: skip
    parser.add_argument("farm", metavar="FARM", help="a tasklist that was run, or its workdir")
    parser.add_argument("-w", "--workdir", metavar="DIR", help="the workdir, if it is not FARM_workdir")
    _add_general(parser.add_argument)
    return parser


def _add_general(add) -> None:  # type: ignore[no-untyped-def]
    add("--version", action="version", version=f"pytaskfarmer {__version__}", help="say which version this is")
    add("-h", "--help", action="help", help="say this")


def _with_values(words: Sequence[str]) -> list[str]:
    """Give `-n` and `-v` the value they mean where they stand alone."""
    alone = {"-n": _EVERY_CORE, "--proc": _EVERY_CORE, "-v": "1", "--verbose": "1"}
    out: list[str] = []
    for index, word in enumerate(words):
        out.append(word)
        if word == "--":
            return out + list(words[index + 1 :])
        if word in alone:
            following = words[index + 1] if index + 1 < len(words) else ""
            if not _is_value(following, is_level=alone[word] == "1"):
                out[-1:] = [word, alone[word]]
    return out


def _is_value(word: str, is_level: bool) -> bool:
    if word.lstrip("+-").isdigit():
        return True
    return is_level and word.lower() in _YES_OR_NO


def _slots(text: str) -> int | str:
    if text == _EVERY_CORE:
        return text
    number = _number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1 task at a time is wanted")
    return number


def _level(text: str) -> int:
    return _YES_OR_NO[text.lower()] if text.lower() in _YES_OR_NO else _count(text)


def _count(text: str) -> int:
    number = _number(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text}: a number from 0 is wanted")
    return number


def _positive(text: str) -> int:
    number = _number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: a number from 1 is wanted")
    return number


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _time(text: str) -> float:
    try:
        return parse_time(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
