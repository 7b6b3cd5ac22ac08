"""flakyfs.py BACKING MOUNT [NAME=VALUE ...]: a filesystem on top of the folder BACKING, as bad as real ones are.

    locks=pass      file locks are those of the backing file: two mounts of one BACKING exclude each other (default)
    locks=local     each mount has file locks of its own, as sshfs and NFS with nolock: both of two get it
    locks=ENOLCK    or any other errno: file locks are refused with it
    cache=SECONDS   the kernel remembers names, missing names and attributes for so long, as NFS clients do (default 0)

Two mounts of one BACKING are two hosts.
"""

from __future__ import annotations

import errno
import sys
from typing import Any

from mfusepy import FuseOSError
from mirrorfs import LockingMirrorFS, MirrorFS, mount


class WithoutLocks(LockingMirrorFS):
    """Locks are refused."""

    refusal = 0

    def flock(self, path: str, info: Any, operation: int) -> int:
        raise FuseOSError(self.refusal)


def main() -> None:
    backing, point = sys.argv[1:3]
    options = dict(word.split("=", 1) for word in sys.argv[3:])
    locks = options.pop("locks", "pass")
    cache = float(options.pop("cache", 0))
    assert not options, options
    mount(with_locks(locks)(backing), point, "flakyfs", cache)


def with_locks(locks: str) -> type[MirrorFS]:
    """Of which kind a filesystem with such locks is."""
    if locks in ("pass", "local"):
        return LockingMirrorFS if locks == "pass" else MirrorFS
    WithoutLocks.refusal = getattr(errno, locks)
    return WithoutLocks


if __name__ == "__main__":
    main()
