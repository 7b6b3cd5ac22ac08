"""A person edits the state files while no farmer lives; an older PyTaskFarmer left a workdir."""

from __future__ import annotations

from pathlib import Path

import pytest
from textfarm import TextFarm, ended, finished

from taskfarmer.errors import StateError
from taskfarmer.model import Outcome, State

pytestmark = pytest.mark.quick


@pytest.fixture
def farm(tmp_path: Path) -> TextFarm:
    """Eight tasks: 0 and 1 finished, 2 and 3 failed, 4 to 7 wait."""
    farm = TextFarm(tmp_path)
    farm.load(*(f"echo {number}" for number in range(8)))
    with farm.farmer() as store:
        claims = store.exchange([], 4).claims
        store.exchange(finished(claims[:2]) + [ended(claim, Outcome.FAILED, 1) for claim in claims[2:]], 0)
    return farm


def start_again(farm: TextFarm, messages: list[str] | None = None) -> list[int]:
    """What `pytaskfarmer.py LIST` does: load, join, recover, work; the ids in the order they ran."""
    from taskfarmer.tasklists.lines import ListTaskList

    ran: list[int] = []
    store = farm.open(tell=(messages if messages is not None else []).append)
    store.load(ListTaskList(str(farm.tasklist)), "default")
    presence = store.join(1)
    store.recover()
    while claims := store.exchange([], 3).claims:
        ran += [claim.id for claim in claims]
        store.exchange(finished(claims), 0)
    store.leave()
    presence.close()
    store.close()
    assert {id: command for id, (_, command) in farm.standing().items() if id < 8} == {
        id: f"echo {id}" for id in range(8)
    }
    return ran


