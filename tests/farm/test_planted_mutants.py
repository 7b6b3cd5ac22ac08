"""The tests can fail: each planted defect that a kill can show is caught, by a scene that the healthy program survives."""

from __future__ import annotations

import os
import signal
from typing import Callable

import pytest
import straced
from acts import DEAD_OWNER, FIRST_RUN, RUN, Bench
from conftest import Farm, wait_until
from farmhands import all_exist, children_of, ended, kill
from mutants import MUTANTS, Mutant, plant
from test_farm_killing import (
    counted_farm,
    go,
    runs,
    start_counted,
    test_workers_of_a_killed_farmer_finish_and_record_their_task_and_leave,
)
from test_other_hosts import with_failing

from taskfarmer.model import Owner
from taskfarmer.stores.textfiles import TextStore
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process

pytestmark = pytest.mark.components

# Here it is a scene; as a test it stands where it comes from.
the_farmer_alone_is_killed = test_workers_of_a_killed_farmer_finish_and_record_their_task_and_leave
del test_workers_of_a_killed_farmer_finish_and_record_their_task_and_leave


def the_farmer_is_killed_in_an_exchange(farm: Farm) -> None:
    """At each call of its first settle, which also claims."""
    bench = Bench(FIRST_RUN, farm.folder, dict(os.environ))
    points = straced.points_of(bench)
    begin = [act for act, _ in points].index("settle")
    for _, call in points[begin + 4 : begin + 18]:
        straced.die_and_go_on(bench, call)


def a_dead_owner_is_found(farm: Farm) -> None:
    """Of its two tasks one has ended, one was running."""
    bench = Bench(DEAD_OWNER, farm.folder)
    bench.farm.call(*RUN)
    bench.go_on()


def the_disk_refuses_once_in_the_middle_of_a_settle(farm: Farm) -> None:
    """What is written down is done by the next exchange, which comes with the same outcomes once more."""
    bench = Bench(FIRST_RUN, farm.folder, dict(os.environ))
    last = [call for _, call in straced.points_of(bench) if str(call) == "fsync toprocess"][-1]
    bench.reset()
    straced.run(bench.farm, RUN, f"inject=fsync:error=EIO:when={last.number}", env=bench.env)
    bench.go_on()


def a_silent_farmer_is_taken_over(farm: Farm) -> None:
    """It and its workers are stopped; an observer on another host sees no sign of life, and another farmer runs the rest."""
    farmer = start_counted(counted_farm(farm, 3), 2)
    everybody = [farmer.pid, *children_of(farmer.pid)]
    kill(everybody, signal.SIGSTOP)
    (folder,) = (farm.workdir / "running").iterdir()
    store = TextStore(Workdir(str(farm.workdir), process.new_owner()))
    owner = Owner.parse(folder.name)
    assert owner is not None
    store._recovery.take_over(owner)
    store.close()
    go(farm)
    farm.run("-n", "2", check=0)
    kill(everybody, signal.SIGCONT)
    status, said = ended(farmer)
    farm.assert_each_task_stands_once(3)
    assert status == 0 and "took over" in said, said


def the_farmer_alone_is_killed_and_another_comes(farm: Farm) -> None:
    """While the workers of the first still run their tasks."""
    farmer = start_counted(counted_farm(farm, 4), 2)
    farmer.kill()
    farmer.wait()
    second = farm.start("-n", "2")
    wait_until(
        lambda: all_exist(farm, "pid_2", "pid_3") or runs(farm, 0) != ["begun"], what="the second farmer's tasks"
    )
    go(farm)
    ended(second)
    farm.run("-n", "2", check=0)
    farm.assert_each_task_stands_once(4)
    assert [runs(farm, id) for id in range(4)] == [["begun", "ended"]] * 4


def a_sign_of_life_does_not_reach_the_disk(farm: Farm) -> None:
    """Nobody has seen it, and whoever gave it must know."""
    assert "Input/output error" in with_failing(farm.folder, "fdatasync:error=EIO", "Presence(ALIVE).beat()").stderr


CAUGHT_BY: dict[str, Callable[[Farm], None]] = {
    "done before it is written down": the_farmer_is_killed_in_an_exchange,
    "journal removed before it is done": the_farmer_is_killed_in_an_exchange,
    "token not checked by who takes over": a_dead_owner_is_found,
    "token not checked at the settle": the_disk_refuses_once_in_the_middle_of_a_settle,
    "not fenced": a_silent_farmer_is_taken_over,
    "outcome recorded only by the farmer": the_farmer_alone_is_killed,
    "presence held by the farmer alone": the_farmer_alone_is_killed_and_another_comes,
    "fsync left out: a sign of life": a_sign_of_life_does_not_reach_the_disk,
}


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_a_planted_mutant_is_caught(name: str, farm: Farm, tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(plant(MUTANTS[name], tmp_path_factory.mktemp("planted"))))
    with pytest.raises(AssertionError) as caught:
        CAUGHT_BY[name](farm)
    print(f"{name}: {str(caught.value).splitlines()[0]}")


@pytest.mark.parametrize(
    "scene",
    [scene for scene in dict.fromkeys(CAUGHT_BY.values()) if scene is not the_farmer_is_killed_in_an_exchange],
)
def test_the_healthy_program_survives_what_catches_the_mutants(
    scene, farm: Farm, tmp_path_factory, monkeypatch
) -> None:
    healthy = Mutant("none", "__init__.py", '__version__ = "', '__version__ = "', "nothing")
    monkeypatch.setenv("PYTHONPATH", str(plant(healthy, tmp_path_factory.mktemp("planted"))))
    scene(farm)
