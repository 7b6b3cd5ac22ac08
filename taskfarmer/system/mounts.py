"""Which filesystem holds a path: what proc(5) `/proc/self/mountinfo` says of it."""

from __future__ import annotations

import functools
import os
from typing import Iterator, NamedTuple


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
    for before, (kind, source, options) in _mounts():
        point = _plain(before[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, Mount(kind, _plain(source), tuple(dict.fromkeys(f"{before[5]},{options}".split(","))))
    return found


@functools.lru_cache(maxsize=4096)
def kind_of(folder: str) -> str:
    """The type of the filesystem that a folder is on; "" if unknown. Costs one look at the folder, once."""
    try:
        return _kind_of(os.stat(folder or ".").st_dev)
    except OSError:
        return ""  # who opens a file in it is told


def others_may_see(folder: str) -> bool:
    """Whether other hosts may see what is in a folder."""
    kind = kind_of(folder)
    return kind != "" and kind not in LOCAL


@functools.lru_cache(maxsize=64)
def _kind_of(device: int) -> str:
    number = f"{os.major(device)}:{os.minor(device)}"
    return next((kind for before, (kind, _, _) in _mounts() if before[2] == number), "")


def _mounts() -> Iterator[tuple[list[str], list[str]]]:
    """Of each mount the words before the hyphen, and its type, source and options."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            yield before.split(), after.split()[:3]


def _plain(text: str) -> str:
    """Blanks and the like, which mountinfo writes as octal numbers."""
    for code in ("040", "011", "012", "043", "134"):
        text = text.replace("\\" + code, chr(int(code, 8)))
    return text
