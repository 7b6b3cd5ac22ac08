"""A list that comes again: unchanged, touched, grown, edited, or another one. An id keeps its command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest
from textfarm import TextFarm, ended, finished, work_off

from taskfarmer.errors import UsageError
from taskfarmer.model import Outcome
from taskfarmer.tasklists.lines import ListTaskList

pytestmark = pytest.mark.quick


@pytest.fixture
def farm(tmp_path: Path) -> TextFarm:
    return TextFarm(tmp_path)


def settle(farm: TextFarm, count: int, outcome: Outcome = Outcome.FINISHED) -> None:
    with farm.farmer() as store:
        store.exchange([ended(claim, outcome) for claim in store.exchange([], count).claims], 0)


def commands(farm: TextFarm) -> dict[int, str]:
    return {id: command for id, (_, command) in farm.standing().items()}


def test_a_new_list_is_loaded_in_its_order(farm: TextFarm) -> None:
    added = farm.load("a", "b", "c")
    assert added == (3, 3, 0, 3, 0, 0)
    assert work_off(farm) == [(0, "a"), (1, "b"), (2, "c")]


def test_an_unchanged_list_changes_nothing(farm: TextFarm) -> None:
    farm.load("a", "b", "c")
    settle(farm, 1)
    before = farm.content()
    assert farm.reload() == (3, 0, 0, 2, 1, 0)
    assert farm.content() == before


def test_a_touched_list_changes_nothing(farm: TextFarm) -> None:
    farm.load("a", "b", "c")
    settle(farm, 1)
    assert farm.load("a", "b", "c") == (3, 0, 0, 2, 1, 0)
    assert farm.load("a", "b", "c", "d").new == 1, "and it is remembered what was touched"
    assert work_off(farm) == [(1, "b"), (2, "c"), (3, "d")]


def test_a_grown_list_adds_its_new_lines_behind_the_rest(farm: TextFarm) -> None:
    farm.load("a", "b")
    settle(farm, 1)
    assert farm.load("a", "b", "c", "a") == (4, 2, 0, 3, 1, 0)
    assert work_off(farm) == [(1, "b"), (2, "c"), (3, "a")]
    assert farm.load("a", "b", "c", "a", "e").new == 1
    assert work_off(farm) == [(4, "e")]


class GrowsAsItIsRead(ListTaskList):
    """Somebody appends a line the moment after the last one was read."""

    appended_lines_are_new = True  # otherwise a list is read twice

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        with open(self.path, "a") as file:
            file.write("late\n")


@pytest.mark.parametrize("before", [[], ["a"]], ids=["new", "known"])
def test_a_line_that_comes_while_the_list_is_read_is_not_lost(farm: TextFarm, before: list[str]) -> None:
    if before:
        farm.load(*before)
    farm.write(b"a\nb\n")
    store = farm.open()
    store.load(GrowsAsItIsRead(str(farm.tasklist)), "default")
    store.close()
    farm.reload()
    farm.reload()
    assert work_off(farm) == [(0, "a"), (1, "b"), (2, "late")]


def test_a_list_that_was_empty_grows(farm: TextFarm) -> None:
    assert farm.load().total == 0
    assert farm.load("a", "b") == (2, 2, 0, 2, 0, 0)
    assert work_off(farm) == [(0, "a"), (1, "b")]


def test_a_list_of_comments_grows(farm: TextFarm) -> None:
    assert farm.load("# nothing yet").total == 0
    assert farm.load("# nothing yet", "a").new == 1
    assert work_off(farm) == [(0, "a")]


def test_a_last_line_that_was_unfinished_when_it_was_loaded_is_another_line_now(farm: TextFarm) -> None:
    farm.load_bytes(b"a\nsleep 1")
    assert farm.load_bytes(b"a\nsleep 10\n") == (2, 1, 1, 2, 0, 0)
    assert work_off(farm) == [(0, "a"), (2, "sleep 10")]


def test_a_newline_at_the_end_of_the_last_line_is_no_change(farm: TextFarm) -> None:
    farm.load_bytes(b"a\nb")
    assert farm.load_bytes(b"a\nb\n")[:3] == (2, 0, 0)
    assert work_off(farm) == [(0, "a"), (1, "b")]


def test_a_list_grows_after_tasks_were_added(farm: TextFarm) -> None:
    farm.load("a", "b")
    farm.open().add(["x", "y", "z"])
    assert farm.load("a", "b", "c", "d").new == 2
    assert work_off(farm) == [(0, "a"), (1, "b"), (2, "x"), (3, "y"), (4, "z"), (5, "c"), (6, "d")]


def test_a_list_grows_after_a_task_was_added_by_hand(farm: TextFarm) -> None:
    farm.load("a", "b")
    settle(farm, 1)
    with open(farm.file("toprocess"), "ab") as toprocess:
        toprocess.write(b"2 by hand\n")
    settle(farm, 1)
    assert farm.load("a", "b", "c").new == 1
    assert work_off(farm) == [(1, "b"), (3, "c")]


def test_added_tasks_are_no_lines_of_the_list_and_outlive_its_edit(farm: TextFarm) -> None:
    farm.load("a", "b", "c")
    farm.open().add(["x"])
    assert farm.load("a", "B", "c")[:3] == (4, 1, 1)
    assert [command for _, command in work_off(farm)] == ["a", "c", "x", "B"]


def test_a_line_edited_in_the_middle_is_a_new_task_and_the_old_one_is_dropped(farm: TextFarm) -> None:
    farm.load("a", "b", "c", "d")
    settle(farm, 1)
    assert farm.load("a", "b", "C", "d") == (4, 1, 1, 3, 1, 0)
    assert work_off(farm) == [(1, "b"), (3, "d"), (4, "C")]
    assert commands(farm) == {0: "a", 1: "b", 3: "d", 4: "C"}


def test_lines_removed_before_they_ran_are_dropped_and_what_has_run_stays(farm: TextFarm) -> None:
    farm.load("a", "b", "c", "d", "e")
    settle(farm, 2)
    assert farm.load("b", "e") == (3, 0, 2, 1, 2, 0)
    assert work_off(farm) == [(4, "e")]
    assert commands(farm) == {0: "a", 1: "b", 4: "e"}


def test_duplicate_lines_are_matched_as_often_as_they_occur(farm: TextFarm) -> None:
    farm.load("a", "a", "a", "b")
    settle(farm, 1)
    assert farm.load("b", "a", "a", "a", "a") == (5, 1, 0, 4, 1, 0)
    assert farm.load("a", "b", "a") == (3, 0, 2, 2, 1, 0)
    assert [command for _, command in work_off(farm)] == ["a", "b"]


def test_a_reordered_list_changes_nothing(farm: TextFarm) -> None:
    farm.load("a", "b", "c", "d")
    settle(farm, 1)
    assert farm.load("d", "c", "b", "a") == (4, 0, 0, 3, 1, 0)
    assert work_off(farm) == [(1, "b"), (2, "c"), (3, "d")]


def test_an_edited_list_may_grow_and_be_edited_again(farm: TextFarm) -> None:
    farm.load("a", "b", "c")
    assert farm.load("a", "X", "c")[:3] == (3, 1, 1)
    assert farm.load("a", "X", "c", "d")[:3] == (4, 1, 0)
    assert farm.load("a", "X", "c", "d")[:3] == (4, 0, 0)
    assert work_off(farm) == [(0, "a"), (2, "c"), (3, "X"), (4, "d")]


def test_a_running_task_whose_line_was_removed_runs_on(farm: TextFarm) -> None:
    farm.load("a", "b", "c")
    with farm.farmer() as store:
        claims = store.exchange([], 1).claims
        assert farm.load("b", "c", "d") == (4, 1, 0, 3, 0, 0)
        assert store.exchange(finished(claims), 0).refused == []
    assert work_off(farm) == [(1, "b"), (2, "c"), (3, "d")]


def test_another_list_is_refused_and_nothing_is_touched(farm: TextFarm) -> None:
    farm.load("a", "b", "c")
    settle(farm, 1)
    before = farm.content()
    with pytest.raises(UsageError) as refused:
        farm.load("x", "y")
    for part in (str(farm.path), str(farm.tasklist), "--workdir", "--replace"):
        assert part in str(refused.value)
    assert farm.content() == before
    assert farm.load("a", "b", "c").new == 0, "the right list goes on"
    assert work_off(farm) == [(1, "b"), (2, "c")]


def test_another_list_is_refused_when_everything_was_done(farm: TextFarm) -> None:
    farm.load("a", "b")
    work_off(farm)
    before = farm.content()
    with pytest.raises(UsageError):
        farm.load("x", "y")
    assert farm.content() == before


def test_replace_forgets_the_old_list(farm: TextFarm) -> None:
    farm.load("a", "b", "c")
    settle(farm, 2, Outcome.FAILED)
    assert farm.load("x", "a", replace=True) == (2, 2, 0, 2, 0, 0)
    with farm.farmer() as store:
        claims = store.exchange([], 9).claims
        assert [(claim.id, claim.command, claim.attempt) for claim in claims] == [(0, "x", 1), (1, "a", 1)]
        store.exchange(finished(claims), 0)
    assert commands(farm) == {0: "x", 1: "a"}


def test_replace_is_refused_while_somebody_works_there(farm: TextFarm) -> None:
    farm.load("a", "b")
    with farm.farmer() as store:
        claims = store.exchange([], 1).claims
        before = farm.content()
        with pytest.raises(UsageError, match="--replace"):
            farm.load("x", replace=True)
        assert farm.content() == before
        store.exchange(finished(claims), 0)


def test_replace_forgets_what_a_dead_farmer_held(farm: TextFarm) -> None:
    farm.load("a", "b", "c")
    store = farm.open()
    store.join(1).close()
    store.exchange([], 2)
    # Dead, as others see it: its process has no presence any more.
    (folder,) = (farm.path / "running").iterdir()
    folder.rename(folder.with_name(f"{folder.name.split('.')[0]}.999999.1.abcdef"))
    assert farm.load("x", "y", replace=True).total == 2
    assert [command for _, command in work_off(farm)] == ["x", "y"]
    assert commands(farm) == {0: "x", 1: "y"}


def test_an_old_view_of_the_list_changes_nothing(farm: TextFarm) -> None:
    """A node whose filesystem still shows yesterday's copy must not undo what a newer one said."""
    farm.load("a", "b", "c", "d")
    before = farm.content()
    assert farm.load_bytes(b"a\nb\n", newer=False)[:3] == (4, 0, 0)
    assert farm.load_bytes(b"something else\n", newer=False)[:3] == (4, 0, 0)
    assert farm.content() == before


