"""What a farmer claimed too much of is done by others: short tasks make it claim ahead, long ones make that wait."""

from __future__ import annotations

import pytest
from conftest import Farm, wait_until
from farmhands import ended, nobody_is_left_behind, wait_for  # noqa: F401  (the fixture works by being here)

from test_several_farmers import begun_by, counted_farm, go  # isort: skip

pytestmark = pytest.mark.quick

SHORT, LONG = 300, 8


def test_nobody_idles_while_another_farmer_holds_work_that_it_cannot_begin(farm: Farm) -> None:
    counted_farm(farm, 0)
    blocked = ["until [ -e free ]; do sleep 0.02; done; touch was_blocked_$PROC_NUMBER"] * 6
    farm.write("sh counted.sh", *blocked, *["true"] * SHORT, *["sh counted.sh"] * LONG)
    wide = farm.start("-n", "7")
    wait_until(lambda: len(begun_by(farm, wide)) == 1, what="the first task")
    hasty = farm.start("-n", "2")
    wait_until(lambda: len(begun_by(farm, hasty)) == 2, what="the first long tasks")
    held = lambda farmer: next((farm.workdir / "running").glob(f"*.{farmer.pid}.*/claims")).read_text()  # noqa: E731
    wait_until(lambda: held(hasty).count("counted.sh") == LONG, what="it has claimed them all")
    (farm.folder / "free").touch()
    wait_until(lambda: len(begun_by(farm, wide)) == 1 + LONG - 2, what="what the other had too much of")
    go(farm)
    for farmer in (wide, hasty):
        status, said = ended(farmer)
        assert status == 0, said
    farm.assert_each_task_stands_once(7 + SHORT + LONG)
    assert not (farm.folder / "twice").exists()
    assert not farm.lines("attempts"), "what was not begun is no attempt"
