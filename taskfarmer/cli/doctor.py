"""`doctor DIR`: what the filesystem of a folder is worth to a farm."""

from __future__ import annotations

import os
import re
import shlex
from argparse import Namespace
from typing import Any, Sequence

from taskfarmer import api
from taskfarmer.cli import PROGRAM, flags, streams
from taskfarmer.errors import UsageError
from taskfarmer.farm.doctor import DoctorOptions, step_options
from taskfarmer.settings.units import format_size
from taskfarmer.system.findings import Answer, Delays, Diagnosis, Findings, Group, Trial, Verdict

_STATUS = {Verdict.SAFE: 0, Verdict.SOFT: 1, Verdict.UNSAFE: 2}
_QUESTIONS = {
    "flock": "file locks exclude",
    "soft": "soft locks exclude",
    "create": "of those who create a name, one succeeds",
    "rename": "a file that is replaced is always whole",
    "content": "what was written is read at once",
}
_WIDTH = 44


def main(words: Sequence[str]) -> int:
    """Print it; 0 safe, 1 safe with --lock soft, 2 unsafe."""
    args = flags.parse_doctor(words)
    options = _options(args)
    if options is None:
        return 0  # another process of this step speaks for this host

    def say_waiting(host: str, missing: int) -> None:
        others = "1 more host" if missing == 1 else f"{missing} more hosts"
        streams.complain(f"{host}: waiting for {others}: {_same_line(args, options)}")

    result = api.doctor(args.folder, options, say_waiting)
    if args.json:
        if result.found is not None:
            streams.say(_json(result.found, result.diagnosis))
    elif result.found is None:
        streams.say(f"{result.told_by} says: {result.diagnosis.verdict.value}")
    else:
        streams.say(_text(result.found, result.diagnosis))
    return _STATUS[result.diagnosis.verdict]


def _options(args: Namespace) -> DoctorOptions | None:
    if args.token is None and args.hosts is not None:
        raise UsageError("--hosts goes with --token")
    if args.token is None:
        return step_options(os.environ, args.wait)
    if not re.fullmatch(r"\w[\w.-]*", args.token, re.ASCII):
        raise UsageError(f"--token: letters, digits, dots and dashes are wanted, found {args.token!r}")
    return DoctorOptions(args.token, args.hosts or 2, args.wait)


def _same_line(args: Namespace, options: DoctorOptions) -> str:
    hosts = f" --hosts {options.hosts}" if options.hosts > 2 else ""
    return f"{PROGRAM} doctor {shlex.quote(args.folder)} --token {options.token}{hosts}"


def _text(found: Findings, diagnosis: Diagnosis) -> str:
    lines = [f"{found.folder}: {_filesystem(found)}, asked by {_who(found)}"]
    if found.between_hosts is not None:
        lines.append(f"{'':{_WIDTH}}  {'on one host':16}  between hosts")
    lines += _answers(found.one_host, found.between_hosts)
    lines += _figures(found)
    lines.append(_verdict(found, diagnosis))
    lines += [f"    because {reason}" for reason in diagnosis.reasons]
    lines += [f"    {advice}" for advice in diagnosis.advice]
    return "\n".join(lines)


def _filesystem(found: Findings) -> str:
    mount = found.mount
    return f"{mount.kind or 'unknown'} from {mount.source}" if mount.source else mount.kind or "unknown"


def _who(found: Findings) -> str:
    names = [host.name for host in found.hosts]
    return f"two processes of {names[0]}" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _answers(here: Group, between: Group | None) -> list[str]:
    lines = []
    for name, question in _QUESTIONS.items():
        columns = [_answer(getattr(group, name)) for group in (here, between) if group is not None]
        lines.append(f"  {question:{_WIDTH - 2}}  " + "  ".join(f"{column:16}" for column in columns).rstrip())
    return lines


def _answer(trial: Trial) -> str:
    return f"{trial.answer.value}: {trial.note}" if trial.answer is Answer.REFUSED else trial.answer.value


def _figures(found: Findings) -> list[str]:
    lines = []
    if found.exchange is not None:
        lines.append(("an exchange takes", f"{found.exchange * 1000:.1f} ms"))
    if found.delays is not None:
        lines.append(("stat on another host tells of", _delays(found.delays)))
    for clock in found.clocks:
        ahead = f"{clock.ahead:+.2f} s, give or take {clock.within:.2f} s"
        lines.append((f"the clock of {clock.host}, beside {found.hosts[0].name}'s", ahead))
    files = "" if found.free_files is None else f", {found.free_files} files"
    lines.append(("room for", f"{format_size(found.free_bytes)}{files}"))
    return [f"  {name:{_WIDTH - 2}}  {value}" for name, value in lines]


def _delays(delays: Delays) -> str:
    words = (("a new name", delays.name), ("a new size", delays.size), ("a removal", delays.removal))
    return ", ".join(f"{what} {_after(seconds)}" for what, seconds in words)


def _after(seconds: float | None) -> str:
    if seconds is None:
        return "not within a minute"
    return "at once" if seconds < 0.1 else f"after {seconds:.1f} s"


def _verdict(found: Findings, diagnosis: Diagnosis) -> str:
    if found.between_hosts is None and diagnosis.verdict is Verdict.SAFE:
        return f"safe for farmers on {found.hosts[0].name}"
    return diagnosis.verdict.value


def _json(found: Findings, diagnosis: Diagnosis) -> str:
    import json

    return json.dumps(
        {
            "verdict": diagnosis.verdict.value,
            "reasons": diagnosis.reasons,
            "advice": diagnosis.advice,
            "folder": found.folder,
            "filesystem": found.mount.kind,
            "source": found.mount.source,
            "options": found.mount.options,
            "hosts": [host.name for host in found.hosts],
            "one_host": _group(found.one_host),
            "between_hosts": None if found.between_hosts is None else _group(found.between_hosts),
            "delays": None if found.delays is None else found.delays._asdict(),
            "clocks": [clock._asdict() for clock in found.clocks],
            "exchange_seconds": found.exchange,
            "free_bytes": found.free_bytes,
            "free_files": found.free_files,
        }
    )


def _group(group: Group) -> dict[str, Any]:
    return {
        name: {"answer": trial.answer.value, "note": trial.note} for name, trial in zip(_QUESTIONS, group, strict=True)
    }
