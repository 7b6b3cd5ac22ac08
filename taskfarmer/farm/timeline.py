"""`timeline.json`: what happened when, for the Perfetto UI. A JSON array of Trace Event Format events, one per line.

    [
    {"ph":"M","name":"process_name","pid":7,"tid":0,"args":{"name":"n1 (farmer 4711)"}},
    {"ph":"X","cat":"finished","name":"3 ./sim 3","pid":7,"tid":1,"ts":1795240539468480,"dur":2170,"args":{...}}
    {"ph":"X","cat":"failed","name":"4 exit 1: ./sim 4","pid":7,"tid":2,"ts":1795240539468593,"dur":1985,"args":{...}}
    ]

An attempt's category is its outcome, and its name says how it ended, unless that was well. `ts` and `dur` are
microseconds (epoch); `pid` stands for one farmer, `tid` for one slot: the attempts of a slot never overlap, and Perfetto
drops events of one thread that do. Source of the format: "Trace Event Format" (Google, 2016).

Appended under a lock of its own by overwriting the closing bracket: O(1), and valid JSON after each append. A torn tail is
repaired by the next writer. No verb and no restart reads it.
"""

from __future__ import annotations

import fcntl
import os
import time
from json.encoder import encode_basestring_ascii as quote
from zlib import crc32

from taskfarmer.model import Attempt, Outcome, Owner
from taskfarmer.system import files

_INTERVAL = 4.0
_END = b"\n]\n"
_LOOK_BACK = 1 << 16
_NAME_LIMIT = 120
#: So many events wait for a disk that refuses; those that come after them are only counted.
_MOST = 10_000


class Timeline:
    """Collects events and appends them every few seconds."""

    def __init__(self, path: str, owner: Owner, shared: bool = False) -> None:
        self._path = path
        self._shared = shared
        self._host = quote(owner.host)
        self._pid = crc32(str(owner).encode()) & 0x7FFFFFFF
        self._events: list[str] = [self._meta("process_name", 0, f"{owner.host} (farmer {owner.pid})")]
        self._dropped = 0
        self._known_slots: set[int] = set()
        self._flushed_at = time.monotonic()

    def attempt(self, attempt: Attempt) -> None:
        """One attempt, as a slice on its slot's track."""
        if self._is_full():
            return
        slot = attempt.slot + 1
        if slot not in self._known_slots:
            self._known_slots.add(slot)
            self._events.append(self._meta("thread_name", slot, f"slot {attempt.slot}"))
        claim = attempt.claim
        # Rounded at both ends alike, or a slice might reach into the next one.
        begin, end = int(attempt.start * 1e6), int((attempt.start + attempt.wall) * 1e6)
        ended = "" if attempt.outcome is Outcome.FINISHED else f"{attempt.ended()}: "
        name = _short(f"{claim.id} {ended}{claim.command}")
        self._events.append(
            f'{{"ph":"X","cat":"{attempt.outcome.word}","name":{name},"pid":{self._pid},"tid":{slot},"ts":{begin},'
            f'"dur":{end - begin},"args":{{"task":{claim.id},"attempt":{claim.attempt},'
            f'"outcome":"{attempt.outcome.word}","status":{attempt.status},"host":{self._host},'
            f'"cpu_s":{attempt.cpu:.3f},"peak_KiB":{attempt.memory}}}}}'
        )

    def instant(self, what: str) -> None:
        """Something that happened to the whole farmer."""
        if not self._is_full():
            self._events.append(self._instant(what))

    def _instant(self, what: str) -> str:
        now = time.time() * 1e6
        return f'{{"ph":"i","s":"p","cat":"farm","name":{_short(what)},"pid":{self._pid},"tid":0,"ts":{now:.0f}}}'

    def _is_full(self) -> bool:
        """Whether one more event can only be counted."""
        if len(self._events) < _MOST:
            return False
        self._dropped += 1
        return True

    def _meta(self, kind: str, tid: int, name: str) -> str:
        return f'{{"ph":"M","name":"{kind}","pid":{self._pid},"tid":{tid},"args":{{"name":{_short(name)}}}}}'

    def flush_if_due(self) -> None:
        """Append what was collected, every few seconds."""
        if time.monotonic() - self._flushed_at >= _INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Append what was collected. A disk that refuses costs events, never the farm."""
        self._flushed_at = time.monotonic()
        if not self._events:
            return
        try:
            fd = files.open_or_create(self._path, self._shared)
        except OSError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._append(fd)
            self._events.clear()
            self._dropped = 0
        except OSError:
            pass  # kept for the next time
        finally:
            os.close(fd)

    def _append(self, fd: int) -> None:
        size = files.size_of(fd)
        tail = os.pread(fd, _LOOK_BACK, max(0, size - _LOOK_BACK))
        end = _end_of_last_event(tail)
        keep = size - len(tail) + end if end else 0
        dropped = (
            [self._instant(f"{self._dropped} events are missing here: the disk refused them")] if self._dropped else []
        )
        text = ",\n".join(self._events + dropped).encode("ascii") + _END
        if keep > 0:
            files.write_all(fd, b",\n" + text, keep)
        else:
            files.write_all(fd, b"[\n" + text, 0)
            keep = 0
        if size > keep + len(text) + 2:
            os.ftruncate(fd, keep + len(text) + 2)


def _end_of_last_event(tail: bytes) -> int:
    """Where the last whole event of a file's tail ends; 0 if there is none."""
    if tail.endswith(b"}" + _END):
        return len(tail) - len(_END)
    whole = tail.rstrip()
    if whole.endswith((b"}]", b"}\n]")):
        return len(whole[:-1].rstrip())  # the ancestor's, or one that a person has tidied up
    import json

    # A writer died. Look back for a line that is a whole event.
    end = len(tail)
    while (start := tail.rfind(b"\n{", 0, end)) >= 0:
        line = tail[start + 1 : end].rstrip(b"]\n ,")
        try:
            json.loads(line)
            return start + 1 + len(line)
        except ValueError:
            end = start
    return 0


def _short(text: str) -> str:
    """A JSON string, cut so that an event stays under 400 bytes."""
    quoted = quote(text[:_NAME_LIMIT].encode("utf-8", "replace").decode("utf-8", "replace"))
    while len(quoted) > _NAME_LIMIT + 20:
        text = text[: len(text) * 3 // 4]
        quoted = quote(text.encode("utf-8", "replace").decode("utf-8", "replace"))
    return quoted
