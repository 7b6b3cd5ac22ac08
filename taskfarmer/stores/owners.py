"""`running/`: who holds claims, whether they live, and what is known of the dead.

    running/OWNER/claims     what it holds                       (stores/claims.py)
    running/OWNER/slot_K     what its workers wrote              (stores/slotfile.py)
    running/OWNER/alive      its presence and its last sign      (system/presence.py, system/vigil.py)

On this host an owner is dead when nobody holds its presence and its process is gone: known at once. On another host it
is dead when its presence is free and its counter has stood still for the whole window. Not everybody is asked each
time: a thousand farmers that each look at a thousand would be a million looks. Who has found two living ones among
those of other hosts, in an order of its own, leaves the rest to others; so each is looked at about twice a round. Where
locks do not exclude (`--lock soft`), everybody is watched by all, and only one whose counter stands still is silent.
"""

from __future__ import annotations

import errno
import os
import random
import time
from typing import Callable, Iterator, NamedTuple

from taskfarmer.errors import LockError
from taskfarmer.model import Owner
from taskfarmer.stores import slotfile
from taskfarmer.stores.lines import Held, owner_folder, owners_folder, parse_claims
from taskfarmer.system import files, presence, process
from taskfarmer.system.leftovers import Leader
from taskfarmer.system.presence import Presence, Sign
from taskfarmer.system.vigil import Vigil, clock

DEAD_AFTER = 30.0
_ENOUGH_LIVING = 2
_MEET = 5
_LISTEN = 0.5


class Around(NamedTuple):
    """Who else there is: the dead, how many live as far as we know, here and on other hosts, and who may be dead because
    nobody holds its presence; of how many others nothing tells yet whether they live, or only their workers do."""

    dead: list[Owner]
    living_here: int
    living_elsewhere: int
    silent: list[Owner]
    in_doubt: int = 0


