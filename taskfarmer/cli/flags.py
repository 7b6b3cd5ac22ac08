"""The flags. Those of the ancestor keep spelling, default and meaning."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from typing import Sequence

from taskfarmer import __version__
from taskfarmer.api import RunOptions, here
from taskfarmer.cli import PROGRAM, mistyped, values
from taskfarmer.errors import UsageError
from taskfarmer.farm.orders import LOGS
from taskfarmer.runners.shell import MODES
from taskfarmer.stores.owners import DEAD_AFTER
from taskfarmer.system.lock import KINDS

PROGRESS = ("auto", "bar", "lines", "none")


_RUN_USAGE = "%(prog)s [run] [flags] TASKLIST"
_RUN_ABOUT = """\
Work through TASKLIST, a file with one shell command per line, several at a time. Start the
same line again whenever you like: what is finished is not run again, and farmers that run at
the same time share the work. Progress and logs are kept in TASKLIST_workdir.

other commands (each with --help):
  %(prog)s status TASKLIST          how far it is
  %(prog)s retry TASKLIST [ID ...]  put failed tasks back to be run again
  %(prog)s doctor DIR               is the filesystem of DIR safe?
  %(prog)s runners, tasklists       what --runner and --tasklist can name"""
_RETRY_ABOUT = """\
Put failed tasks, all or those named, back to be run again. With --run, run them now: all flags
of `run` may be given then."""
_END = """\
times: 90, 90s, 15m, 1h30m, 01:30:00. sizes: 4096, 64k, 10M.

exit status: 0 everything finished; 1 all done, some failed; 2 cannot start, nothing touched;
75 stopped, or work is left: start the same line again."""
_STATUS_ABOUT = "Say how a farm stands: what waits, runs, is finished and has failed."
_DOCTOR_ABOUT = """\
Find out whether the filesystem of DIR is safe for a farm, by trying: do locks exclude, is a
name created once, is what was written seen. Nothing is left behind in DIR.

