"""What `doctor` says of real filesystems, each seen by two hosts: two mounts, two host names."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import two_mounts
from conftest import PROGRAM, on_host

pytestmark = pytest.mark.components


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(two_mounts.missing(name) is not None, reason=str(two_mounts.missing(name)))


def examine(filesystem: AbstractContextManager[two_mounts.Mounts]) -> dict[str, Any]:
    """What two hosts find out together; nothing may be left behind."""
    with filesystem as mounts:
        before = os.listdir(mounts[0])
        asked = [_start(f"n{number}", mount) for number, mount in enumerate(mounts, 1)]
        said = [process.communicate(timeout=240) for process in asked]
        assert [bool(out) for out, _ in said].count(True) == 1, said
        (found,) = [json.loads(out) for out, _ in said if out]
        statuses = {process.returncode for process in asked}
        assert statuses == {["safe", "safe with --lock soft", "unsafe"].index(found["verdict"])}, said
        assert sorted(os.listdir(mounts[0])) == sorted(before)
    assert sorted(found["hosts"]) == ["n1", "n2"]
    return found


def _start(host: str, folder: Path) -> subprocess.Popen[str]:
    words = ["doctor", str(folder), "--token", "T", "--json"]
    return subprocess.Popen(
        [*on_host(host), *PROGRAM, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answers(found: dict[str, Any], where: str = "between_hosts") -> dict[str, str]:
    return {question: trial["answer"] for question, trial in found[where].items()}


@needs("flakyfs")
def test_a_filesystem_without_faults_is_safe(tmp_path: Path) -> None:
    found = examine(two_mounts.flakyfs(tmp_path))
    assert found["verdict"] == "safe"
    assert set(answers(found).values()) == {"yes"}


@needs("flakyfs")
def test_locks_that_lie_are_seen_between_hosts_though_not_on_one(tmp_path: Path) -> None:
    found = examine(two_mounts.flakyfs(tmp_path, "locks=local"))
    assert found["verdict"] == "safe with --lock soft"
    assert answers(found, "one_host")["flock"] == "yes"
    assert answers(found)["flock"] == "no"
    assert answers(found)["soft"] == "yes"


@needs("flakyfs")
@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS"])
def test_locks_that_are_refused_are_named(tmp_path: Path, name: str) -> None:
    found = examine(two_mounts.flakyfs(tmp_path, f"locks={name}"))
    assert found["verdict"] == "safe with --lock soft"
    assert found["one_host"]["flock"] == {"answer": "refused", "note": name}


@needs("flakyfs")
def test_attributes_that_are_remembered_are_measured_and_harm_nobody_who_asks_anew(tmp_path: Path) -> None:
    found = examine(two_mounts.flakyfs(tmp_path, "cache=2"))
    assert found["verdict"] == "safe"
    assert set(answers(found).values()) <= {"yes", "not asked"}, found
    assert all(seconds > 1 for seconds in found["delays"].values())


@pytest.mark.campaign  # now and then its caches outlive our patience with them
@needs("sshfs")
def test_sshfs_is_unsafe(tmp_path: Path) -> None:
    found = examine(two_mounts.sshfs(tmp_path, "dcache_timeout=3"))
    assert found["verdict"] == "unsafe"
    assert answers(found, "one_host")["flock"] == "yes"
    assert answers(found)["flock"] == "no"
    assert found["filesystem"] == "fuse.sshfs"


@needs("glusterfs")
def test_glusterfs_is_safe_once_it_remembers_nothing(tmp_path: Path) -> None:
    found = examine(two_mounts.glusterfs(tmp_path, *two_mounts.FORGETFUL))
    assert found["verdict"] == "safe"
    assert found["filesystem"] == "fuse.glusterfs"


@needs("glusterfs")
def test_glusterfs_as_it_is_mounted_by_default_is_safe_for_who_asks_anew(tmp_path: Path) -> None:
    found = examine(two_mounts.glusterfs(tmp_path))
    assert (found["verdict"], answers(found)["flock"], answers(found)["content"]) == ("safe", "yes", "yes")


@needs("glusterfs")
def test_glusterfs_without_locks_is_safe_with_soft_ones(tmp_path: Path) -> None:
    found = examine(two_mounts.glusterfs(tmp_path, *two_mounts.FORGETFUL, locks=False))
    assert found["verdict"] == "safe with --lock soft"
    assert found["one_host"]["flock"] == {"answer": "refused", "note": "ENOSYS"}


@needs("moosefs")
def test_moosefs_is_safe(tmp_path: Path) -> None:
    found = examine(two_mounts.moosefs(tmp_path))
    assert found["verdict"] == "safe"
