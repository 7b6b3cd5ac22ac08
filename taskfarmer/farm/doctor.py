"""The examination of a filesystem: who asks what, first each host by itself, then all hosts together.

Everything happens in one folder, `DIR/.pytaskfarmer-doctor-TOKEN`, which is removed at the end. The one who leads
(system/meeting.py) makes the findings and tells the others the verdict.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Callable, Mapping, NamedTuple

from taskfarmer.errors import MeetingError, UsageError
from taskfarmer.farm.trial import seconds_of_an_exchange
from taskfarmer.system import files, probe, process
from taskfarmer.system.findings import Answer, Clock, Diagnosis, Findings, Group, Host, Trial, Verdict, judge
from taskfarmer.system.lock import choose_place
from taskfarmer.system.meeting import Meeting
from taskfarmer.system.mounts import mount_of

Check = Callable[[], None]

_QUIETLY = 5.0  # the others may need a moment longer than we did


class DoctorOptions(NamedTuple):
    """How we meet our like on other hosts: so many hosts that know the same token, `wait` seconds at most."""

    token: str = ""
    hosts: int = 1
    wait: float = 300.0


class Doctor(NamedTuple):
    """What came of it. `found` is None for all but the one who leads, whose host is `told_by`."""

    diagnosis: Diagnosis
    found: Findings | None
    told_by: str


def step_options(environment: Mapping[str, str], wait: float) -> DoctorOptions | None:
    """In a Slurm step of several nodes, its hosts meet; else we ask alone. None: another task of the step speaks for
    this host."""
    if "SLURM_STEP_ID" not in environment or int(environment.get("SLURM_STEP_NUM_NODES", "1")) < 2:
        return DoctorOptions()
    if environment.get("SLURM_LOCALID", "0") != "0":
        return None
    token = f"slurm-{environment.get('SLURM_JOB_ID', '')}.{environment['SLURM_STEP_ID']}"
    return DoctorOptions(token, int(environment["SLURM_STEP_NUM_NODES"]), wait)


class _Local(NamedTuple):
    """What a host found out by itself."""

    host: Host
    group: Group
    exchange: float | None


def examine(folder: str, options: DoctorOptions, check: Check, on_wait: Callable[[str, int], None]) -> Doctor:
    """The verdict over the filesystem of a folder. `on_wait` hears who waits for how many others, if it takes long."""
    _check_folder(folder)
    place = os.path.join(folder, f".pytaskfarmer-doctor-{options.token or process.new_owner()}")
    with Meeting(place, options.hosts, check) as meeting:
        mine = _by_itself(meeting, check)
        meeting.say("local", *_as_words(mine))
        if not meeting.leads:
            return _follow(meeting, options.wait, on_wait)
        locals_ = [mine, *_others(meeting, options.wait, on_wait)]
        _check_hosts([local.host for local in locals_])
        found = _lead(meeting, folder, locals_)
        diagnosis = judge(found)
        meeting.say("verdict", diagnosis.verdict.value, *map(list, diagnosis[1:]))
        return Doctor(diagnosis, found, mine.host.name)


def _check_folder(folder: str) -> None:
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except OSError as error:
        raise UsageError(f"{folder}: a folder is wanted: {error.strerror}") from error
    if not is_folder:
        raise UsageError(f"{folder}: a folder is wanted, found a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        raise UsageError(
            f"{folder}: cannot be written: {'Read-only file system' if read_only else 'Permission denied'}"
        )


def _check_hosts(hosts: list[Host]) -> None:
    if len(set(hosts)) < len(hosts):
        twice = next(host.name for host in hosts if hosts.count(host) > 1)
        raise MeetingError(f"{twice} came twice: start it once on each host")


def _by_itself(meeting: Meeting, check: Check) -> _Local:
    place = meeting.path(f"host_{meeting.seat}")
    files.make_folder(place)
    group = probe.on_one_host(os.path.join(place, "probe"), check)
    kind = next((kind for kind in ("flock", "soft") if getattr(group, kind).answer is Answer.YES), None)
    exchange = None
    if kind and group.flock.answer is not Answer.HANGS:
        exchange = seconds_of_an_exchange(place, kind, check)
    return _Local(probe.this_host(), group, exchange)


def _as_words(local: _Local) -> list[Any]:
    trials = [[trial.answer.value, trial.note] for trial in local.group]
    return [list(local.host), trials, local.exchange]


def _from_words(host: list[str], trials: list[list[str]], exchange: float | None) -> _Local:
    return _Local(Host(*host), Group(*(Trial(Answer(answer), note) for answer, note in trials)), exchange)


def _others(meeting: Meeting, wait: float, on_wait: Callable[[str, int], None]) -> list[_Local]:
    """What the others found out, as they come."""
    missing = [seat for seat in meeting.others if not meeting.spoke(seat, min(_QUIETLY, wait / 2))]
    if missing:
        on_wait(probe.this_host().name, len(missing))
    found: list[_Local] = []
    for seat in meeting.others:
        if not meeting.spoke(seat, wait):
            raise MeetingError(
                f"{len(found) + 1} of {meeting.seats} hosts came within {wait:g} s. "
                "Is DIR the same folder on the others, and the token the same?"
            )
        found.append(_from_words(*meeting.hear(seat, "local")))
        meeting.call(seat, found[-1].host.name)
    meeting.say("gathered", *[local.host.name for local in found])
    return found


def _lead(meeting: Meeting, folder: str, locals_: list[_Local]) -> Findings:
    one_host = worst([local.group for local in locals_])
    between = delays = None
    clocks: tuple[Clock, ...] = ()
    if meeting.seats > 1:
        flock = one_host.flock
        between = probe.together(meeting, None if flock.answer is Answer.YES else flock)
        delays = probe.delays(meeting)
        clocks = tuple(clock._replace(host=local.host.name) for clock, local in zip(probe.clocks(meeting), locals_[1:]))
    exchanges = [local.exchange for local in locals_]
    lock = os.path.dirname(choose_place(folder, None, os.environ.get("SCRATCH")))
    return Findings(
        folder, mount_of(folder), tuple(local.host for local in locals_), one_host, between, delays, clocks,
        None if None in exchanges else max(filter(None, exchanges)), *probe.space(folder),
        "" if lock == os.path.realpath(folder) else lock,
    )  # fmt: skip


def worst(groups: list[Group]) -> Group:
    """Of each answer the worst: the first that is not a yes."""
    return Group(
        *(next((trial for trial in trials if trial.answer is not Answer.YES), trials[0]) for trials in zip(*groups))
    )


def _follow(meeting: Meeting, wait: float, on_wait: Callable[[str, int], None]) -> Doctor:
    if not meeting.spoke(0, min(_QUIETLY, wait / 2)):
        on_wait(probe.this_host().name, 1)
    leader = _from_words(*meeting.hear(0, "local", wait)).host.name
    meeting.call(0, leader)
    meeting.hear(0, "gathered", wait)
    probe.together(meeting)
    probe.delays(meeting)
    probe.clocks(meeting)
    verdict, reasons, advice = meeting.hear(0, "verdict")
    return Doctor(Diagnosis(Verdict(verdict), tuple(reasons), tuple(advice)), None, leader)
