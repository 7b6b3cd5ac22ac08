"""What a farmer claimed too much of is done by others: short tasks make it claim ahead, long ones make that wait."""

from __future__ import annotations

import subprocess

import pytest
from conftest import Farm, wait_until
from farmhands import ended

from test_failing_disks import Fault, refusing  # isort: skip
from test_several_farmers import begun_by, counted_farm, go, kill_everything, start  # isort: skip

SHORT, LONG = 300, 8
COUNT = 7 + SHORT + LONG

#: A farmer gives back by appending to `toprocess` and writing its `claims` anew.
REFUSED = [
    Fault("toprocess", "pwrite64", "ENOSPC"),
    Fault("toprocess", "fsync", "EIO"),
    Fault("toprocess", "fsync,ftruncate", "EIO"),  # nor can it be taken back: it stays written down
    Fault("running/OWNER/claims", "fsync", "EIO"),
    Fault("journal", "fsync", "EIO"),
    Fault("sizes", "pwrite64", "EDQUOT"),
]


class Uneven:
    """A farm in which `hasty` holds claims that it cannot begin, and `wide`, still blocked, soon has slots for them."""

    def __init__(self, farm: Farm) -> None:
        self.farm = counted_farm(farm, 0)
        blocked = ["until [ -e free ]; do sleep 0.02; done; touch was_blocked_$PROC_NUMBER"] * 6
        farm.write("sh counted.sh", *blocked, *["true"] * SHORT, *["sh counted.sh"] * LONG)
        self.wide = farm.start("-n", "7")
        wait_until(lambda: len(begun_by(farm, self.wide)) == 1, what="the first task")
        self.hasty = farm.start("-n", "2")
        wait_until(lambda: len(begun_by(farm, self.hasty)) == 2, what="the first long tasks")
        (claims,) = (farm.workdir / "running").glob(f"*.{self.hasty.pid}.*/claims")
        self.hastys_name = claims.parent.name
        wait_until(lambda: claims.read_text().count("counted.sh") == LONG, what="it has claimed them all")

    def free(self) -> None:
        (self.farm.folder / "free").touch()

    def wait_until_others_have_begun_all(self) -> None:
        others = 1 + LONG - 2
        wait_until(lambda: len(begun_by(self.farm, self.wide)) == others, 60, what="what the other had too much of")

    def end(self, *farmers: subprocess.Popen[str]) -> None:
        go(self.farm)
        for farmer in farmers:
            status, said = ended(farmer, 60)
            assert status == 0, said

    def assert_each_ran_once(self) -> None:
        self.farm.assert_each_task_stands_once(COUNT)
        assert not (self.farm.folder / "twice").exists()
        assert all(len(path.read_text().split()) == 1 for path in self.farm.folder.glob("begun_*"))


@pytest.mark.quick
def test_nobody_idles_while_another_farmer_holds_work_that_it_cannot_begin(farm: Farm) -> None:
    uneven = Uneven(farm)
    uneven.free()
    uneven.wait_until_others_have_begun_all()
    uneven.end(uneven.wide, uneven.hasty)
    uneven.assert_each_ran_once()
    assert not farm.lines("attempts"), "what was not begun is no attempt"


@pytest.mark.components
@pytest.mark.parametrize("fault", REFUSED, ids=str)
def test_what_a_disk_would_not_take_back_for_a_moment_is_given_back_then(farm: Farm, fault: Fault) -> None:
    uneven = Uneven(farm)
    with refusing(fault, farm, uneven.hastys_name, uneven.hasty.pid):
        uneven.free()
        said = wait_for_line(uneven.hasty, "trying again")
    uneven.wait_until_others_have_begun_all()
    uneven.end(uneven.wide, uneven.hasty)
    uneven.assert_each_ran_once()
    assert not farm.lines("attempts"), said


@pytest.mark.components
def test_what_has_ended_is_settled_though_the_disk_takes_nothing_back(farm: Farm) -> None:
    uneven = Uneven(farm)
    with refusing(REFUSED[0], farm, uneven.hastys_name, uneven.hasty.pid):
        uneven.free()
        wait_for_line(uneven.hasty, "trying again")
        go(farm)
        uneven.end(uneven.wide)
        status, said = ended(uneven.hasty, 60)
        assert status == 75, said
        assert set(begun_by(farm, uneven.hasty)) <= set(farm.ids("finished")), said
    farm.run(check=0)
    uneven.assert_each_ran_once()


@pytest.mark.components
def test_who_takes_over_from_the_dead_claims_no_more_than_it_can_begin(farm: Farm) -> None:
    counted_farm(farm, 0).write("until [ -e free ]; do sleep 0.02; done", *["sh counted.sh"] * 5)
    heir = farm.start("-n", "2")
    wait_until(lambda: len(begun_by(farm, heir)) == 1, what="its tasks")
    kill_everything(start(farm, 4))
    wait_for_line(heir, "is gone")
    (farm.folder / "free").touch()
    wait_until(lambda: len(begun_by(farm, heir)) == 2, what="the first of the dead one's tasks")
    (claims,) = (farm.workdir / "running").glob("*/claims")
    assert len(claims.read_text().splitlines()) == 2
    go(farm)
    assert ended(heir)[0] == 0
    farm.assert_each_task_stands_once(6)


def wait_for_line(farmer: subprocess.Popen[str], words: str) -> str:
    """Read what a farmer says up to a line with these words."""
    assert farmer.stdout is not None
    said = ""
    for line in farmer.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it never said {words!r}: {said}")
