"""Which filesystem holds a path: what proc(5) `/proc/self/mountinfo` says of it."""

from __future__ import annotations

import os
from typing import NamedTuple


class Mount(NamedTuple):
    """A mounted filesystem: its type ("" if unknown), where it comes from, and the options it was mounted with."""

    kind: str = ""
    source: str = ""
    options: tuple[str, ...] = ()


#: Types that only one host sees.
LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "ramfs", "f2fs", "jfs"))


def mount_of(path: str) -> Mount:
    """The mount that holds `path`."""
    path = os.path.realpath(path)
    best, found = "", Mount()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            point = _plain(before.split()[4])
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                kind, source, options = after.split()[:3]
                own = before.split()[5]
                best, found = point, Mount(kind, _plain(source), tuple(dict.fromkeys(f"{own},{options}".split(","))))
    return found


def _plain(text: str) -> str:
    """Blanks and the like, which mountinfo writes as octal numbers."""
    for code in ("040", "011", "012", "043", "134"):
        text = text.replace("\\" + code, chr(int(code, 8)))
    return text
