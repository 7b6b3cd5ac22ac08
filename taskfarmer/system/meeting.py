"""A meeting of some processes, perhaps on several hosts, in one folder: who is there, and what they tell each other.

They have nothing in common but the files of that folder. Each takes a seat; who has seat 0 leads. In it are

    seat_K    empty; made by O_CREAT|O_EXCL: one who makes it has the seat
    said_K    what who sits there has said, a line for each time: `WORD JSON-LIST`; written by K alone, it only grows

    here ["n1", "8d3a..."]
    local [...]
    left ["stopped (Ctrl-C)"]

Everybody reads by opening anew, and opens with O_CREAT what may not be there yet: a name that was "not there" may be a
memory. Nothing is judged by `stat`. The one who leads removes the folder when all have said `bye`; one who finds it
removed before that knows that somebody has left.
"""

from __future__ import annotations

import errno
import json
import os
import time
from typing import Any, Callable

from taskfarmer.errors import MeetingError
from taskfarmer.system import files

SILENCE = 180.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.05
_CLEARING = 60.0
_PARTING = 2.0


class Meeting:
    """One process's part in a meeting. A context: leaving it takes the folder away, whatever has happened.

    `check` is called while waiting and may raise.
    """

    def __init__(self, folder: str, seats: int, check: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self.seats = seats
        self.check = check
        self._names = [f"seat {seat}" for seat in range(seats)]
        self._read = [0] * seats
        self._known: set[int] = set()
        self._made = False
        self.seat = self._take_seat()

    @property
    def leads(self) -> bool:
        """Whether this one leads."""
        return self.seat == 0

    @property
    def others(self) -> range:
        """The seats of those who follow."""
        return range(1, self.seats)

    def path(self, name: str) -> str:
        """The path of a file in the meeting's folder."""
        return os.path.join(self.folder, name)

    def call(self, seat: int, name: str) -> None:
        """Remember who sits there, for messages."""
        self._names[seat] = name

    def _take_seat(self) -> int:
        files.make_folder(self.folder)
        for seat in range(self.seats):
            try:
                os.close(os.open(self.path(f"seat_{seat}"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            except FileExistsError:
                continue
            return seat
        raise MeetingError(
            f"{self.folder}: {self.seats} have met here already. Use another token; if nobody is there, remove it"
        )

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._leave_early(str(error))
        elif self.leads:
            for seat in self.others:
                self.hear(seat, "bye")
            clear(self.folder)
        else:
            self.say("bye")

    def _leave_early(self, why: str) -> None:
        try:
            self.say("left", why)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE, *files.DISK_TROUBLE):
                raise
        patience = time.monotonic() + _PARTING
        while time.monotonic() < patience and (self._are_others_here() if self.leads else self._stands()):
            time.sleep(_LONGEST_PAUSE)
        clear(self.folder)

    def _are_others_here(self) -> bool:
        """Whether anybody is left who may want to read why we leave."""
        try:
            said = [self._said(seat) for seat in self.others]
        except (MeetingError, OSError):
            return False
        return any(text and not text.rpartition(b"\n")[0].rpartition(b"\n")[2].startswith(b"left") for text in said)

    def _stands(self) -> bool:
        try:
            os.close(os.open(self.path("seat_0"), os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    # Talking

    def say(self, word: str, *values: Any) -> None:
        """Tell everybody."""
        # Closed each time: a network filesystem shows others what was written when it is closed.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (0 if self._made else os.O_CREAT)
        fd = os.open(self.path(f"said_{self.seat}"), flags, 0o666)
        self._made = True
        try:
            os.write(fd, f"{word} {json.dumps(values)}\n".encode())
        finally:
            os.close(fd)

    def hear(self, seat: int, word: str, patience: float = SILENCE) -> list[Any]:
        """Wait for the next thing somebody says; raises MeetingError if that is anything but `word`."""
        deadline = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while (line := self._next_line(seat)) is None:
            self.check()
            if time.monotonic() > deadline:
                raise MeetingError(f"{self._names[seat]} was not heard of for {patience:g} s")
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.2)
        found, _, values = line.partition(" ")
        if found == "left":
            self.check()  # if we are to stop as well, that is what to say
            raise MeetingError(f"{self._names[seat]} has left: {json.loads(values)[0]}")
        if found != word:
            raise MeetingError(f"{self._names[seat]} said {found!r}, not {word!r}: is it the same version there?")
        return list(json.loads(values))

    def spoke(self, seat: int, within: float) -> bool:
        """Whether somebody says anything within so many seconds."""
        deadline = time.monotonic() + within
        while not self._said(seat):
            self.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(_LONGEST_PAUSE)
        return True

    def hear_all(self, word: str) -> list[list[Any]]:
        """For the one who leads: what each of the others says to this, in the order of their seats."""
        return [self.hear(seat, word) for seat in self.others]

    def _next_line(self, seat: int) -> str | None:
        lines = self._said(seat).split(b"\n")
        if self._read[seat] >= len(lines) - 1:
            return None
        line = lines[self._read[seat]]
        self._read[seat] += 1
        return line.decode()

    def _said(self, seat: int) -> bytes:
        flags = os.O_RDONLY if seat in self._known else os.O_RDWR | os.O_CREAT
        try:
            fd = os.open(self.path(f"said_{seat}"), flags | os.O_CLOEXEC, 0o666)
            try:
                said = files.read_all(fd)
                # After a read, FUSE asks its server anew for all that fstat tells: only then is the size no memory.
                if os.fstat(fd).st_size > len(said):
                    said = files.read_all(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            raise MeetingError(f"{self._names[seat]} has left, or somebody removed {self.folder}") from error
        if said:
            self._known.add(seat)
        return said


def clear(folder: str) -> None:
    """Remove a folder and all in it, also if what this host knows of its names is a memory; two may do this at once."""
    patience = time.monotonic() + _CLEARING
    while True:
        try:
            _clear(folder)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ESTALE, errno.EBUSY) or time.monotonic() > patience:
                raise MeetingError(f"{folder}: cannot be removed: {error.strerror}. Remove it by hand") from error
        time.sleep(0.1)


def _clear(folder: str) -> None:
    try:
        # A new name makes this host forget its list of the others.
        name = os.path.join(folder, f"clear_{os.urandom(4).hex()}")
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in files.DISK_TROUBLE:  # a full disk takes no new name, but it lets go of old ones
            raise
    with os.scandir(folder) as entries:
        found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for path, is_folder in found:
        try:
            if is_folder:
                _clear(path)
            else:
                os.unlink(path)
        except FileNotFoundError:
            pass  # the other one was here
    os.rmdir(folder)