def test_of_an_old_view_of_the_list_is_said_what_to_do_if_it_is_none(farm: TextFarm) -> None:
    farm.load("a", "b")
    farm.write(b"a\nc\n", newer=False)
    said: list[str] = []
    store = farm.open(tell=said.append)
    store.load(ListTaskList(str(farm.tasklist)), "default")
    store.close()
    assert len(said) == 1 and said[0].endswith(f"touch {farm.tasklist}"), said
    farm.write(b"a\nc\n")
    assert farm.reload()[:3] == (2, 1, 1)


@pytest.mark.parametrize("age", [-1_000_000_000, 0], ids=["older", "of the same instant"])
def test_another_file_that_is_no_newer_is_not_taken_for_the_list(farm: TextFarm, age: int) -> None:
    """As large, and written in the same instant or before: it is another list, and nothing of it would be run."""
    farm.load("a", "b")
    work_off(farm)
    before = farm.content()
    when = farm.tasklist.stat().st_mtime_ns + age
    farm.tasklist = farm.tasklist.with_name("other.txt")
    farm.tasklist.write_text("x\ny\n")
    os.utime(farm.tasklist, ns=(when, when))
    with pytest.raises(UsageError, match=r"belongs to another list: .*tasks\.txt, and .*other\.txt is not newer"):
        farm.reload()
    assert farm.content() == before


def test_another_copy_of_the_same_list_is_the_same_list(farm: TextFarm) -> None:
    farm.load("a", "b")
    farm.tasklist = farm.tasklist.with_name("copy.txt")
    assert farm.load("a", "b")[:3] == (2, 0, 0)
    assert work_off(farm) == [(0, "a"), (1, "b")]


def test_a_large_list_is_edited(farm: TextFarm) -> None:
    lines = [f"echo {number}" for number in range(6000)]
    farm.load(*lines)
    settle(farm, 1000)
    del lines[500:5500:5]  # a hundred that have run, nine hundred that have not
    assert farm.load(*lines, "new") == (5101, 1, 900, 4101, 1000, 0)
    ran = work_off(farm, at_once=5000)
    assert len(ran) == 4101 and ran[-1] == (6000, "new") and ran[0] == (1001, "echo 1001")
