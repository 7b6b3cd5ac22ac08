"""What a farmer is doing, as its workdir shows it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from taskfarmer.stores import journal
from taskfarmer.stores.lines import parse_claims

from .processes import has_open


class Sight(NamedTuple):
    """What a process was doing at the moment it was hit."""

    starting: bool = False
    claims: int = 0
    exchange: str = ""  # "", "not yet written down", or what the record says: "settle", "claim", ...

    def __str__(self) -> str:
        exchange = f", in an exchange ({self.exchange})" if self.exchange else ""
        return f"{'starting up, ' if self.starting else ''}{self.claims} claims{exchange}"


def sight_of(pid: int, workdir: Path, folders: list[Path], starting: bool = False) -> Sight:
    """What a process is doing that has these folders in `running/`."""
    claims = sum(len(parse_claims(_content(folder / "claims"))) for folder in folders)
    return Sight(starting, claims, _exchange(pid, workdir / "journal"))


def _exchange(pid: int, path: Path) -> str:
    if not has_open(pid, path):
        return ""
    _, operations = journal.parse(_content(path))
    return "not yet written down" if operations is None else _what(operations)


def _what(operations: list[journal.Operation]) -> str:
    targets = {operation.target for operation in operations}
    grown = {operation.name for operation in operations if operation.kind is journal.Kind.GROW}
    if "farm.json" in targets:
        return "load"
    if any(o.kind is journal.Kind.REMOVE and o.name.endswith("/claims") for o in operations):
        return "recovery"
    if "failed" in targets or ({"later", "attempts"} <= grown):
        return "retry"
    if grown & {"finished", "failed"}:
        return "settle"
    return "give back" if "toprocess" in grown else "claim"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
