"""Sentences whose facts a test cannot bring about: how many cores a host has, how long a run takes."""

from __future__ import annotations

import pytest

from taskfarmer.api import Start
from taskfarmer.cli.bar import Bar
from taskfarmer.cli.talk import Talk
from taskfarmer.cli.words import printable
from taskfarmer.farm.notices import OwnerLost, Progress, Staying, Stopping, Summary, Trouble
from taskfarmer.model import Owner
from taskfarmer.stores.base import Added

pytestmark = pytest.mark.quick

OWNER = Owner("n1", 4711, 8812345, "a1b2c3")
ADDED = Added(12, 12, 0, 12, 0, 0)
SUMMARY = Summary(0, 0, 0, 0, [], 0, 0, 0, 3.0, 0.0, 8, [], None, None)


@pytest.fixture
def talk() -> Talk:
    return Talk("tasks.txt", None, "lines", 0, True)


def start(slots: int, asked: int | None, usable: int, machine: int) -> Start:
    return Start("tasks.txt", "tasks.txt_workdir", OWNER, ADDED, slots, asked, usable, machine, "")


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ((8, None, 16, 16), "8 slots (default); 16 cores are free to use, -n alone uses all of them"),
        ((8, None, 64, 128), "8 slots (default); this job may use 64 of 128 cores, -n alone uses all of them"),
        ((8, None, 8, 8), "8 slots (default); 8 cores are free to use"),
        ((8, None, 2, 2), "8 slots (default); 2 cores are free to use, so they share them"),
        ((8, None, 1, 1), "8 slots (default); 1 core is free to use, so they share it"),
        ((8, None, 1, 64), "8 slots (default); this job may use 1 of 64 cores, so they share it"),
        ((1, 1, 1, 1), "1 slot; 1 core is free to use"),
        ((4, 4, 16, 16), "4 slots; 16 cores are free to use"),
        ((16, 0, 16, 128), "16 slots, one for each core this job may use (of 128)"),
        ((16, 0, 16, 16), "16 slots, one for each core"),
        ((1, 0, 1, 1), "1 slot, for the only core"),
        ((1, 0, 1, 8), "1 slot, for the only core this job may use (of 8)"),
    ],
)
def test_the_start_line_shows_slots_and_cores(talk: Talk, capsys, facts: tuple, sentence: str) -> None:
    talk.start(start(*facts))
    assert capsys.readouterr().out.splitlines() == [
        "pytaskfarmer 0.2.0  tasks.txt: 12 tasks -> tasks.txt_workdir",
        f"n1: {sentence}",
    ]


def test_a_batch_log_gets_a_line_every_ten_seconds_and_after_ten_minutes_every_minute(talk: Talk, capsys) -> None:
    talk.start(start(8, 8, 8, 8))
    capsys.readouterr()
    for second in range(1, 900):
        talk.hear(Progress(second, 1, 8, 1000 - second, float(second), 0.0))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "n1: 11 done (1 failed), 8 running, 990 left; 1.1 tasks/s, about 0:15:07 to go"
    assert len(lines) == 60 + 4


def test_slow_tasks_are_counted_by_the_minute(talk: Talk, capsys) -> None:
    talk.hear(Progress(2, 0, 8, 10, 60.0, 0.0))
    assert "2 done, 8 running, 10 left; 2.0 tasks/min, about 0:09:00 to go" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("notice", "sentence"),
    [
        (OwnerLost(OWNER, 0, 8, 0), "n1 (pid 4711) is gone: 8 tasks are back, no retry counted"),
        (OwnerLost(OWNER, 1, 1, 0), "n1 (pid 4711) is gone: 1 task had ended; 1 task is back, no retry counted"),
        (OwnerLost(OWNER, 3, 0, 0), "n1 (pid 4711) is gone: 3 tasks had ended"),
        (OwnerLost(OWNER, 0, 0, 2), "n1 (pid 4711) is gone: what it had left running was ended"),
    ],
)
def test_of_a_dead_farmer_is_said_what_became_of_its_tasks(talk: Talk, capsys, notice, sentence: str) -> None:
    talk.hear(notice)
    assert capsys.readouterr().out == sentence + "\n"


@pytest.mark.parametrize(
    ("running", "sentence"),
    [
        (0, "4 min left, tasks take up to 11 min: 58 held back."),
        (1, "4 min left, tasks take up to 11 min: 58 held back, 1 task still running."),
        (3, "4 min left, tasks take up to 11 min: 58 held back, 3 tasks still running."),
    ],
)
def test_what_does_not_fit_before_the_job_ends_is_held_back_and_counted(talk, capsys, running, sentence) -> None:
    talk.hear(Stopping("4 min left, tasks take up to 11 min", running, 5.0, drain=True, held_back=58))
    assert capsys.readouterr().out == sentence + "\n"


