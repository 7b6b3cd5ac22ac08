"""The folder of a farm: making it, and refusing one that holds somebody else's things or is not ours to write."""

from __future__ import annotations

import errno
import os

from taskfarmer.errors import DiskError, StateError, UsageError
from taskfarmer.stores.lines import STATE_FILES, parse_farm
from taskfarmer.system import files

FOLDERS = ("running", "logs")


def check_places(path: str) -> None:
    """Refuse a folder that holds somebody else's things, before anything is made in it."""
    for name in (*STATE_FILES, "sizes", "journal", "farm.json", "lock"):
        if os.path.isdir(os.path.join(path, name)):
            raise StateError(f"{path}/{name}: a file is wanted, found a folder. Use another --workdir")
    for name in FOLDERS:
        place = os.path.join(path, name)
        if os.path.lexists(place) and not os.path.isdir(place):
            raise StateError(f"{path}/{name}: a folder is wanted, found a file. Use another --workdir")
    try:
        parse_farm(os.path.join(path, "farm.json"), files.read_file(os.path.join(path, "farm.json")) or b"")
    except OSError:
        pass  # not there, or not ours to read: whoever opens it for writing says so


def check_rights(path: str, advice: str = "Use a --workdir you can write to, or make this one with --shared") -> None:
    """Refuse a workdir in which something is not ours to write: to find that out later would be in the middle."""
    for name in ("farm.json", "lock", *STATE_FILES, "sizes", "timeline.json"):
        try:
            os.close(os.open(os.path.join(path, name), os.O_RDWR | os.O_CLOEXEC))
        except PermissionError as error:
            raise _not_ours(path, name, advice) from error
        except OSError:
            pass  # not there, or worse: whoever needs it says so
    for name in ("", *FOLDERS):
        place = os.path.join(path, name)
        is_ours = not os.path.isdir(place) or os.access(place, os.W_OK | os.X_OK)
        if not is_ours and not os.statvfs(place).f_flag & os.ST_RDONLY:  # of such a disk somebody else will tell
            raise _not_ours(path, name, advice)


def _not_ours(path: str, name: str, advice: str) -> UsageError:
    place = os.path.join(path, name) if name and os.access(path, os.X_OK) else path
    return UsageError(f"{place} belongs to {files.owner_of(place)}: Permission denied. {advice}")


def make_workdir(path: str, shared: bool) -> None:
    """The folder with those in it. `shared`: for a group that works together."""
    try:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise UsageError(f"{path}: a folder is wanted for the workdir, found a file. Use another --workdir")
        parent = os.path.dirname(os.path.abspath(path))
        os.makedirs(parent, exist_ok=True)
        is_new = not files.read_file(os.path.join(path, "farm.json"))
        # A group that works together has such folders. (A mere setgid bit is inherited by each user's own folders.)
        shared = shared or (is_new and os.stat(parent).st_mode & 0o2020 == 0o2020)
        if not os.path.isdir(path):
            files.make_folder_with(path, FOLDERS, shared)
        files.make_folder(path, shared)
        shared = bool(os.stat(path).st_mode & 0o020)
        for name in FOLDERS:
            files.make_folder(os.path.join(path, name), shared)
    except OSError as error:
        sentence = f"{path}: the workdir cannot be made here: {error.strerror}"
        if error.errno in files.DISK_TROUBLE and error.errno != errno.EROFS:
            raise DiskError(sentence) from error
        raise UsageError(f"{sentence}. Use --workdir DIR") from error