class Owners:
    """Every owner of one workdir, as one of them sees the others. `dead_after`: seconds of silence of another host."""

    def __init__(self, workdir: str, me: Owner, dead_after: float = DEAD_AFTER) -> None:
        self._workdir = workdir
        self._me = me
        self._dead_after = dead_after
        self._vigils: dict[Owner, Vigil] = {}
        self._silences: dict[Owner, Vigil] = {}
        self._entered: set[Owner] = set()
        #: Whether file locks exclude between hosts. Known of a farm that has soft ones, before we look at anybody.
        self.locks_exclude = True
        #: The others, as they were when we last looked around.
        self.seen: list[Owner] = []

    # Who there is

    def everybody(self) -> list[Owner]:
        """Every owner that has a folder in `running/`."""
        try:
            names = os.listdir(owners_folder(self._workdir))
        except FileNotFoundError:
            return []
        owners = [owner for name in sorted(names) if (owner := Owner.parse(name)) is not None]
        # One that we may not enter is not open to the group yet: it holds nothing. Once it is open, it stays so.
        self._entered = {owner for owner in owners if owner in self._entered or self._may_enter(owner)}
        return [owner for owner in owners if owner in self._entered]

    def _may_enter(self, owner: Owner) -> bool:
        return os.access(self.folder(owner), os.R_OK | os.X_OK)

    def others(self) -> list[Owner]:
        """Every other owner."""
        return [owner for owner in self.everybody() if owner != self._me]

    def elsewhere(self, most: int) -> list[Owner]:
        """Up to `most` owners on other hosts, chosen at random."""
        found = [owner for owner in self.others() if not self._is_here(owner)]
        return random.sample(found, min(most, len(found)))

    def _is_here(self, owner: Owner) -> bool:
        return owner.host == self._me.host

    def of_my_job(self) -> list[Owner]:
        """Every other owner of our batch job that lives, as far as that can be told at once: the farmer itself, not only its
        workers. The presence of a dead one on this host may be held by another host that watches it."""
        mine = [owner for owner in self.others() if owner.is_mate_of(self._me)]
        return [o for o in mine if (not process.is_gone(o) if self._is_here(o) else self.seems_alive(o))]

    def seems_alive(self, owner: Owner) -> bool:
        """Whether an owner lives, as far as that can be told at once: of one on another host its presence is enough."""
        if self._is_here(owner):
            return self.lives(owner)
        if not self.locks_exclude:
            return not self.is_silent(owner) and os.path.exists(self._alive(owner))
        self._end_vigil(owner)  # by which we might hold its presence ourselves
        return presence.is_held(self._alive(owner), here=False)

    # What they have

    def folder(self, owner: Owner) -> str:
        """Where an owner's files are."""
        return owner_folder(self._workdir, owner)

    def claims_of(self, owner: Owner) -> list[Held]:
        """What an owner holds."""
        return parse_claims(files.read_file(os.path.join(self.folder(owner), "claims")) or b"")

    def all_claims(self) -> Iterator[tuple[Owner, list[Held]]]:
        """Every owner that holds claims, with what it holds."""
        for owner in self.everybody():
            if held := self.claims_of(owner):
                yield owner, held

    def ends(self, owner: Owner, slot: int | None = None) -> dict[int, slotfile.End]:
        """How attempts ended, by token, as the workers of an owner, or that of one slot, wrote it down."""
        return {end.token: end for content in self._slot_files(owner, slot) for end in slotfile.read_ends(content)}

    def leaders(self, owner: Owner, slot: int | None = None) -> set[Leader]:
        """The sessions in which an owner's tasks, all or that of one slot, were running when it last wrote."""
        return {leader for content in self._slot_files(owner, slot) for leader in slotfile.leaders(content)}

    def _slot_files(self, owner: Owner, slot: int | None) -> Iterator[bytes]:
        folder = self.folder(owner)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return  # somebody else was quicker
        for name in names:
            if name == f"slot_{slot}" or (slot is None and name.startswith("slot_")):
                yield files.read_file(os.path.join(folder, name)) or b""

    def sign(self, owner: Owner) -> Sign | None:
        """An owner's last sign of life."""
        return presence.read_sign(self._alive(owner))

    def _alive(self, owner: Owner) -> str:
        return os.path.join(self.folder(owner), "alive")

    # Coming and going

    def join(self, slots: int, shared: bool) -> Presence:
        """Make our own folder: presence first, then the file of each slot and an empty `claims`.

        A shared folder is opened to the group when all is in it: others may look into none that is not complete.
        """
        folder = self.folder(self._me)
        os.makedirs(folder, 0o700 if shared else 0o777, exist_ok=True)
        mine = Presence(self._alive(self._me), create=True, shared=shared, window=self._dead_after)
        mine.beat()
        for number in range(slots):
            self._make_file(os.path.join(folder, f"slot_{number}"), shared, slotfile.FIRST)
        self._make_file(os.path.join(folder, "claims"), shared)
        if shared:
            os.chmod(folder, 0o2775)
        files.sync_folder(folder)
        files.sync_folder(os.path.dirname(folder))
        return mine

    @staticmethod
    def _make_file(path: str, shared: bool, content: bytes = b"") -> None:
        fd = files.open_or_create(path, shared)
        try:
            with files.named(path):
                files.write_all(fd, content, 0)
        finally:
            os.close(fd)

    def meet(self, is_called_away: Callable[[], bool]) -> None:
        """Make sure, before anything is claimed, that locks exclude between us and the owners of other hosts.

        One whose presence we cannot have proves it. If we can have that of each whom we try, they are dead, or the lock
        lies: then the counter of one of them moves while we could hold it. Raises LockError.
        """
        met = self.elsewhere(_MEET)
        for owner in met:
            self.is_proved_dead(owner)
        if all(owner in self._vigils for owner in met) and (liar := self._first_to_move_twice(met, is_called_away)):
            raise LockError(
                f"{self._workdir}: file locks do not exclude between {self._me.host} and {liar.host} here: both can have the "
                f"same one. Nothing was claimed. Give all farmers another --lock-dir, or --lock soft, with a new --workdir"
            )

    def _first_to_move_twice(self, owners: list[Owner], is_called_away: Callable[[], bool]) -> Owner | None:
        for owner in owners:
            # One that has lost its lock gives no sign while somebody else holds it (system/presence.py).
            self._end_vigil(owner)
        patience = time.monotonic() + 2.5 * presence.BEAT
        signs, moves = {owner: self.sign(owner) for owner in owners}, dict.fromkeys(owners, 0)
        while any(signs.values()) and time.monotonic() < patience and not is_called_away():
            time.sleep(_LISTEN)
            for owner, last in signs.items():
                signs[owner] = sign = self.sign(owner)  # None if it has just left
                moves[owner] += sign is not None and sign != last
                # One who has just come, and did not hold it when we asked, does so now.
                if moves[owner] >= 2 and not presence.is_held(self._alive(owner), here=False):
                    return owner
        return None

    def remove(self, owner: Owner) -> None:
        """Remove an owner's folder, `claims` first: without it, it holds nothing. Two may do this at once."""
        folder = self.folder(owner)
        try:
            for name in sorted(os.listdir(folder), key=lambda name: (name != "claims", name == "alive")):
                try:
                    os.unlink(os.path.join(folder, name))
                except FileNotFoundError:
                    pass  # the other one was here
            os.rmdir(folder)
        except FileNotFoundError:
            pass  # the other one was quicker
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise  # else somebody put a file there: the next one to look here removes it
        self._end_vigil(owner)

    def close(self) -> None:
        """Let go of the presences of those we watch."""
        for owner in list(self._vigils):
            self._end_vigil(owner)

    # Who lives

    def lives(self, owner: Owner) -> bool:
        """Whether an owner may still be at work. Of one on another host that is assumed until it is watched."""
        return presence.is_held(self._alive(owner)) or not process.is_gone(owner)

    def look_around(self) -> Around:
        """Who else there is. Ask again every few seconds: what is watched must be looked at."""
        self.seen = others = self.others()
        for owner in set(self._vigils) - set(others):
            self._end_vigil(owner)
        here = [owner for owner in others if self._is_here(owner)]
        dead = [owner for owner in here if not self.lives(owner)]
        elsewhere = [owner for owner in others if not self._is_here(owner)]
        gone = self._dead_elsewhere(elsewhere)
        silent = sorted(owner for owner in set(self._vigils) - set(gone) if self.is_silent(owner))
        orphaned = sum(map(process.is_gone, here)) - len(dead)
        in_doubt = orphaned + sum(vigil.is_in_doubt for vigil in self._vigils.values())
        return Around(dead + gone, len(here) - len(dead), len(elsewhere) - len(gone) - len(silent), silent, in_doubt)

    def _dead_elsewhere(self, owners: list[Owner]) -> list[Owner]:
        random.shuffle(owners)
        dead, living = [], 0
        for owner in owners:
            if owner in self._vigils or living < _ENOUGH_LIVING:
                if self.is_proved_dead(owner):
                    dead.append(owner)
                living += owner not in self._vigils
        return dead

    def is_proved_dead(self, owner: Owner) -> bool:
        """Whether an owner is dead; one on another host is watched from now on until it shows a sign of life."""
        if self._is_here(owner):
            return not self.lives(owner)
        new = Vigil(self._alive(owner), self._dead_after, locks_exclude=self.locks_exclude)
        vigil = self._vigils.setdefault(owner, new)
        is_dead = vigil.proves_death(clock())
        if not vigil.has_begun:
            self._end_vigil(owner)
        return is_dead

    def has_died(self, host: str, pid: int) -> bool:
        """Whether who holds a soft lock on another host is dead, as a watched owner is. Of a program that is none nothing is known:
        it may take its time."""
        dead = [self.is_proved_dead(owner) for owner in self.others() if (owner.host, owner.pid) == (host, pid)]
        return bool(dead) and all(dead)

    def is_silent(self, owner: Owner) -> bool:
        """Whether an owner gave no sign of life when we last looked, and may be dead."""
        return owner in self._vigils and self._vigils[owner].finds_silence

    def has_left_its_exchange(self, owner: Owner) -> bool:
        """Whether the writer of a journal, found by one who holds the lock, is dead. Its workers may live on.

        On another host its silence is enough: were it merely slow, it would hold the lock.
        """
        if self._is_here(owner):
            return process.is_gone(owner)
        silence = self._silences.setdefault(owner, Vigil(self._alive(owner), self._dead_after, alone=False))
        # Who held a soft lock was watched until it was proved dead: no second silence is waited for.
        return silence.proves_death(clock()) or self.is_proved_dead(owner)

    def _end_vigil(self, owner: Owner) -> None:
        if vigil := self._vigils.pop(owner, None):
            vigil.close()
