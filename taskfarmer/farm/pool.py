"""The Pool of workers, each on a line of its own.

`multiprocessing.Pool` starts the processes and starts new ones for those that die. Its own queue is not used: it is
guarded by a lock that a killed worker never gives back, and it forgets the job of a worker that dies. So a worker serves
from its first moment on (it is the Pool's `initializer`) and introduces itself at the *door*: a datagram with its pid
and the far end of a socket pair it has made. The farmer gives it a free slot; when the worker dies, its line goes dead
at once, and the farmer knows which claims it had.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext
from multiprocessing.pool import Pool
from typing import NamedTuple, Union

from taskfarmer.farm.orders import Halt, Hello, Report, Setup, Work
from taskfarmer.farm.stop import shield_worker
from taskfarmer.farm.worker import Worker
from taskfarmer.model import Claim
from taskfarmer.system import process, proctable

_LEAVING = 10.0


class Heard(NamedTuple):
    """A worker has reported."""

    slot: int
    report: Report


class Lost(NamedTuple):
    """A worker has died; these are the claims it had not reported, the first may have been running.

    `stillborn`: it died before it could say that it was ready.
    """

    slot: int
    pid: int
    claims: list[Claim]
    stillborn: bool


Event = Union[Heard, Lost]


class _Hand:
    """A worker as the farmer knows it."""

    def __init__(self, pid: int, line: Connection) -> None:
        self.pid = pid
        self.line = line
        self.claims: list[Claim] = []
        self.idle = False
        self.all_settled = False
        self.heard = False

    def tell(self, order: object) -> None:
        """Send it an order."""
        try:
            self.line.send(order)
        except OSError:
            pass  # it has just died: its line will say so

    def signal(self, number: int) -> None:
        """Send it a signal."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # it has just died: its line will say so


class Crew:
    """The workers of one farmer. A context: leaving it hangs up and waits for them."""

    def __init__(self, slots: int, setup: Setup, extra_fd: int) -> None:
        self._setup = setup
        self._extra_fd = extra_fd
        self._free_slots = list(range(slots - 1, -1, -1))
        self._hands: dict[int, _Hand] = {}
        self._slot_of: dict[int, int] = {}
        self._hired = 0
        self._pools: list[Pool] = []
        self._poll = select.poll()
        self._poll.register(extra_fd, select.POLLIN)

    def __enter__(self) -> "Crew":
        self._door, self._door_outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.setblocking(False)
        self._poll.register(self._door.fileno(), select.POLLIN)
        return self

    def __exit__(self, *exc: object) -> None:
        self._dismiss()

    def hire(self, wanted: int) -> None:
        """Have at least `wanted` workers, as far as there are slots."""
        more = min(wanted, self._hired + len(self._free_slots)) - self._hired
        if more > 0:
            self._hired += more
            # What we have now is shared with the workers: a collection would copy it, and each would load ctypes anew.
            process.load_subreaper()
            gc.freeze()
            pool = ForkContext().Pool(more, initializer=_serve, initargs=(self, self._setup, os.getpid()))
            self._pools.append(pool)

    @property
    def hired(self) -> int:
        """How many workers there are or soon will be."""
        return self._hired

    def idle_slots(self) -> list[int]:
        """The slots that wait for work."""
        return [slot for slot, hand in self._hands.items() if hand.idle]

    def busy_claims(self) -> int:
        """How many claims are with workers."""
        return sum(len(hand.claims) for hand in self._hands.values())

    def give(self, slot: int, claims: list[Claim]) -> None:
        """Hand claims to an idle worker."""
        hand = self._hands[slot]
        hand.idle = False
        hand.claims = list(claims)
        settled, hand.all_settled = hand.all_settled, False
        hand.tell(Work(claims, settled))

    def all_is_settled(self) -> None:
        """Everything that was reported so far is settled: slot files may be shortened."""
        for hand in self._hands.values():
            hand.all_settled = hand.idle

    def halt(self, grace: float) -> None:
        """End what runs within `grace` seconds; said again: now."""
        for hand in self._hands.values():
            hand.tell(Halt(grace))
            hand.signal(signal.SIGUSR2)  # it may be waiting for its task; this wakes it

    def kill_busy(self) -> None:
        """Kill the workers that still hold claims: each will be heard of as lost."""
        for hand in self._hands.values():
            if hand.claims:
                hand.signal(signal.SIGKILL)

    def wait(self, seconds: float) -> list[Event]:
        """What workers have to say; comes back early when the extra descriptor is readable."""
        events: list[Event] = []
        for fd, _ in self._poll.poll(max(0.0, seconds) * 1000):
            if fd in self._slot_of:
                events.append(self._listen(self._slot_of[fd]))
        self._let_in()  # last: who comes may take the slot of one that has just died
        return events

    def _let_in(self) -> None:
        while self._free_slots:
            try:
                message, fds, _, _ = socket.recv_fds(self._door, 64, 1)
            except BlockingIOError:
                return
            slot = self._free_slots.pop()
            hand = _Hand(int(message), Connection(fds[0]))
            self._hands[slot] = hand
            self._slot_of[hand.line.fileno()] = slot
            self._poll.register(hand.line.fileno(), select.POLLIN)
            hand.tell(Hello(slot))

    def _listen(self, slot: int) -> Event:
        hand = self._hands[slot]
        try:
            report = hand.line.recv()
        except (EOFError, OSError):
            return self._lose(slot)
        ended = {attempt.claim.token for attempt in report.attempts} | {claim.token for claim in report.returned}
        hand.claims = [claim for claim in hand.claims if claim.token not in ended]
        hand.idle = report.idle
        hand.heard = True
        return Heard(slot, report)

    def _lose(self, slot: int) -> Lost:
        hand = self._hands.pop(slot)
        fd = hand.line.fileno()
        self._poll.unregister(fd)
        del self._slot_of[fd]
        hand.line.close()
        self._free_slots.append(slot)
        return Lost(slot, hand.pid, hand.claims, not hand.heard)

    def _dismiss(self) -> None:
        for pool in self._pools:
            pool.close()
        pids = [hand.pid for hand in self._hands.values()]
        for slot in list(self._hands):
            self._lose(slot)
        patience = time.monotonic() + _LEAVING
        while any(map(proctable.exists, pids)):
            if time.monotonic() > patience:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.0005)
        # Before the join: who stands at the door, or comes now, must hear that nobody will open.
        self._door.close()
        self._door_outside.close()
        for pool in self._pools:
            pool.join()

    def close_in_worker(self) -> None:
        """In a new worker: let go of what belongs to the farmer, or its death would go unnoticed."""
        self._door.close()
        for hand in self._hands.values():
            hand.line.close()


def _serve(crew: "Crew", setup: Setup, farmer: int) -> None:
    """A worker's whole life."""
    shield_worker()
    process.close_inherited_files()
    crew.close_in_worker()
    ours, theirs = socket.socketpair()
    line = Connection(ours.detach())
    try:
        socket.send_fds(crew._door_outside, [b"%d" % os.getpid()], [theirs.fileno()])
    except OSError:
        sys.exit(0)  # the farmer is gone already
    theirs.close()
    crew._door_outside.close()
    try:
        hello = line.recv()
    except (EOFError, OSError):
        sys.exit(0)  # the farmer is leaving
    Worker(setup, hello.slot, line, farmer).serve()
    # Leaving here, and not through the Pool's queue, keeps us from ever holding its lock.
    sys.exit(0)
