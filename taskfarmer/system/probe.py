"""What a filesystem really does when several processes use it at once: asked by doing it, in a scratch folder.

Each question is a small play in which all of a meeting (system/meeting.py) take part, line by line the same on every
side; who leads collects the answers. A lock call that succeeds proves nothing: on some filesystems both of two get it.
So the locks are also raced for, as a farm does: with the farm's own lock class, around a file that is read and written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext
from multiprocessing.process import BaseProcess
from typing import Callable, Iterator

from taskfarmer.errors import FarmError, Interrupted, LockError, MeetingError
from taskfarmer.system import files, process
from taskfarmer.system.findings import NOT_ASKED, YES, Answer, Clock, Delays, Group, Host, Trial
from taskfarmer.system.lock import FarmLock
from taskfarmer.system.meeting import Meeting

Check = Callable[[], None]

LONGEST_DELAY = 65.0  # a name may be remembered for a minute (nfs(5), acdirmax)
_HANGS_AFTER = 20.0
_FREED_WITHIN = 10.0
_CONTENT_WITHIN = 10.0
_RACE = 0.25
_NAMES = 24
_RENAMES = 40


def this_host() -> Host:
    """This host; the id of its boot tells it from another of the same name."""
    return Host(process.host(), (files.read_file("/proc/sys/kernel/random/boot_id") or b"").decode().strip())


def space(folder: str) -> tuple[int, int | None]:
    """Bytes that are free for us, and files that can be made; None where they are not counted."""
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize, about.f_favail if about.f_files else None


# Among processes of this host


def on_one_host(folder: str, check: Check) -> Group:
    """Ask everything of two processes of this host: this one and a child."""
    files.make_folder(folder)
    flock = _flock_on_one_host(os.path.join(folder, "held"), check)
    place = os.path.join(folder, "meeting")
    childs_check = _unless_orphaned(check)
    with _child(lambda: _play(place, childs_check)) as child, Meeting(place, 2, _unless_dead(child, check)) as meeting:
        meeting.call(1, "the other process")
        meeting.hear(1, "here")
        return together(meeting, flock)


def _play(folder: str, check: Check) -> None:
    while not os.path.exists(os.path.join(folder, "seat_0")):
        check()
        time.sleep(0.002)
    with Meeting(folder, 2, check) as meeting:
        meeting.say("here")
        together(meeting)


def _unless_orphaned(check: Check) -> Check:
    parent = os.getpid()

    def check_both() -> None:
        check()
        if os.getppid() != parent:
            raise Interrupted("the process that asked is gone")

    return check_both


def _unless_dead(child: BaseProcess, check: Check) -> Check:
    def check_both() -> None:
        check()
        if child.exitcode:
            raise MeetingError(f"the other process on this host has died (exit {child.exitcode})")

    return check_both


@contextmanager
def _child(play: Callable[[], None]) -> Iterator[BaseProcess]:
    """A process that plays a part beside this one, and ends with it."""
    child = ForkContext().Process(target=_quietly, args=(play,))
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join(5.0)  # in state D, its disk hangs, not even then


def _quietly(play: Callable[[], None]) -> None:
    try:
        play()
    except (FarmError, OSError):
        sys.exit(1)  # it has told the other one why, who tells the user


def _flock_on_one_host(path: str, check: Check) -> Trial:
    """A child takes the lock, so that one whose call never returns can be given up; then it is killed while it holds it."""
    os.close(files.open_or_create(path))
    near, far = ForkContext().Pipe()
    with _child(lambda: _hold(path, far)) as child:
        patience = time.monotonic() + _HANGS_AFTER
        while not near.poll(0.05):
            check()
            if time.monotonic() > patience:
                return Trial(Answer.HANGS, f"no answer within {_HANGS_AFTER:g} s")
        if refusal := near.recv():
            return Trial(Answer.REFUSED, refusal)
        if _try_flock(path, fcntl.LOCK_EX) != "busy" or _try_flock(path, fcntl.LOCK_SH) != "busy":
            return Trial(Answer.NO, "both of two got it")
        child.kill()
        child.join()
        patience = time.monotonic() + _FREED_WITHIN
        while _try_flock(path, fcntl.LOCK_EX) == "busy":
            check()
            if time.monotonic() > patience:
                return Trial(Answer.NO, f"still held {_FREED_WITHIN:g} s after its holder was killed")
            time.sleep(0.01)
    return YES


def _hold(path: str, line: Connection) -> None:
    try:
        fcntl.flock(os.open(path, os.O_RDWR | os.O_CLOEXEC), fcntl.LOCK_EX | fcntl.LOCK_NB)
        line.send("")
    except OSError as error:
        line.send(_errno(error))
    line.poll(None)


def _try_flock(path: str, kind: int) -> str:
    """`busy`, `got` (and given back), or the errno."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return "busy"
    except OSError as error:
        return _errno(error)
    finally:
        os.close(fd)
    return "got"


