"""What one host wrote, another opens: it is there at once, also where hosts remember how long a file was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import two_mounts

from taskfarmer.system import files

pytestmark = pytest.mark.components

REMEMBERING = {
    "flakyfs": lambda folder: two_mounts.flakyfs(folder, "cache=2"),
    "glusterfs": two_mounts.glusterfs,
    "sshfs": two_mounts.sshfs,
}
CHANGES = {
    "made": (b"", b"hello"),
    "longer": (b"1\n", b"1\n2\n"),
    "shorter": (b"1\n2\n", b"1\n"),
    "overwritten": (b"one", b"two"),
    "emptied": (b"xyz", b""),
}


def put(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)


def seen(path: Path) -> tuple[int, bytes]:
    """Size and content, as an exchange looks at them."""
    fd = files.open_or_create(str(path))
    try:
        return files.size_of(fd), files.read_all(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_file_is_seen_as_another_host_left_it(tmp_path: Path, name: str) -> None:
    if (why := two_mounts.missing(name)) is not None:
        pytest.skip(why)
    with REMEMBERING[name](tmp_path) as (here, there):
        for change, (before, after) in CHANGES.items():
            put(here / change, before)
            assert seen(there / change) == (len(before), before), change
            put(here / change, after)
            assert seen(there / change) == (len(after), after), change
        for content in (b"old", b"newer"):
            put(here / "new", content)
            os.rename(here / "new", here / "replaced")
            assert seen(there / "replaced") == (len(content), content)


def test_of_two_hosts_that_make_a_folder_at_once_both_can_use_it(tmp_path: Path) -> None:
    if (why := two_mounts.missing("glusterfs")) is not None:
        pytest.skip(why)
    with two_mounts.glusterfs(tmp_path) as mounts:
        for number in range(100):
            folders = [mount / f"folder{number}" for mount in mounts]
            children = [_make(folder) for folder in folders]
            assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
            for folder in folders:
                (folder / "in" / folder.parent.name).touch()
            assert {name for folder in folders for name in os.listdir(folder / "in")} == {"mount_1", "mount_2"}


def _make(folder: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            files.make_folder_with(str(folder), ("in",))
            os._exit(0)
        finally:
            os._exit(1)
    return child
