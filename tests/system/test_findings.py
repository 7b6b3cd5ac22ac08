"""The verdict over what was found: a table of what real filesystems answered."""

from __future__ import annotations

import pytest

from taskfarmer.system.findings import (
    NOT_ASKED,
    YES,
    Answer,
    Clock,
    Diagnosis,
    Findings,
    Group,
    Host,
    Trial,
    Verdict,
    judge,
)
from taskfarmer.system.mounts import Mount

pytestmark = pytest.mark.quick

SAFE, SOFT, UNSAFE = Verdict.SAFE, Verdict.SOFT, Verdict.UNSAFE
ALL = Group(YES, YES, YES, YES, YES)
LIE = Trial(Answer.NO, "both of two got it")
LATE = Trial(Answer.NO, "an overwritten file is seen not at all")
TWO = (Host("n1", "boot 1"), Host("n2", "boot 2"))


def refused(name: str) -> Trial:
    return Trial(Answer.REFUSED, name)


def found(
    kind: str = "ext4", here: Group = ALL, between: Group | None = None, options: tuple[str, ...] = (), **others: object
) -> Findings:
    hosts = TWO if between is not None else TWO[:1]
    findings = Findings("/d", Mount(kind, "", options), hosts, here, between, None, (), 0.005, 10**12, 10**9)
    return findings._replace(**others)


def verdict(*args: object, **others: object) -> Verdict:
    return judge(found(*args, **others)).verdict  # type: ignore[arg-type]


#: filesystem; on one host; between hosts; mount options; verdict
SEEN = [
    ("ext4", ALL, None, (), SAFE),
    ("tmpfs", ALL, None, (), SAFE),
    ("nfs4", ALL, ALL, (), SAFE),
    ("fuse", ALL, ALL, (), SAFE),  # MooseFS
    ("fuse", ALL, ALL._replace(soft=refused("malformed claim record")), (), SAFE),  # MooseFS, seldom
    ("fuse.glusterfs", ALL, ALL, (), SAFE),
    ("fuse.glusterfs", ALL, ALL._replace(content=LATE, soft=NOT_ASKED), (), UNSAFE),  # kept caches, its default
    ("fuse.glusterfs", ALL._replace(flock=refused("ENOSYS")), ALL._replace(flock=refused("ENOSYS")), (), SOFT),
    ("nfs", ALL._replace(flock=refused("ENOLCK")), ALL._replace(flock=refused("ENOLCK")), (), SOFT),
    ("nfs", ALL, ALL._replace(flock=LIE), ("nolock",), SOFT),
    ("nfs", ALL, None, ("nolock",), SOFT),
    ("nfs4", ALL, None, ("local_lock=none",), SAFE),
    ("nfs4", ALL, None, ("local_lock=flock",), SOFT),
    ("fuse.sshfs", ALL, None, (), SOFT),
    ("fuse.sshfs", ALL, ALL._replace(flock=LIE), (), SOFT),
    ("fuse.sshfs", ALL._replace(soft=Trial(Answer.HANGS)), ALL._replace(flock=LIE, soft=Trial(Answer.HANGS)), (), UNSAFE),
    ("fuse", ALL, ALL._replace(flock=LIE, content=LATE, soft=NOT_ASKED), (), UNSAFE),  # attributes are kept for 5 s
    ("nfs", ALL._replace(flock=Trial(Answer.HANGS)), None, (), UNSAFE),
    ("vfat", ALL._replace(soft=refused("EPERM")), None, (), SAFE),
    ("vfat", ALL._replace(flock=refused("ENOLCK"), soft=refused("EPERM")), None, (), UNSAFE),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "here", "between", "options", "expected"), SEEN)
def test_the_verdict_over_what_real_filesystems_answered(
    kind: str, here: Group, between: Group | None, options: tuple[str, ...], expected: Verdict
) -> None:
    assert verdict(kind, here, between, options) is expected


@pytest.mark.parametrize("where", ["here", "between"])
@pytest.mark.parametrize("name", ["create", "rename", "content"])
@pytest.mark.parametrize("answer", [Answer.NO, Answer.REFUSED])
def test_no_lock_makes_up_for_what_a_farm_must_have(where: str, name: str, answer: Answer) -> None:
    group = ALL._replace(**{name: Trial(answer)})
    assert verdict("nfs4", **{"between": ALL, where: group}) is UNSAFE


def test_two_hosts_of_one_name_are_unsafe_however_well_the_locks_work() -> None:
    twins = (Host("localhost", "boot 1"), Host("localhost", "boot 2"))
    diagnosis = judge(found("nfs4", between=ALL, hosts=twins))
    assert diagnosis.verdict is UNSAFE
    assert "give each host a name of its own" in diagnosis.advice


def test_a_verdict_that_is_not_safe_says_why_and_what_to_set() -> None:
    lies = judge(found("nfs", between=ALL._replace(flock=LIE), options=("nolock",)))
    assert lies == Diagnosis(
        SOFT,
        ("file locks do not exclude between hosts: both of two got it",),
        (
            "or have it mounted without nolock",
            "give --lock soft when a farm is started here for the first time; it is kept in its farm.json",
        ),
    )
    stale = judge(found("fuse.glusterfs", between=ALL._replace(content=LATE)))
    assert len(stale.reasons) == 1
    assert stale.advice[0] == "mount it with -o fopen-keep-cache=off,attribute-timeout=0,entry-timeout=0"
    for _, here, between, _, expected in SEEN:
        if expected is not SAFE:
            diagnosis = judge(found("fuse", here, between, ("nolock",)))
            assert diagnosis.reasons or between is None
            assert diagnosis.advice


def test_on_one_host_a_shared_filesystem_sends_one_to_the_others() -> None:
    assert any("several hosts" in advice for advice in judge(found("nfs4")).advice)
    assert judge(found("nfs4", between=ALL)).advice == ()


def test_little_room_and_clocks_that_differ_are_told_and_change_nothing() -> None:
    diagnosis = judge(
        found("nfs4", between=ALL, free_bytes=1000, free_files=7, clocks=(Clock("n2", -90.0, 0.01), Clock("n3", 2, 2)))
    )
    assert diagnosis.verdict is SAFE
    assert len(diagnosis.advice) == 3
    assert "n2" in diagnosis.advice[2]