Alone it asks for farmers on this host. For several hosts, start it on each of them at once:
  srun -N2 %(prog)s DIR        in a Slurm job
  %(prog)s DIR --token WORD    by hand: one new WORD for all"""
_DOCTOR_END = "exit status: 0 safe; 1 safe with --lock soft; 2 unsafe, or it could not be found out."
_DEFINITIONS_ABOUT = """\
Say which %s are defined, where, and with which options. A definition is a section
of an INI file. A later one of the same name wins: the package's,
~/.pytaskfarmer/{runners.d,tasklists.d}/*.ini, ./*.ini, --config FILE."""
_DEFINED = {"runner": "runners", "tasklist": "tasklist handlers"}
_DEFINITIONS_SAMPLE = {
    "runner": """\
A file lab.ini in this directory, and `%(prog)s --runner lab TASKLIST`:
  [lab]
  Runner = taskfarmer.runners.BasicRunner
  modules = gcc/13
docs/environment.md has more of them.""",
    "tasklist": """\
Where the lines of LIST are files, a file count.ini in this directory, and `%(prog)s -t count LIST`:
  [count]
  TaskList = taskfarmer.tasklists.TemplateTaskList
  command = wc -w < {line} > {stem}.words
TableTaskList reads a table, SweepTaskList makes every combination of some values: docs/lists.md.""",
}
_DEFINITIONS_END = "exit status: 0; 2 when a NAME is not there, or with --check when one cannot be built."
_STATUS_END = "exit status: 0 everything finished; 1 all done, some failed; 2 no farm there; 75 work is left."


def _formatter(prog: str) -> argparse.HelpFormatter:
    # With a width of our own: argparse makes a formatter for each flag and would ask the terminal each time.
    return _Formatter(prog, max_help_position=28 if width() >= 60 else 8, width=width())


class _Formatter(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Sentences are wrapped; lines that begin with blanks stay as they are."""
        import textwrap

        filled: list[str] = []
        sentences: list[str] = []
        for line in [*text.splitlines(), ""]:
            if line and line[0] != " ":
                sentences.append(line)
                continue
            if sentences:
                filled.append(textwrap.fill(" ".join(sentences), width, break_on_hyphens=False))
                sentences = []
            filled.append(line)
        return "\n".join(filled[:-1])


@functools.lru_cache(maxsize=1)
def width() -> int:
    """How many columns there are for what we print: those of the terminal, or 98."""
    try:
        return max(40, os.get_terminal_size(sys.stdout.fileno()).columns - 2)
    except (OSError, ValueError):
        return 98


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{mistyped.plain(message)} (see {self.prog} --help)")


def parse_run(words: Sequence[str]) -> argparse.Namespace:
    """The flags of `run`."""
    parser = _Parser(
        PROGRAM, _RUN_USAGE, _RUN_ABOUT, _END, formatter_class=_formatter, allow_abbrev=False, add_help=False
    )
    parser.add_argument_group("the list").add_argument(
        "list",
        metavar="TASKLIST",
        nargs="?",
        help="one command per line; blank lines and lines with # in column 0 are skipped",
    )
    _add_run_flags(parser)
    args, rest = parser.parse_known_args(values.with_values(words))
    if rest:
        parser.error(mistyped.unknown_words(rest, parser, f"one TASKLIST is wanted, found {args.list!r} and"))
    mistyped.check_given(args.list, "TASKLIST", parser)
    if not os.path.lexists(args.list) and (meant := mistyped.meant(args.list)):
        parser.error(f"{args.list}: no such file (in {here()}){meant}")
    return args


def parse_status(words: Sequence[str]) -> argparse.Namespace:
    """The flags of `status`."""
    parser = _verb_parser("status", "FARM", _STATUS_ABOUT, _STATUS_END)
    parser.add_argument(
        "-w", "--workdir", metavar="DIR", type=values.place, help="the workdir, if it is not FARM_workdir"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    _add_general(parser.add_argument)
    args, rest = parser.parse_known_args(words)
    if rest:
        parser.error(mistyped.unknown_words(rest, parser, f"one FARM is wanted, found {args.farm!r} and"))
    mistyped.check_given(args.farm, "FARM", parser)
    return args


def parse_retry(words: Sequence[str]) -> argparse.Namespace:
    """The flags of `retry`, and those of `run`, which go with --run."""
    parser = _verb_parser("retry", "FARM [ID ...]", _RETRY_ABOUT, _END)
    parser.add_argument(
        "ids", metavar="ID", nargs="*", type=values.count, help="a task to retry (default: every failed one)"
    )
    parser.add_argument("--run", action="store_true", help="and run them")
    parser.add_argument("--json", action="store_true", help="for programs; not with --run")
    of_run = _add_run_flags(parser, with_run_abbreviation=False)
    args, rest = parser.parse_known_intermixed_args(values.with_values(words))
    if rest:
        parser.error(mistyped.unknown_words(rest, parser, "ids are numbers, found"))
    mistyped.check_given(args.farm, "FARM", parser)
    given = next((action for action in of_run if getattr(args, action.dest) != action.default), None)
    if given and not args.run:
        parser.error(f"{'/'.join(given.option_strings)} goes with --run")
    if args.json and args.run:
        parser.error("--json and --run do not go together")
    return args


def parse_doctor(words: Sequence[str]) -> argparse.Namespace:
    """The flags of `doctor`."""
    parser = _Parser(
        f"{PROGRAM} doctor", "%(prog)s [flags] DIR", _DOCTOR_ABOUT, _DOCTOR_END,
        formatter_class=_formatter, allow_abbrev=False, add_help=False,
    )  # fmt: skip
    parser.add_argument("folder", metavar="DIR", nargs="?", help="a folder that you can write to")
    add = parser.add_argument
    add("--token", metavar="WORD", help="meet those who are given the same WORD on other hosts")
    add(
        "--hosts",
        metavar="N",
        type=functools.partial(values.at_least, 2),
        help="how many hosts are to meet (default 2)",
    )
    add("--wait", metavar="TIME", type=values.time, default=300.0, help="how long to wait for them (default 5m)")
    add("--json", action="store_true", help="for programs")
    _add_general(add)
    args, rest = parser.parse_known_args(words)
    if rest:
        parser.error(mistyped.unknown_words(rest, parser, f"one DIR is wanted, found {args.folder!r} and"))
    mistyped.check_given(args.folder, "DIR", parser)
    return args


def parse_definitions(kind: str, words: Sequence[str]) -> argparse.Namespace:
    """The flags of `runners` and `tasklists`."""
    parser = _Parser(
        f"{PROGRAM} {kind}s", "%(prog)s [flags] [NAME ...]", _about_definitions(kind), _DEFINITIONS_END,
        formatter_class=_formatter, allow_abbrev=False, add_help=False,
    )  # fmt: skip
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="only these, with all their options and what these mean"
    )
    add = parser.add_argument
    add("--check", action="store_true", help="build each, and say what is wrong")
    add("--config", metavar="FILE", type=values.place, action="append", default=[], help="read this INI file, too")
    add("--json", action="store_true", help="for programs")
    _add_general(add)
    args, rest = parser.parse_known_args(words)
    if rest:
        parser.error(mistyped.unknown_words(rest, parser, "names are wanted, found"))
    return args


def _about_definitions(kind: str) -> str:
    about = _DEFINITIONS_ABOUT % _DEFINED[kind]
    return f"{about}\n\n{_DEFINITIONS_SAMPLE[kind] % {'prog': PROGRAM}}"


def _verb_parser(verb: str, words: str, about: str, end: str) -> argparse.ArgumentParser:
    parser = _Parser(
        f"{PROGRAM} {verb}", f"%(prog)s [flags] {words}", about, end,
        formatter_class=_formatter, allow_abbrev=False, add_help=False,
    )  # fmt: skip
    parser.add_argument("farm", metavar="FARM", nargs="?", help="a tasklist that was run, or its workdir")
    return parser


def _add_run_flags(parser: argparse.ArgumentParser, with_run_abbreviation: bool = True) -> list[argparse.Action]:
    """Everything that shapes a run; return the flags that shape nothing else."""
    runs = parser.add_argument_group("what runs")
    add = runs.add_argument
    add(
        "-n",
        "--proc",
        metavar="N",
        type=values.slots,
        help="tasks at a time (default 8; -n alone: every core this job may use)",
    )
    add(
        "-w",
        "--workdir",
        metavar="DIR",
        type=values.place,
        help="where progress and logs are kept (default TASKLIST_workdir)",
    )
    add("-r", "--runner", metavar="NAME", default="default", help="how commands are started (see `runners`)")
    add(
        "-t",
        "--tasklist",
        metavar="NAME",
        default="default",
        dest="handler",
        help="how the list is read (see `tasklists`)",
    )
    add(
        "--config",
        metavar="FILE",
        type=values.place,
        action="append",
        default=[],
        help="an INI file that defines runners or tasklists, beside those that are found",
    )
    add("--overlap", action="store_true", help="with SrunRunner, inside a step: let its steps share what that step has")
    add(
        "--shell",
        metavar="WHEN",
        type=values.one_of(MODES),
        default="auto",
        help="auto: plain commands are started directly, others by bash (default); always; never",
    )
    add("--keep-mpi-env", action="store_true", help="let tasks see the farmer's own MPI and Slurm step variables")
    add("--dry-run", action="store_true", help="print what would be started, touch nothing")
    ends = parser.add_argument_group("when it ends")
    add = ends.add_argument
    add("--timeout", metavar="TIME", type=values.time, help="stop after TIME; tasks cut short are run again next time")
    add(
        "--walltime",
        metavar="TIME",
        type=values.time,
        help="the job ends after TIME (default: what Slurm says); be gone before",
    )
    add(
        "--margin",
        metavar="TIME",
        type=values.time,
        default=60.0,
        help="be gone so long before the job ends (default 1m)",
    )
    add(
        "--expect",
        metavar="TIME",
        type=values.time,
        help="a task takes up to TIME: start none that would not be done before that",
    )
    add("--requeue", action="store_true", help="have Slurm start this job again if its end leaves work undone")
    add("--task-timeout", metavar="TIME", type=values.time, help="end a task that takes longer; it counts as failed")
    add(
        "--grace",
        metavar="TIME",
        type=values.time,
        default=5.0,
        help="from asking a task to end (TERM) to ending it (KILL) (default 5s)",
    )
    add(
        "--retries",
        metavar="N",
        type=values.count,
        default=0,
        help="try a failed task up to N times more, behind the rest (default 0)",
    )
    add(
        "--retry-delay", metavar="TIME", type=values.time, default=0.0, help="wait that long before each of these tries"
    )
    add("--max-failures", metavar="N", type=values.positive, help="start nothing more after N failed tasks")
    add(
        "--no-sick-node-stop",
        dest="sick_node_stop",
        action="store_false",
        help="go on even if everything fails at once here while other hosts do well",
    )
    add(
        "--wait-for-others",
        action="store_true",
        help="stay while any other farmer still runs tasks (default: only those of the same batch job)",
    )
    kept = parser.add_argument_group("what is kept")
    add = kept.add_argument
    add(
        "--logs",
        metavar="WHICH",
        type=values.one_of(LOGS),
        default="all",
        help="keep the output of all tasks (default), of failed ones, or none",
    )
    add("--log-limit", metavar="SIZE", type=values.size, default=0, help="keep only head and tail of a larger output")
    add("--shared", action="store_true", help="let my group work in this workdir, too")
    add("--replace", action="store_true", help="forget what the workdir knows of another list")
    add(
        "--lock",
        metavar="KIND",
        type=values.one_of(KINDS),
        default="flock",
        help="flock (default), or soft for filesystems without file locks",
    )
    add(
        "--dead-after",
        metavar="TIME",
        type=values.silence,
        default=DEAD_AFTER,
        help="take over the tasks of a farmer on another host that has given no sign of life for TIME (default 30s)",
    )
    add(
        "--lock-dir",
        metavar="DIR",
        type=values.place,
        help="where a new farm's lock is kept (default $SCRATCH, else the workdir)",
    )
    said = parser.add_argument_group("what is said")
    add = said.add_argument
    add(
        "--progress",
        metavar="HOW",
        type=values.one_of(PROGRESS),
        default="auto",
        help="bar, lines or none; auto: bar on a terminal, lines in a batch log (default)",
    )
    add(
        "-v",
        "--verbose",
        metavar="LEVEL",
        type=values.level,
        default=0,
        help="also say what finishes; -v 2: and where everything is kept",
    )
    _add_general(add)
    # Abbreviations of the ancestor's that people have in their scripts.
    for short, dest in (("--work", "workdir"), ("--run", "runner"), ("--task", "handler")):
        if short != "--run" or with_run_abbreviation:
            parser.add_argument(short, dest=dest, type=values.place, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--time", dest="timeout", type=values.time, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    actions = [action for group in (runs, ends, kept, said) for action in group._group_actions]
    return [action for action in actions if action.dest not in ("workdir", "version", "help")]


def _add_general(add) -> None:  # type: ignore[no-untyped-def]
    add("--version", action="version", version=f"pytaskfarmer {__version__}", help="say which version this is")
    add("-h", "--help", action="help", help="say this")


def run_options(args: argparse.Namespace) -> RunOptions:
    """What the flags mean to the farm."""
    return RunOptions(
        workdir=args.workdir,
        slots=0 if args.proc == values.EVERY_CORE else args.proc,
        runner=args.runner,
        tasklist_handler=args.handler,
        config=tuple(args.config),
        overlap=args.overlap,
        timeout=args.timeout or None,  # the ancestor's 0 means none
        walltime=args.walltime,
        margin=args.margin,
        expect=args.expect,
        requeue=args.requeue,
        sick_node_stop=args.sick_node_stop,
        dead_after=args.dead_after,
        wait_for_others=args.wait_for_others,
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
