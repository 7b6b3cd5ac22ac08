"""Times and sizes as people write them."""

from __future__ import annotations

import re

from taskfarmer.errors import UsageError

_CLOCK = r"(?:(\d+)-)?(\d+):([0-5]\d)(?::([0-5]\d))?"
_UNITS = r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?"
_SIZE = r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?"
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_time(text: str) -> float:
    """Seconds, from `90`, `90s`, `15m`, `1h30m`, `01:30:00` or Slurm's `2-01:30:00`."""
    clock = re.fullmatch(_CLOCK, text)
    if clock:
        days, hours, minutes, seconds = clock.groups()
        return ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60.0 + int(seconds or 0)
    units = re.fullmatch(_UNITS, text)
    if not text or not units or not any(units.groups()):
        raise UsageError(f"{text!r} is no time: 90, 90s, 15m, 1h30m and 01:30:00 are")
    days, hours, minutes, seconds = (float(part or 0) for part in units.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_size(text: str) -> int:
    """Bytes, from `4096`, `64k`, `10M` or `2GiB` (all powers of 1024)."""
    match = re.fullmatch(_SIZE, text, re.IGNORECASE)
    if not match:
        raise UsageError(f"{text!r} is no size: 4096, 64k, 10M and 2GiB are")
    return int(float(match[1]) * _FACTOR[match[2].lower()])


def format_time(seconds: float) -> str:
    """`0:00:03`, `26:00:00`"""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def format_length(seconds: float) -> str:
    """`40 s`, `4 min`, `1.5 h`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_size(size: int) -> str:
    """`512 B`, `64 kB`, `1.5 GB`: as people read disks, in powers of 1000."""
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