def test_work_that_others_still_do_is_named_at_the_end(talk: Talk, capsys) -> None:
    talk.end(SUMMARY._replace(finished=3, farm_finished=5, running_elsewhere=1))
    assert capsys.readouterr().out.splitlines() == [
        "3 finished, 0 failed in 0:00:03 (1.0 tasks/s, slots busy 0%)",
        "1 task still running elsewhere: pytaskfarmer.py status tasks.txt",
    ]


def test_who_still_runs_what_is_named(talk: Talk, capsys) -> None:
    holdings = [(OWNER, [7]), (OWNER._replace(host="n2", pid=12), [1, 2, 3, 4, 5, 6])]
    talk.end(SUMMARY._replace(finished=3, farm_finished=5, running_elsewhere=9, holdings=holdings))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "task 7 is still running on n1 (pid 4711)",
        "tasks 1 2 3 4 5 ... (6 in all) are still running on n2 (pid 12)",
        "2 more tasks still running elsewhere: pytaskfarmer.py status tasks.txt",
    ]


def test_the_one_that_speaks_for_a_job_says_how_far_all_are(talk: Talk, capsys) -> None:
    talk.start(start(8, 8, 8, 8))
    capsys.readouterr()
    talk.hear(Progress(130, 10, 24, 36, 60.0, 0.0, before=20, company=True))
    assert (
        capsys.readouterr().out
        == "n1: all farmers: 140 done (10 failed), 24 running, 36 left; 2.0 tasks/s, about 0:00:30 to go\n"
    )


def test_in_the_log_of_a_job_each_tells_of_its_own_and_one_of_all(talk: Talk, capsys) -> None:
    talk.start(start(8, 8, 8, 8)._replace(owner=OWNER._replace(nonce="a1b2c3-12")))
    talk.hear(Staying(2))
    capsys.readouterr()
    own = SUMMARY._replace(finished=3, failed=1, failed_ids=[7], farm_finished=20, farm_failed=2)
    talk.end(own)
    own_lines = capsys.readouterr().out.splitlines()
    assert own_lines == ["n1: 3 finished, 1 failed in 0:00:03 (1.3 tasks/s, slots busy 0%)", "n1: failed: 7"]
    talk.end(own._replace(speaks=True, left=5, stopped="SIGUSR1"))
    assert capsys.readouterr().out.splitlines() == [
        "n1: stopped: 3 finished, 1 failed, 5 left. Start the same line again.",
        "n1: failed: 7",
        "n1: the whole list: 20 finished, 2 failed, 5 left   again: pytaskfarmer.py retry tasks.txt --run",
    ]


def test_that_a_farmer_stays_is_said_with_its_reason(talk: Talk, capsys) -> None:
    talk.start(start(8, 8, 8, 8))
    talk.hear(Staying(1))
    assert capsys.readouterr().out.splitlines()[-1] == (
        "n1: nothing is left to start; staying while others run 1 task, should one of them be lost"
    )


def test_how_fast_it_went_is_a_number_for_long_tasks_too(talk: Talk, capsys) -> None:
    for seconds, rate in [(3.0, "0.7 tasks/s"), (20.0, "0.1 tasks/s"), (60.0, "2.0 tasks/min")]:
        talk.end(SUMMARY._replace(finished=2, farm_finished=2, seconds=seconds))
        assert f"({rate}, " in capsys.readouterr().out


def test_the_slowest_tasks_are_named_if_a_second_was_reached(talk: Talk, capsys) -> None:
    done = SUMMARY._replace(finished=2, farm_finished=2)
    talk.end(done._replace(slowest=[(3, 2.14), (5, 0.2)]))
    assert capsys.readouterr().out.splitlines()[1] == "slowest: 3 (2.1 s)  5 (0.2 s)"
    talk.end(done._replace(slowest=[(3, 0.9)]))
    assert "slowest" not in capsys.readouterr().out


def test_the_command_that_is_suggested_can_be_typed(capsys) -> None:
    for tasklist, word in [("my list", "'my list'"), ("status", "./status"), ("-x", "./-x")]:
        Talk(tasklist, None, "none", 0, True).end(SUMMARY._replace(farm_failed=1))
        assert f"pytaskfarmer.py retry {word} --run" in capsys.readouterr().out


def test_the_bar_counts_the_time_from_the_start_of_the_run() -> None:
    """It comes a second after that, or later: after a Ctrl-Z, say."""
    bar = Bar()
    bar.show(Progress(1, 0, 2, 3, 75.0, 0.0))
    bar.close()
    with bar._console.capture() as shown:
        bar._console.print(bar._progress.get_renderable())
    assert "1/6" in shown.get() and "0:01:15" in shown.get()


def test_what_is_no_text_is_said_all_the_same(talk: Talk, capsys) -> None:
    talk.hear(Trouble("a name of \udcff, and \ud83d of a class of yours: ☃"))
    assert capsys.readouterr().out.endswith("a name of ?, and ? of a class of yours: ☃\n")


def test_what_is_shown_of_a_task_cannot_upset_a_terminal() -> None:
    assert printable("a\x1b[2Jb\tc", 80) == "a?[2Jb?c"
    assert printable("x" * 100, 10) == "xxxxxxx..."
