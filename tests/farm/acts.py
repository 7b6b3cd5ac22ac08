"""What a farm does to its files, as scenes of the real program; what must be true whatever moment ends one of them.

A scene prepares a farm and gives one command line. That is killed, or the power goes, somewhere on its way; then the same
program is started again until the list is done, and each task has run as often as the scene says, and stands once.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Callable, NamedTuple

from conftest import STATE_FILES, Farm, wait_until
from farmhands import assert_nothing_runs_in, kill, processes_in

from taskfarmer.stores import journal
from taskfarmer.stores.lines import parse_claims

#: Says in `ran_ID` that it began and that it ended; what it does in between is its first argument.
TASK = """\
echo begun >> ran_$PROC_NUMBER
case $1 in
    fine) ;;
    broken) [ -e mended ] || { echo ended >> ran_$PROC_NUMBER; exit 1; } ;;
    long) sleep 1.1 ;;
    waits) until [ -e go_$PROC_NUMBER ]; do sleep 0.02; done ;;
    stops)  # its own farmer, the first time, and waits to be ended
        read -r _ _ _ farmer _ < /proc/$PPID/stat
        [ -e stopped ] || { touch stopped; kill -TERM $farmer; while kill -0 $farmer 2>&-; do sleep 0.02; done; } ;;
