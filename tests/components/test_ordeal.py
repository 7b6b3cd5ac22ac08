"""The campaign of filesystems: what a farm of two hosts goes through on each of them (ordeal.py) loses and doubles nothing.

Where `doctor` says that the filesystem is not safe as it is, the second host does not begin, or no host does; with soft
locks, if it says so, everything holds again.
"""

from __future__ import annotations

import ordeal
import pytest

pytestmark = pytest.mark.campaign

SAFE = [
    "ext4",
    "tmpfs",
    "flakyfs",
    "flakyfs cache=2",
    "GlusterFS",
    "GlusterFS by default",
    "MooseFS, SESSION_SUSTAIN_TIME = 60",
    "NFS 4.2",
]
#: Of a host that has lost its power they keep the locks: MooseFS for a day, NFS 3 until it has booted again.
UNFORGETTING = ["MooseFS", "NFS 3", "NFS 3, two clients of one name"]
LYING = ["flakyfs locks=local", "NFS 3, nolock"]
WITHOUT_LOCKS = [
    "flakyfs locks=ENOLCK",
    "flakyfs locks=ENOSYS",
    "GlusterFS without locks",
    "NFS 3 without a lock daemon",
]


def row_of(name: str) -> ordeal.Row:
    """What came of it, which the log shows as it stands in the docs."""
    if why := ordeal.missing(name):
        pytest.skip(why)
    row = ordeal.go_through(name)
    print(row.as_line())
    return row


def assert_nothing_went_wrong(row: ordeal.Row) -> None:
    assert (row.lost, row.doubled, row.wrong) == ([], [], [])
    assert row.after_power is not None


@pytest.mark.parametrize("name", SAFE)
def test_what_doctor_calls_safe_is_safe(name: str) -> None:
    row = row_of(name)
    assert (row.verdict, row.refused) == ("safe", "")
    assert_nothing_went_wrong(row)
    assert name != "NFS 4.2" or row.after_cut is not None, "its locks are free once the lease is over"


@pytest.mark.parametrize("name", UNFORGETTING)
def test_what_keeps_the_locks_of_a_host_without_power_is_safe(name: str) -> None:
    """Nobody takes over, and nothing is lost or doubled."""
    row = row_of(name)
    assert (row.verdict, row.refused, row.lost, row.doubled, row.after_power) == ("safe", "", [], [], None)


@pytest.mark.parametrize("name", LYING)
def test_where_locks_lie_the_second_host_refuses_and_soft_ones_are_safe(name: str) -> None:
    row = row_of(name)
    assert row.verdict == "safe with --lock soft"
    assert "do not exclude between n2 and n1" in row.refused
    assert_nothing_went_wrong(row)


@pytest.mark.parametrize("name", WITHOUT_LOCKS)
def test_where_there_are_no_locks_every_host_refuses_and_soft_ones_are_safe(name: str) -> None:
    row = row_of(name)
    assert row.verdict == "safe with --lock soft"
    assert "use --lock soft" in row.refused
    assert_nothing_went_wrong(row)


@pytest.mark.parametrize("name", ["sshfs", "NFS 4.2, two clients of one name"])
def test_where_nothing_excludes_the_second_host_refuses(name: str) -> None:
    row = row_of(name)
    assert row.verdict == "unsafe" and row.refused
    assert (row.lost, row.doubled) == ([], [])
