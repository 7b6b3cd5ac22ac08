"""What was found out about a filesystem, as values, and what it means for a farm: the verdict. Nothing here touches a file.

A farm needs of its filesystem that of several who create a name one succeeds, that a file replaced by `rename` is
always whole, that what was written and closed is read by whoever opens the file afterwards, and that locks exclude:
file locks (`flock`), or else the soft ones, which are made of names.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from taskfarmer.system.mounts import LOCAL, Mount


class Answer(Enum):
    """What a filesystem answered to one question."""

    YES = "yes"
    NO = "no"
    REFUSED = "refused"
    HANGS = "hangs"
    NOT_ASKED = "not asked"


class Trial(NamedTuple):
    """One answer, and what was seen of it: an errno, how many of how many."""

    answer: Answer
    note: str = ""


YES = Trial(Answer.YES)
NOT_ASKED = Trial(Answer.NOT_ASKED)


class Group(NamedTuple):
    """What some processes found out together, all on one host or one on each host.

    `flock` and `soft`: do these locks exclude. `create`: does exactly one of those who create a name succeed. `rename`:
    is a file that is replaced always whole. `content`: is what was written and closed read by who opens it afterwards.
    """

    flock: Trial = NOT_ASKED
    soft: Trial = NOT_ASKED
    create: Trial = NOT_ASKED
    rename: Trial = NOT_ASKED
    content: Trial = NOT_ASKED


class Delays(NamedTuple):
    """Seconds until `stat` on another host tells of a change, at most; None: not within the time we waited."""

    name: float | None
    size: float | None
    removal: float | None


class Host(NamedTuple):
    """A host that took part; `boot` tells two of one name apart."""

    name: str
    boot: str


class Clock(NamedTuple):
    """How many seconds a host's clock is ahead of the first one's, give or take `within`."""

    host: str
    ahead: float
    within: float


class Findings(NamedTuple):
    """Everything `doctor` found out.

    `exchange`: seconds, the median of some, in a farm of its own; None if no lock could be had. `free_files` is None
    where the filesystem does not count them. `lock_elsewhere`: where a new farm's lock would go, if not here.
    """

    folder: str
    mount: Mount
    hosts: tuple[Host, ...]
    one_host: Group
    between_hosts: Group | None
    delays: Delays | None
    clocks: tuple[Clock, ...]
    exchange: float | None
    free_bytes: int
    free_files: int | None
    lock_elsewhere: str = ""


class Verdict(Enum):
    """What a farm may do there."""

    SAFE = "safe"
    SOFT = "safe with --lock soft"
    UNSAFE = "unsafe"


class Diagnosis(NamedTuple):
    """The verdict, why it is not better, and what to set or to do."""

    verdict: Verdict
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


_BROKEN = {
    "create": "two can create the same name",
    "rename": "a file that is replaced is not always there and whole",
    "content": "what was written is not read by who opens the file afterwards",
}
_FEW_FILES = 10_000
_FEW_BYTES = 100 << 20
_SKEWED = 1.0


def judge(found: Findings) -> Diagnosis:
    """The verdict over what was found."""
    verdict, reasons = _verdict(found)
    return Diagnosis(verdict, tuple(reasons), tuple(_advice(found, verdict)))


def _verdict(found: Findings) -> tuple[Verdict, list[str]]:
    broken = [
        f"{sentence} ({where}{_noted(trial)})"
        for where, group in _groups(found)
        for name, sentence in _BROKEN.items()
        if (trial := getattr(group, name)).answer not in (Answer.YES, Answer.NOT_ASKED)
    ]
    if twins := _twins(found.hosts):
        broken.append(f"two hosts have the same name, {twins}")
    flock, soft = ([w for g in _groups(found) if (w := _why_not(kind, *g))] for kind in ("flock", "soft"))
    if not flock and found.between_hosts is None and (option := stays_on_its_host(found.mount)):
        flock = [f"file locks exclude on one host only: {option}"]
    hangs = any(group.flock.answer is Answer.HANGS for _, group in _groups(found))  # presence would hang, too
    if broken or hangs or (flock and soft):
        return Verdict.UNSAFE, broken + flock + ([] if broken else soft)
    return (Verdict.SOFT, flock) if flock else (Verdict.SAFE, [])


def _groups(found: Findings) -> list[tuple[str, Group]]:
    groups = [("on one host", found.one_host)]
    if found.between_hosts is not None:
        groups.append(("between hosts", found.between_hosts))
    return groups


def _why_not(kind: str, where: str, group: Group) -> str:
    """Why this kind of lock will not do, "" if it will."""
    trial: Trial = getattr(group, kind)
    name = "file locks" if kind == "flock" else "soft locks"
    if trial.answer is Answer.NO:
        return f"{name} do not exclude {where}{_noted(trial)}"
    if trial.answer is Answer.REFUSED:
        return f"{name} are refused {where}{_noted(trial)}"
    if trial.answer is Answer.HANGS:
        return f"{name} hang {where}{_noted(trial)}"
    return "" if trial.answer is Answer.YES else f"{name} were not tried {where}"


def _noted(trial: Trial) -> str:
    return f": {trial.note}" if trial.note else ""


def _twins(hosts: tuple[Host, ...]) -> str:
    boots: dict[str, set[str]] = {}
    for host in hosts:
        boots.setdefault(host.name, set()).add(host.boot)
    return next((name for name, found in boots.items() if len(found) > 1), "")


def stays_on_its_host(mount: Mount) -> str:
    """What is known to keep the file locks of a mount from other hosts; "" if nothing is known."""
    if mount.kind.startswith("nfs"):
        for option in ("nolock", "local_lock=all", "local_lock=flock"):
            if option in mount.options:
                return f"mounted with {option}"
    return "this is sshfs" if mount.kind == "fuse.sshfs" else ""


def _advice(found: Findings, verdict: Verdict) -> list[str]:
    advice = []
    if mend := _mend(found):
        advice.append(mend)
    if verdict is Verdict.SOFT:
        advice.append("give --lock soft when a farm is started here for the first time; it is kept in its farm.json")
    if verdict is Verdict.UNSAFE:
        advice.append("put the workdir on another filesystem: --workdir DIR")
    if found.between_hosts is None and verdict is not Verdict.UNSAFE:
        if found.mount.kind in LOCAL:
            advice.append(f"other hosts do not see this filesystem ({found.mount.kind})")
        else:
            advice.append("before farmers on several hosts work here, ask them together: see --help")
    if found.lock_elsewhere:
        advice.append(f"the lock of a new farm here goes to {found.lock_elsewhere}: ask there, too")
    return advice + _warnings(found)


def _mend(found: Findings) -> str:
    """What would mend the mount itself, for those of which we know."""
    mount = found.mount
    stale = any(group.content.answer is Answer.NO for _, group in _groups(found))
    if mount.kind == "fuse.glusterfs" and stale:
        return "mount it with -o fopen-keep-cache=off,attribute-timeout=0,entry-timeout=0"
    if mount.kind.startswith("fuse") and stale:
        return "or have it mounted so that it remembers no attributes (often -o attr_timeout=0)"
    if mount.kind.startswith("nfs") and stale and "nocto" in mount.options:
        return "mount it without nocto"
    if _twins(found.hosts):
        return "give each host a name of its own"
    option = stays_on_its_host(mount)
    return f"or have it mounted without {option.split()[-1]}" if option.startswith("mounted with") else ""


def _warnings(found: Findings) -> list[str]:
    warnings = []
    if found.free_bytes < _FEW_BYTES:
        warnings.append("it is nearly full")
    if found.free_files is not None and found.free_files < _FEW_FILES:
        warnings.append("few more files can be made: --logs failed or none makes fewer")
    for clock in found.clocks:
        if abs(clock.ahead) - clock.within > _SKEWED:
            warnings.append(f"the clock of {clock.host} differs: times in timeline.json will, too (nothing else does)")
    return warnings