def append(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


def test_cat_failed_to_toprocess_and_rm_failed_runs_them_again(farm: TextFarm) -> None:
    append(farm.file("toprocess"), farm.file("failed").read_bytes())
    farm.file("failed").unlink()
    assert sorted(start_again(farm)) == [2, 3, 4, 5, 6, 7]
    assert farm.ids("failed") == []


def test_cat_failed_to_toprocess_without_rm_runs_them_once(farm: TextFarm) -> None:
    append(farm.file("toprocess"), farm.file("failed").read_bytes())
    messages: list[str] = []
    assert sorted(start_again(farm, messages)) == [2, 3, 4, 5, 6, 7]
    assert farm.ids("failed") == [] and any("by hand" in message for message in messages)


def test_a_removed_toprocess_comes_back_whole(farm: TextFarm) -> None:
    farm.file("toprocess").unlink()
    assert sorted(start_again(farm)) == [4, 5, 6, 7]
    assert farm.ids("failed") == [2, 3]


def test_a_removed_failed_file_means_run_them_again(farm: TextFarm) -> None:
    """Nothing is lost (P1): a task that stands in no file comes back from the list."""
    farm.file("failed").unlink()
    assert sorted(start_again(farm)) == [2, 3, 4, 5, 6, 7]


def test_removed_state_files_come_back_from_the_list(farm: TextFarm) -> None:
    for name in ("toprocess", "later", "finished", "failed", "sizes", "attempts"):
        farm.file(name).unlink()
    assert sorted(start_again(farm)) == list(range(8))


def test_a_removed_toprocess_comes_back_though_somebody_looked_in_between(farm: TextFarm) -> None:
    """`status` has no list to bring them back from; the next farmer has."""
    farm.file("toprocess").unlink()
    assert farm.open().counts()[State.TOPROCESS] == 0
    assert farm.open().requeue([2]) == 1
    assert sorted(start_again(farm)) == [2, 4, 5, 6, 7]


def test_a_toprocess_removed_after_the_list_was_edited_comes_back(farm: TextFarm) -> None:
    """Its ids are no longer indices of lines, so the lines come back with new ones."""
    farm.load("new line", *(f"echo {number}" for number in range(8)))
    farm.file("toprocess").unlink()
    added = farm.reload()
    assert (added.new, added.left, added.total) == (4, 5, 9)
    assert sorted(command for _, command in farm.tasks("later")) == [*(f"echo {id}" for id in range(4, 8)), "new line"]
    assert farm.reload().new == 0


def test_an_added_task_that_a_person_removed_is_gone(farm: TextFarm) -> None:
    """It stands in no list: what a person removes there is removed, and looked for once."""
    farm.open().add(["added"])
    farm.file("later").unlink()
    assert farm.reload().left == 4
    assert sorted(start_again(farm)) == [4, 5, 6, 7]


def test_a_farmer_that_notices_an_edit_sees_what_others_have_loaded_just_before(farm: TextFarm) -> None:
    """It may remember `farm.json` for seconds; by that, the lines of a grown list would have been added by hand."""
    with farm.farmer() as store:
        claims = store.exchange([], 1).claims
        farm.load(*(f"echo {number}" for number in range(12)))
        append(farm.file("toprocess"), farm.file("failed").read_bytes())
        claims += store.exchange([], 20).claims
        claims += store.exchange([], 20).claims
        assert sorted(claim.id for claim in claims) == [*range(2, 12)]
        store.exchange(finished(claims), 0)
    assert farm.reload().new == 0
    assert farm.load(*(f"echo {number}" for number in range(13))).total == 13
    assert [id for id, command in farm.tasks("later") if command == "echo 12"] == [12]


def test_a_moved_line_stays_where_it_was_moved(farm: TextFarm) -> None:
    lines = farm.file("toprocess").read_bytes().splitlines(keepends=True)
    farm.file("toprocess").write_bytes(b"".join([*lines[1:], lines[0]]))
    assert start_again(farm) == [7, 4, 5, 6]


def test_a_task_that_stands_twice_runs_once(farm: TextFarm) -> None:
    farm.file("toprocess").write_bytes(farm.file("toprocess").read_bytes() * 2)
    assert start_again(farm) == [4, 5, 6, 7]


def test_a_finished_task_that_also_waits_stays_finished(farm: TextFarm) -> None:
    append(farm.file("toprocess"), b"0 echo 0\n")
    assert start_again(farm) == [4, 5, 6, 7]


def test_a_task_written_in_by_hand_runs(farm: TextFarm) -> None:
    append(farm.file("toprocess"), b"8 by hand\n")
    assert start_again(farm) == [8, 4, 5, 6, 7]
    assert farm.standing()[8] == ("finished", "by hand")
    assert farm.open().add(["next"]).total == 10


@pytest.mark.parametrize("name", ["toprocess", "later", "finished", "failed"])
@pytest.mark.parametrize("line", [b"no id", b"12", b"-3 echo", b"x" * 200])
def test_a_broken_line_is_an_error_that_names_file_and_line(farm: TextFarm, name: str, line: bytes) -> None:
    append(farm.file(name), line + b"\n")
    number = farm.file(name).read_bytes().count(b"\n")
    before = farm.content()
    with pytest.raises(StateError) as found:
        start_again(farm)
    assert f"{farm.file(name)}, line {number}:" in str(found.value)
    assert line.decode()[:60] in str(found.value)
    assert farm.content() == before
    farm.file(name).write_bytes(farm.file(name).read_bytes()[: -len(line) - 1])
    assert sorted(start_again(farm)) == [4, 5, 6, 7]


def test_a_blank_line_is_no_harm(farm: TextFarm) -> None:
    for name in ("toprocess", "later", "finished", "failed"):
        append(farm.file(name), b"\n")
    assert start_again(farm) == [4, 5, 6, 7]


def test_a_last_line_without_newline_is_a_persons_and_whole(farm: TextFarm) -> None:
    append(farm.file("toprocess"), b"3 echo 3")
    assert start_again(farm) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", ["toprocess", "later", "finished", "failed"])
def test_what_is_appended_to_a_last_line_without_newline_does_not_melt_with_it(farm: TextFarm, name: str) -> None:
    append(farm.file(name), b"8 echo by hand")
    store = farm.open()
    presence = store.join(1)
    claims = store.exchange([], 3).claims
    outcomes = [Outcome.FINISHED, Outcome.FAILED, Outcome.INTERRUPTED]
    store.exchange([ended(claim, outcome) for claim, outcome in zip(claims, outcomes)], 0)
    store.add(["new"])
    store.leave()
    presence.close()
    assert sorted(farm.standing()) == list(range(10))
    assert {command for id, (_, command) in farm.standing().items() if id > 7} == {"echo by hand", "new"}


def test_an_edit_is_noticed_whichever_verb_comes_first(farm: TextFarm) -> None:
    append(farm.file("toprocess"), farm.file("failed").read_bytes())
    farm.file("failed").unlink()
    assert farm.open().counts() == {State.TOPROCESS: 6, State.RUNNING: 0, State.FINISHED: 2, State.FAILED: 0}
    assert farm.open().requeue(None) == 0


def test_counts_are_right_after_lines_were_removed(farm: TextFarm) -> None:
    farm.file("failed").write_bytes(b"2 echo 2\n")
    farm.file("toprocess").write_bytes(b"".join(farm.file("toprocess").read_bytes().splitlines(keepends=True)[:2]))
    farm.reload()
    counts = farm.open().counts()
    assert sum(counts.values()) == 8 and counts[State.FAILED] == 1


def test_an_absurd_id_is_an_error_not_a_memory_hog(farm: TextFarm) -> None:
    append(farm.file("toprocess"), b"99999999999999 echo\n")
    with pytest.raises(StateError, match="99999999999999"):
        start_again(farm)


# What the ancestor (0.1.0) left


def ancestor(folder: Path, **state: str) -> TextFarm:
    farm = TextFarm(folder)
    farm.write("".join(f"echo {number}\n" for number in range(8)).encode())
    (farm.path / "logs").mkdir(parents=True)
    (farm.path / "timeline.json").write_text("[]")
    for name, content in state.items():
        farm.file(name).write_text(content)
    return farm


def of(*ids: int) -> str:
    return "".join(f"{id} echo {id}\n" for id in ids)


def test_an_ancestors_workdir_whose_running_tasks_were_lost_is_finished(tmp_path: Path) -> None:
    farm = ancestor(tmp_path, toprocess=of(5, 6, 7), finished=of(1, 0), failed=of(3))
    assert start_again(farm) == [2, 4, 5, 6, 7]
    assert farm.ids("failed") == [3] and farm.ids("finished")[:2] == [1, 0]


def test_an_ancestors_workdir_before_its_first_task_is_begun(tmp_path: Path) -> None:
    assert start_again(ancestor(tmp_path)) == list(range(8))


def test_an_ancestors_finished_workdir_has_nothing_left(tmp_path: Path) -> None:
    farm = ancestor(tmp_path, toprocess="", finished=of(*range(8)))
    assert start_again(farm) == []


def test_an_ancestors_task_that_was_requeued_and_finished_twice_stands_once(tmp_path: Path) -> None:
    """Its idle workers put finished tasks back (ANCESTORS A6-4), and `finished` may hold one twice."""
    farm = ancestor(tmp_path, toprocess=of(0, 5, 6, 7), finished=of(0, 1, 2, 2), failed=of(3, 2))
    assert start_again(farm) == [4, 5, 6, 7]
    assert sorted(farm.ids("finished")) == [0, 1, 2, 4, 5, 6, 7] and farm.ids("failed") == [3]


def test_an_ancestors_torn_line_is_an_error_with_its_place(tmp_path: Path) -> None:
    farm = ancestor(tmp_path, toprocess=of(5, 6, 7), finished=of(0) + "garbage\n")
    with pytest.raises(StateError, match=r"finished, line 2"):
        start_again(farm)