def _errno(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


# Together


def together(meeting: Meeting, flock: Trial | None = None) -> Group:
    """Everybody at the meeting asks everything; the answers are the leader's.

    `flock` is the leader's: the answer if it is known already. Locks that do not exclude are not raced for.
    """
    create, rename, content = _create(meeting), _rename(meeting), _content(meeting)
    if _agree(meeting, flock is None):
        flock = _flock(meeting)
    flock = flock or NOT_ASKED
    soft = NOT_ASKED
    # Where content is seen late, counts are lost however well the locks work.
    if _agree(meeting, content.answer is Answer.YES):
        if _agree(meeting, flock.answer is Answer.YES):
            flock = _race(meeting, "flock")
        soft = _race(meeting, "soft")
    return Group(flock, soft, create, rename, content)


def _agree(meeting: Meeting, yes: bool) -> bool:
    """The leader decides what is asked next."""
    if meeting.leads:
        meeting.say("next", yes)
        return yes
    (yes,) = meeting.hear(0, "next")
    return yes


def _create(meeting: Meeting) -> Trial:
    """Everybody makes the same names, from both ends, so that they meet: each name must be made once."""
    if meeting.leads:
        meeting.say("create")
    else:
        meeting.hear(0, "create")
    order = range(_NAMES) if meeting.seat % 2 else range(_NAMES - 1, -1, -1)
    made = [number for number in order if _make(meeting.path(f"once_{number}"))]
    if not meeting.leads:
        meeting.say("created", made)
        return NOT_ASKED
    all_made = made + [number for (theirs,) in meeting.hear_all("created") for number in theirs]
    if len(all_made) == _NAMES and len(set(all_made)) == _NAMES:
        return YES
    twice = len(all_made) - len(set(all_made))
    return Trial(Answer.NO, f"{twice} of {_NAMES} names were made twice, {_NAMES - len(set(all_made))} by nobody")


def _make(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        return False
    return True


def _rename(meeting: Meeting) -> Trial:
    """The leader puts new files in the place of one that the others read: it must always be there, and whole."""
    path = meeting.path("replaced")
    if not meeting.leads:
        meeting.hear(0, "replacing")
        meeting.say("reading")
        meeting.say("read", _read_replaced(path, meeting))
        return NOT_ASKED
    _replace(path, 0)
    meeting.say("replacing")
    meeting.hear_all("reading")
    for number in range(1, _RENAMES + 1):
        _replace(path, number)
        time.sleep(0.002)
    complaints = [complaint for (complaint,) in meeting.hear_all("read") if complaint]
    return Trial(Answer.NO, complaints[0]) if complaints else YES


def _replace(path: str, number: int) -> None:
    fd = files.open_or_create(path + ".new", extra=os.O_TRUNC)
    try:
        files.write_all(fd, b"%06d\n" % number * 1000, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(path + ".new", path)


def _read_replaced(path: str, meeting: Meeting) -> str:
    newest = -1
    patience = time.monotonic() + _FREED_WITHIN
    while newest < _RENAMES:
        meeting.check()
        try:
            content = files.read_file(path)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            content = None  # that file is gone; its name stands for a new one
        words = [] if content is None else content.split()
        # Some find nothing for a moment. The farm looks only while nobody changes names.
        if content is not None and (len(words) != 1000 or len(set(words)) != 1):
            return "a part of it was missing or old"
        if words and int(words[0]) > newest:
            newest = int(words[0])
            patience = time.monotonic() + _FREED_WITHIN
        elif time.monotonic() > patience:
            return f"a new one was not seen within {_FREED_WITHIN:g} s"
        time.sleep(0.001)
    return ""


_WAYS = {
    "overwritten": (b"one\n", b"two\n", b"six\n"),
    "longer": (b"1\n", b"1\n2\n", b"1\n2\n3\n"),
    "shorter": (b"1\n2\n3\n", b"1\n2\n", b"1\n"),
}


def _content(meeting: Meeting) -> Trial:
    """The leader writes and closes, says so, and the others open and read: they must read what was written."""
    late = [complaint for way in _WAYS if (complaint := _content_of(meeting, way))]
    return Trial(Answer.NO, "; ".join(late)) if late else YES


def _content_of(meeting: Meeting, way: str) -> str:
    path = meeting.path(way)
    worst: float | None = 0.0
    for text in _WAYS[way]:
        if meeting.leads:
            _overwrite(path, text)
            meeting.say("wrote", way)
            delays = [delay for (delay,) in meeting.hear_all("read")]
            worst = None if worst is None or None in delays else max(worst, *delays)
            meeting.say("enough", worst is None)
            if worst is None:
                break
        else:
            meeting.hear(0, "wrote")
            meeting.say("read", _seconds_until(partial(_is_seen, path, text), _CONTENT_WITHIN, meeting.check))
            (is_enough,) = meeting.hear(0, "enough")
            if is_enough:
                break
    if worst == 0.0:
        return ""
    file = "an overwritten file" if way == "overwritten" else f"a file that became {way}"
    return f"{file} is seen {'not at all' if worst is None else f'{worst:.1f} s late'}"


def _is_seen(path: str, text: bytes) -> bool:
    """Whether the farm's own ways of looking at a file see this."""
    try:
        fd = files.fresh(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return files.size_of(fd) == len(text) and files.read_all(fd) == text
    finally:
        os.close(fd)


def _overwrite(path: str, text: bytes) -> None:
    fd = files.open_or_create(path)
    try:
        files.write_all(fd, text, 0)
        os.ftruncate(fd, len(text))
    finally:
        os.close(fd)


def _seconds_until(is_seen: Callable[[], bool], patience: float, check: Check) -> float | None:
    """0.0 if it is seen at the first look."""
    began = time.monotonic()
    if is_seen():
        return 0.0
    while time.monotonic() - began < patience:
        check()
        time.sleep(0.02)
        if is_seen():
            return time.monotonic() - began
    return None


def _flock(meeting: Meeting) -> Trial:
    """The leader holds the lock, alone and shared, and the others try it; then each of them must get it."""
    path = meeting.path("held")
    if not meeting.leads:
        meeting.hear(0, "held")
        meeting.say("tried", _try_flock(path, fcntl.LOCK_EX), _try_flock(path, fcntl.LOCK_SH))
        meeting.hear(0, "shared")
        meeting.say("tried", _try_flock(path, fcntl.LOCK_EX))
        meeting.hear(0, "free")
        free = _seconds_until(lambda: _try_flock(path, fcntl.LOCK_EX) == "got", _FREED_WITHIN, meeting.check)
        meeting.say("tried", "busy" if free is not None else "never free")
        return NOT_ASKED
    fd = files.open_or_create(path)
    answers: list[str] = []
    try:
        for kind, word in ((fcntl.LOCK_EX, "held"), (fcntl.LOCK_SH, "shared"), (fcntl.LOCK_UN, "free")):
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            meeting.say(word)
            answers += [answer for theirs in meeting.hear_all("tried") for answer in theirs]
    finally:
        os.close(fd)
    if "got" in answers:
        return Trial(Answer.NO, "both of two got it")
    others = sorted(set(answers) - {"busy"})
    return Trial(Answer.REFUSED, others[0]) if others else YES


def _race(meeting: Meeting, kind: str) -> Trial:
    """Everybody counts in one file, each time alone thanks to the lock: no count may be lost."""
    path = meeting.path(f"count_{kind}")
    if not meeting.leads:
        meeting.hear(0, "race")
        meeting.say("racing")
        meeting.say("raced", *_count(path, kind))
        return NOT_ASKED
    _overwrite(path, b"%012d\n" % 0)
    meeting.say("race", kind)
    meeting.hear_all("racing")
    results = [_count(path, kind), *meeting.hear_all("raced")]
    refusal = next((why for _, why, _ in results if why), "")
    if refusal:
        return Trial(Answer.HANGS if any(hangs for _, _, hangs in results) else Answer.REFUSED, refusal)
    counted, expected = int(files.read_file(path) or b"0"), sum(count for count, _, _ in results)
    return YES if counted == expected else Trial(Answer.NO, f"{expected - counted} of {expected} counts were lost")


class _TooLong(Exception):
    pass


def _count(path: str, kind: str) -> tuple[int, str, bool]:
    """How often we counted, why no more if that was refused, and whether it hung."""
    count = 0
    lock = FarmLock(f"{path}.lock", kind, _give_up)
    deadline = time.monotonic() + _RACE
    try:
        while count < 3 or time.monotonic() < deadline:
            with lock:
                _add_one(path)
            count += 1
    except _TooLong:
        return count, "not to be had within 10 s", True
    except LockError as error:
        return count, _why(error.__cause__ or error), False
    except OSError as error:
        return count, _why(error), False
    finally:
        lock.close()
    return count, "", False


def _why(error: BaseException) -> str:
    return _errno(error) if isinstance(error, OSError) and error.errno else str(error).rpartition(": ")[2]


def _give_up() -> None:
    raise _TooLong


def _add_one(path: str) -> None:
    # As the store does: opened after the lock is taken, closed before it is given back.
    fd = files.open_or_create(path)
    try:
        files.write_all(fd, b"%012d\n" % (int(files.read_all(fd) or b"0") + 1), 0)
    finally:
        os.close(fd)


# Between hosts


def delays(meeting: Meeting) -> Delays | None:
    """How long it takes until another host's `stat` tells of a new name, a new size and a removal."""
    # In a folder of its own: what else is done in one makes a host ask anew for all of it.
    quiet = meeting.path("quiet")
    new, grown, gone = (os.path.join(quiet, name) for name in ("new", "grown", "gone"))
    if meeting.leads:
        files.make_folder(quiet)
        for path in (grown, gone):
            _overwrite(path, b"1\n")
        meeting.say("look")
        meeting.hear_all("looked")
        for path, text in ((new, b"1\n"), (grown, b"1\n2\n")):
            _overwrite(path, text)
        os.unlink(gone)
        meeting.say("changed")
        seen = [theirs for (theirs,) in meeting.hear_all("seen")]
        return Delays(*(None if None in column else max(column) for column in zip(*seen)))
    meeting.hear(0, "look")
    for path in (new, grown, gone):
        _size(path)  # from here on this host remembers
    meeting.say("looked")
    meeting.hear(0, "changed")
    meeting.say("seen", _watch([(new, 2), (grown, 4), (gone, None)], meeting.check))
    return None


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _watch(wanted: list[tuple[str, int | None]], check: Check) -> list[float | None]:
    began = time.monotonic()
    seen: list[float | None] = [None] * len(wanted)
    first = True
    while None in seen and time.monotonic() - began < LONGEST_DELAY:
        for index, (path, size) in enumerate(wanted):
            if seen[index] is None and _size(path) == size:
                seen[index] = 0.0 if first else time.monotonic() - began
        first = False
        check()
        time.sleep(0.02)
    return seen


def clocks(meeting: Meeting) -> tuple[Clock, ...]:
    """How the others' clocks differ from the leader's: each asks it for the time, three times, and takes the quickest."""
    found = []
    for seat in meeting.others:
        asked: list[tuple[float, float]] = []
        for _ in range(3):
            if meeting.leads:
                meeting.hear(seat, "ask")
                meeting.say("time", time.time())
                continue
            began = time.time()
            if meeting.seat == seat:
                meeting.say("ask")
            (there,) = meeting.hear(0, "time")
            ended = time.time()
            asked.append(((ended - began) / 2, (began + ended) / 2 - there))
        if meeting.leads:
            found.append(Clock("", *meeting.hear(seat, "clock")))
        elif meeting.seat == seat:
            within, ahead = min(asked)
            meeting.say("clock", ahead, within)
    return tuple(found)