esac
echo ended >> ran_$PROC_NUMBER
"""
FINE, BROKEN, LONG, WAITS, STOPS = (f"sh task.sh {word}" for word in ("fine", "broken", "long", "waits", "stops"))


class Scene(NamedTuple):
    """`acts` names the exchanges of the command, in their order; the last one names those that follow, too.

    `kill`: the acts that this scene is for. `begun`: how often at most a task may begin, if that is not once. `failed`:
    those that stand there at the end. `is_new`: there is no farm yet. `stops`: its farmer is stopped, once.
    `told`: tasks whose outcome the farmer knows by then. `refused`: the call, the how-manieth, that the disk refuses.
    """

    name: str
    prepare: Callable[[Farm], object]
    words: tuple[str, ...]
    acts: tuple[str, ...]
    kill: frozenset[str]
    begun: dict[int, int] = {}
    failed: tuple[int, ...] = ()
    is_new: bool = False
    stops: bool = False
    told: tuple[int, ...] = ()
    refused: tuple[str, int] | None = None

    def __str__(self) -> str:
        return self.name


def new_list(farm: Farm) -> None:
    farm.write(FINE, BROKEN, FINE)


def long_list(farm: Farm) -> None:
    farm.write(LONG, FINE)


def list_that_stops(farm: Farm) -> None:
    farm.write(FINE, STOPS, FINE, FINE, BROKEN)


def dead_owner(farm: Farm) -> None:
    """Its farmer and two workers are dead: task 0 has ended, and nobody has settled that; task 1 was running."""
    farm.write(WAITS, WAITS, FINE)
    farmer = farm.start("-n", "2")
    wait_until(lambda: all((farm.folder / f"ran_{id}").exists() for id in range(2)), what="both tasks")
    farmer.kill()
    (farm.folder / "go_0").touch()
    wait_until(
        lambda: any(b"end " in slot.read_bytes() for slot in farm.workdir.glob("running/*/slot_*")), what="its end"
    )
    while left := processes_in(farm.folder):
        kill(left)
    farmer.communicate()
    (farm.folder / "go_1").touch()


def two_failed(farm: Farm) -> None:
    farm.write(BROKEN, FINE, BROKEN)
    farm.run("-n", "1", check=1)
    (farm.folder / "mended").touch()


def half_done(farm: Farm) -> None:
    """One task has failed and ended the run; four wait."""
    farm.write(BROKEN, *[f"{FINE} {letter}" for letter in "abcd"])
    farm.run("-n", "1", "--max-failures", "1", check=1)
    assert farm.ids("failed") == [0] and len(farm.waiting()) > 2


def changed_list(farm: Farm) -> None:
    half_done(farm)
    farm.write(BROKEN, *[f"{FINE} {letter}" for letter in "ebdcf"])
    os.utime(farm.tasklist, (2e9, 2e9))


def grown_list(farm: Farm) -> None:
    half_done(farm)
    with open(farm.tasklist, "a") as tasklist:
        tasklist.write(f"{FINE}\n" * 2)
    os.utime(farm.tasklist, (2e9, 2e9))


def failed_put_back_by_hand(farm: Farm) -> None:
    half_done(farm)
    (farm.folder / "mended").touch()
    with open(farm.workdir / "toprocess", "ab") as toprocess:
        toprocess.write((farm.workdir / "failed").read_bytes())
    (farm.workdir / "failed").unlink()


def removed_toprocess(farm: Farm) -> None:
    half_done(farm)
    (farm.workdir / "toprocess").unlink()


def torn_timeline(farm: Farm) -> None:
    half_done(farm)
    with open(farm.workdir / "timeline.json", "r+b") as timeline:
        timeline.truncate(os.fstat(timeline.fileno()).st_size - 40)


RUN = ("-n", "1", "tasks.txt")
EDIT = frozenset(("edit",))
FIRST_RUN, STOP, DEAD_OWNER, RETRY, CHANGED_LIST, GROWN_LIST, *_ = SCENES = [
    Scene(
        "a first run", new_list, RUN, ("materialise", "claim", "settle"),
        frozenset(("materialise", "join", "claim", "settle", "timeline append", "leave")), failed=(1,), is_new=True,
    ),
    Scene(
        "a stop", list_that_stops, RUN, ("materialise", "claim", "settle", "requeue"), frozenset(("requeue",)),
        {1: 2}, failed=(4,), is_new=True, stops=True,
    ),
    Scene("a dead owner", dead_owner, RUN, ("look", "recover", "claim"), frozenset(("recover",)), {1: 2}),
    Scene("a retry", two_failed, ("retry", "tasks.txt"), ("retry",), frozenset(("retry",)), {0: 2, 2: 2}),
    Scene("a changed list", changed_list, RUN, ("edit", "claim"), EDIT, failed=(0,)),
    Scene("a grown list", grown_list, RUN, ("edit", "claim"), EDIT, failed=(0,)),
    Scene("failed, put back by hand", failed_put_back_by_hand, RUN, ("edit", "edit", "claim"), EDIT, {0: 2}),
    Scene("a removed toprocess", removed_toprocess, RUN, ("edit", "edit", "claim"), EDIT, failed=(0,)),
    Scene("a torn timeline", torn_timeline, RUN, ("look", "claim"), frozenset(("timeline append",)), failed=(0,)),
]  # fmt: skip
#: For power cuts only: a first run, seen from somewhere else.
_FIRST_ACTS = ("materialise", "claim", "settle", "what follows")
MATERIALISE = FIRST_RUN._replace(name="a new list", acts=_FIRST_ACTS, kill=frozenset(("materialise",)))
CLAIM = FIRST_RUN._replace(name="a claim", acts=_FIRST_ACTS, kill=frozenset(("claim",)))
SETTLE = FIRST_RUN._replace(name="a settle", acts=_FIRST_ACTS, kill=frozenset(("settle",)))
LONG_TASK = SETTLE._replace(name="a long task", prepare=long_list, failed=(), told=(0,))
REFUSED_SETTLE = SETTLE._replace(name="a settle that the disk refuses", refused=("fsync running/OWNER/claims", 2))
REFUSED_RETRY = RETRY._replace(name="a retry that the disk refuses", refused=("fsync attempts", 1))


# What must be true


class Bench:
    """A folder in which one scene is set again and again: always under the same name, which the farm remembers."""

    def __init__(self, scene: Scene, folder: Path, env: dict[str, str] | None = None) -> None:
        self.scene = scene
        self.env = env  # of the program that dies; not of the one that goes on
        self.farm = Farm(folder / "farm")
        self._kept = folder / "kept"
        self.farm.folder.mkdir(parents=True, exist_ok=True)
        (self.farm.folder / "task.sh").write_text(TASK)
        scene.prepare(self.farm)
        self._before = recorded(self.farm)
        shutil.copytree(self.farm.folder, self._kept)
        self.standing: dict[int, tuple[str, str]] | None = None  # where each task stands if nothing interferes

    def reset(self) -> Farm:
        """The farm as the scene has prepared it."""
        shutil.rmtree(self.farm.folder)
        shutil.copytree(self._kept, self.farm.folder)
        return self.farm

    def check_what_is_left(self) -> None:
        """Nobody is at work, and every task that was recorded is recorded."""
        assert_nothing_runs_in(self.farm.folder)
        assert self.standing is not None
        farm_json = self.farm.workdir / "farm.json"
        founded = farm_json.exists() and farm_json.stat().st_size > 0
        wanted = set(self.standing) if founded and self.scene.is_new else self._before & set(self.standing)
        missing = wanted - recorded(self.farm)
        assert not missing, f"tasks {missing} are recorded nowhere"

    def go_on(self, begun: dict[int, int] | None = None) -> None:
        """Start the same line again, as a user does, until the list is done; then everything must be as it should.

        `begun`: how often at most each task may have begun then, if that is not what the scene says.
        """
        farm, scene = self.farm, self.scene
        if scene.words != RUN:
            farm.call(*scene.words)
        done = farm.call(*RUN)
        if done.returncode == 75 and scene.stops:
            done = farm.call(*RUN)
        assert done.returncode == (1 if scene.failed else 0), f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        self._check_the_end(scene.begun if begun is None else begun)

    def _check_the_end(self, begun: dict[int, int]) -> None:
        farm = self.farm
        assert_nothing_runs_in(farm.folder)
        assert not (farm.workdir / "journal").exists()
        assert list((farm.workdir / "running").iterdir()) == []
        standing = standing_in(farm)
        if self.standing is None:
            self.standing = standing
        assert standing == self.standing
        assert tuple(farm.ids("failed")) == self.scene.failed
        for id in standing:
            said = (farm.folder / f"ran_{id}").read_text().split()
            assert "ended" in said, f"task {id} never ran to its end"
            assert said.count("begun") <= begun.get(id, 1), f"task {id} ran {said.count('begun')} times"
        json.loads((farm.workdir / "timeline.json").read_text())


def standing_in(farm: Farm) -> dict[int, tuple[str, str]]:
    """Where each task stands, with its command; each in exactly one place."""
    found: dict[int, tuple[str, str]] = {}
    for name in STATE_FILES:
        for line in farm.lines(name):
            id, command = line.split(" ", 1)
            assert int(id) not in found, f"task {id} stands in {found[int(id)][0]} and in {name}"
            found[int(id)] = (name, command)
    return found


def recorded(farm: Farm) -> set[int]:
    """The ids that stand anywhere: in a state file, in `claims`, in an exchange that is written down."""
    found = {id for name in STATE_FILES for id in farm.ids(name)}
    for claims in farm.workdir.glob("running/*/claims"):
        found |= {held.id for held in parse_claims(claims.read_bytes())}
    path = farm.workdir / "journal"
    _, operations = journal.parse(path.read_bytes()) if path.exists() else (None, None)
    for operation in operations or ():
        if operation.name.endswith("/claims"):
            found |= {held.id for held in parse_claims(operation.data)}
        elif operation.name in STATE_FILES:
            found |= {int(line.split(b" ")[0]) for line in operation.data.splitlines()}
        elif operation.target in STATE_FILES:
            found |= set(farm.ids(operation.name))
    return found
