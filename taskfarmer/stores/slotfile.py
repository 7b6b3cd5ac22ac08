"""`running/OWNER/slot_K`: what worker K writes, alone and without a lock, so that a result is safe once it is known.

    <newline>start TOKEN SESSION TICKS CRC<newline>
    <newline>end TOKEN OUTCOME STATUS START WALL CPU MEMORY CRC<newline>

Every line begins and ends with a newline, so a torn one cannot spoil the next. What does not check is skipped. `end`
lines are matched by TOKEN against `claims`; one of an unknown token is of a claim that was settled long ago. An attempt
that takes less than a second leaves no `start` line.

The file begins with a newline of its own, written when there is room: so it has a block, and what ends while the disk
is full still finds a place in it.

SESSION is the task's first process, TICKS when that was started (clock ticks since boot, as in the name of an owner).
START is seconds since the epoch, WALL and CPU seconds, MEMORY KiB; CRC is the CRC-32 (zlib) of what stands
before it, in hex.
"""

from typing import Iterator, NamedTuple
from zlib import crc32

from taskfarmer.model import OUTCOMES, Attempt, Outcome
from taskfarmer.system.leftovers import Leader

FIRST = b"\n"


class End(NamedTuple):
    """A valid `end` line."""

    token: int
    outcome: Outcome
    status: int
    start: float
    wall: float
    cpu: float
    memory: int


def start_line(token: int, leader: Leader) -> bytes:
    """The line that says an attempt of a second or more is running, in which session."""
    return _checked(b"start %d %d %d" % (token, leader.pid, leader.start))


def end_line(attempt: Attempt) -> bytes:
    """The line that says how an attempt ended."""
    claim, outcome, status, begun, wall, cpu, memory, _, _ = attempt
    text = f"end {claim.token} {outcome.word} {status} {begun:.6f} {wall:.6f} {cpu:.3f} {memory}"
    return _checked(text.encode())


def _checked(body: bytes) -> bytes:
    return b"\n%s %08x\n" % (body, crc32(body))


def read_ends(content: bytes) -> Iterator[End]:
    """Every valid `end` line of a slot file, in the order they were written."""
    for words in _valid_lines(content):
        if words[0] == b"end" and len(words) == 8:
            yield End(
                int(words[1]),
                OUTCOMES[words[2].decode()],
                int(words[3]),
                float(words[4]),
                float(words[5]),
                float(words[6]),
                int(words[7]),
            )


def read_starts(content: bytes) -> Iterator[tuple[int, Leader]]:
    """Token and session of every valid `start` line."""
    for words in _valid_lines(content):
        if words[0] == b"start" and len(words) == 4:
            yield int(words[1]), Leader(int(words[2]), int(words[3]))


def leaders(content: bytes) -> set[Leader]:
    """The sessions of attempts that have not ended."""
    ended = {end.token for end in read_ends(content)}
    return {leader for token, leader in read_starts(content) if token not in ended}


def _valid_lines(content: bytes) -> Iterator[list[bytes]]:
    for line in content.split(b"\n"):
        body, _, crc = line.rpartition(b" ")
        if body and crc == b"%08x" % crc32(body):
            yield body.split(b" ")
