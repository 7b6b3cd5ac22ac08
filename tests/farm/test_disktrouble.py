"""What a farmer makes of a disk that refuses. With real disks: test_failing_disks.py."""

from __future__ import annotations

import pytest

from taskfarmer.farm.disktrouble import PATIENCE, DiskTrouble

pytestmark = pytest.mark.quick


def test_a_message_is_news_once_however_often_the_disk_refuses_it() -> None:
    trouble = DiskTrouble()
    assert trouble.meet("full", 0.0) and not trouble.meet("full", 1.0)
    trouble.is_over()
    assert not trouble.is_there
    assert not trouble.meet("full", 2.0), "it was told before"
    trouble.is_over()
    assert trouble.meet("input/output error", 3.0)


def test_it_is_tried_again_after_a_pause_and_left_when_it_lasts_too_long() -> None:
    trouble = DiskTrouble()
    trouble.meet("full", 100.0)
    assert 100.0 < trouble.try_at < 101.0
    assert not trouble.lasts_too_long(100.0 + PATIENCE) and trouble.lasts_too_long(100.1 + PATIENCE)
    trouble.is_over()
    trouble.meet("full", 200.0)
    assert not trouble.lasts_too_long(201.0), "counted anew"
