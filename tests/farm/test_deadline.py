"""What is not begun because the job ends too soon, and how task lengths are learned and told to other farmers."""

from __future__ import annotations

import json
import os
import time

import pytest
from conftest import Farm, wait_until
from farmhands import ended, processes_in

from taskfarmer.farm.deadline import NEVER, Deadline, JobEnd
from taskfarmer.farm.lengths import Lengths
from taskfarmer.model import Attempt, Claim, Outcome

pytestmark = pytest.mark.quick

MINUTE = 60.0
MANY = 1500  # so many that not all are claimed before the first are settled
LATER = JobEnd(at=60 * MINUTE, whole=60 * MINUTE, margin=MINUTE)


def attempt(wall: float, outcome: Outcome = Outcome.FINISHED) -> Attempt:
    return Attempt(Claim(1, 1, 1, 0, "true"), outcome, wall=wall)


def learned(*walls: float) -> Lengths:
    lengths = Lengths({})
    for wall in walls:
        lengths.note(attempt(wall))
    return lengths


# Learning


def test_nothing_is_concluded_from_fewer_than_twenty_attempts() -> None:
    assert learned(*[5.0] * 19).usual is None
    assert learned(*[5.0] * 20).usual == pytest.approx(5.0, rel=0.2)


def test_nine_of_ten_tasks_take_no_longer_than_what_is_learned() -> None:
    walls = [float(n) for n in range(1, 1001)]
    usual = learned(*walls).usual
    assert 900 <= usual < 900 * 1.2


def test_what_was_cut_short_or_could_not_start_says_nothing_of_lengths() -> None:
    lengths = learned(*[5.0] * 20)
    for outcome in (Outcome.INTERRUPTED, Outcome.WORKER_LOST, Outcome.NOT_STARTED, Outcome.CANCELLED):
        for _ in range(1000):
            lengths.note(attempt(0.1, outcome))
    assert lengths.usual == pytest.approx(5.0, rel=0.2)


def test_what_others_have_learned_counts_before_the_first_task_has_ended() -> None:
    told = learned(*[300.0] * 20).news
    assert Lengths(json.loads(json.dumps(told))).usual == pytest.approx(300.0, rel=0.2)


def test_farmers_of_which_none_sees_twenty_tasks_end_learn_together() -> None:
    """Four slots, tasks of 25 minutes, jobs of two hours: sixteen attempts, and then the farmer is gone."""
    told: dict[str, int] = {}
    for _ in range(2):
        lengths = Lengths(told)
        for _ in range(16):
            lengths.note(attempt(25 * MINUTE))
            if news := lengths.news:
                told = {step: told.get(step, 0) + news.get(step, 0) for step in {*told, *news}}
                lengths.hear(told)
                lengths.are_told()
    assert Lengths(told).usual == pytest.approx(25 * MINUTE, rel=0.2)


def test_a_few_short_tasks_are_not_worth_telling() -> None:
    assert not learned(*[25.0] * 19).news


@pytest.mark.parametrize("seconds", [2.0, 1000.0])
def test_the_farm_is_told_seldom_however_many_tasks_there_are(seconds: float) -> None:
    lengths, told, times = Lengths({}), {}, 0
    for _ in range(100_000):
        lengths.note(attempt(seconds))
        if news := lengths.news:
            times += 1
            told = {step: told.get(step, 0) + news.get(step, 0) for step in {*told, *news}}
            lengths.hear(told)
            lengths.are_told()
    assert 2 < times < 60
    assert sum(told.values()) >= 75_000
    assert lengths.usual == pytest.approx(seconds, rel=0.2)


def test_what_is_told_of_a_million_lengths_is_small() -> None:
    assert len(json.dumps(learned(*[1.0001**n for n in range(140_000)]).news)) < 2000


# Deciding


def test_what_was_declared_counts_from_the_first_task() -> None:
    deadline = Deadline(LATER, expect=11 * MINUTE, slots=8)
    assert deadline.may_begin(49 * MINUTE)
    assert not deadline.may_begin(50 * MINUTE)
    request = deadline.request(56 * MINUTE, waiting=58)
    assert request is not None and request.reason == "4 min left, tasks take up to 11 min"
    assert request.drain and request.times_up and request.held_back == 58


def test_a_first_round_is_begun_whatever_others_have_learned() -> None:
    deadline = Deadline(LATER, expect=None, slots=2)
    deadline.hear(learned(*[1000.0] * 20).news, news_are_told=False)
    deadline.note_begun(1)
    assert deadline.may_begin(59 * MINUTE)
    deadline.note_begun(1)
    assert not deadline.may_begin(59 * MINUTE)
    assert deadline.may_begin(30 * MINUTE)


def test_nothing_stops_a_farmer_that_has_nothing_to_begin() -> None:
    assert Deadline(LATER, expect=11 * MINUTE, slots=8).request(56 * MINUTE, waiting=0) is None


def test_tasks_longer_than_the_whole_job_are_no_matter_of_time() -> None:
    request = Deadline(LATER, expect=90 * MINUTE, slots=8).request(0.0, waiting=58)
    assert request is not None and request.reason == "tasks take up to 1.5 h, the whole job has 60 min"
    assert request.drain and not request.times_up


def test_a_job_that_is_all_margin_is_too_short_however_often_it_is_started(farm: Farm) -> None:
    done = farm.write("touch one").run("--walltime", "1m", check=75)
    assert "stopping (the whole job is too short, with --margin 60 s)" in done.stdout
    assert "stopped: 0 finished, 0 failed, 1 left. Start the same line in a longer job." in done.stdout
    assert not (farm.folder / "one").exists()


def test_at_the_end_what_runs_is_ended() -> None:
    request = Deadline(LATER, expect=None, slots=8).request(60 * MINUTE, waiting=0)
    assert request is not None and not request.drain and request.times_up


def test_without_an_end_everything_is_begun() -> None:
    deadline = Deadline(NEVER, expect=11 * MINUTE, slots=1)
    assert deadline.may_begin(1e9) and deadline.request(1e9, waiting=1) is None


def test_while_nobody_knows_the_end_only_what_was_declared_must_wait_for_it() -> None:
    deadline = Deadline(None, expect=11 * MINUTE, slots=1)
    assert deadline.must_be_known and not deadline.may_begin(0.0)
    assert deadline.request(0.0, waiting=1) is None
    deadline.end = LATER
    assert deadline.may_begin(0.0)
    learns = Deadline(None, expect=None, slots=1)
    learns.hear(learned(*[1000.0] * 20).news, news_are_told=False)
    learns.note_begun(1)
    assert learns.may_begin(59 * MINUTE)
    learns.end = LATER
    assert not learns.may_begin(59 * MINUTE)


def test_what_is_learned_is_told_only_where_there_is_an_end() -> None:
    deadline = Deadline(None, expect=None, slots=1)
    for _ in range(20):
        deadline.note(attempt(5.0))
    assert not deadline.news
    deadline.end = NEVER
    assert not deadline.news
    deadline.end = LATER
    assert deadline.news


# At work


def lengths_of(farm: Farm) -> dict[str, int]:
    return json.loads((farm.workdir / "farm.json").read_text()).get("lengths", {})


def test_what_twenty_attempts_took_is_told_to_the_farm(farm: Farm) -> None:
    farm.write(*["true"] * MANY).run("-n", "2", "--walltime", "1h", check=0)
    assert lengths_of(farm).keys() == {"1"}
    assert 20 <= lengths_of(farm)["1"] <= MANY


def make_known(farm: Farm, lengths: dict[str, int]) -> None:
    """A farm in which one task is finished and others have learned this."""
    farm.write("true").run(check=0)
    known = json.loads((farm.workdir / "farm.json").read_text())
    (farm.workdir / "farm.json").write_text(json.dumps({**known, "lengths": lengths}))


def test_a_farmer_on_a_new_node_knows_how_long_tasks_take(farm: Farm) -> None:
    make_known(farm, {"3600": 20})
    done = farm.write("true", "touch first", "touch second").run("-n", "1", "--walltime", "31m", check=75)
    assert (farm.folder / "first").exists(), "a first round is always begun"
    assert "tasks take up to 60 min, the whole job has 30 min: 1 held back" in done.stdout
    assert farm.waiting() == [2]


def test_what_was_learned_of_a_list_is_forgotten_with_it(farm: Farm) -> None:
    make_known(farm, {"3600": 20})
    farm.write("echo another").run("--replace", check=0)
    assert not lengths_of(farm)


def test_without_an_end_nothing_is_learned_and_nothing_written(farm: Farm) -> None:
    farm.write(*["true"] * 200).run(check=0)
    assert "lengths" not in json.loads((farm.workdir / "farm.json").read_text())


def in_job_with(farm: Farm, squeue: str) -> dict[str, str]:
    """The environment of a Slurm job where `squeue` does this."""
    (farm.folder / "squeue").write_text(f"#!/bin/sh\n{squeue}\n")
    (farm.folder / "squeue").chmod(0o755)
    return {**os.environ, "SLURM_JOB_ID": "4711", "PATH": f"{farm.folder}:{os.environ['PATH']}"}


def test_a_squeue_that_fails_is_said_and_the_farm_goes_on(farm: Farm) -> None:
    env = in_job_with(farm, "echo no controller >&2; exit 1")
    done = farm.write("sleep 1").run(check=0, env=env)
    assert "squeue ended with 1: no controller: when the job ends is not known; --walltime says it" in done.stdout


def test_the_first_tasks_do_not_wait_for_squeue(farm: Farm) -> None:
    """It answers only when they have ended; what it says then holds for the rest."""
    env = in_job_with(farm, "until [ -e one ] && [ -e two ]; do sleep 0.02; done; echo 0:30 1:00:00; touch answered")
    farm.write("touch one", "touch two", "until [ -e answered ]; do sleep 0.02; done; sleep 1", "touch three")
    done = farm.run("-n", "1", env=env, check=75)
    assert "stopping (the job's time is up, but for the --margin of 60 s)" in done.stdout
    assert not (farm.folder / "three").exists()


def test_with_a_declared_length_nothing_is_begun_before_squeue_has_answered(farm: Farm) -> None:
    env = in_job_with(farm, "sleep 1; echo 30:00 1:00:00")
    done = farm.write("touch one").run("--expect", "45m", env=env, check=75)
    assert "29 min left, tasks take up to 45 min: 1 held back." in done.stdout
    assert not (farm.folder / "one").exists()


def test_a_stop_does_not_wait_for_squeue(farm: Farm) -> None:
    env = in_job_with(farm, "touch asked; exec sleep 600")
    farmer = farm.write("true").start("--expect", "45m", env=env)
    wait_until((farm.folder / "asked").exists)
    farmer.terminate()
    assert ended(farmer)[0] == 75
    assert processes_in(farm.folder) == []


def test_a_job_of_which_only_the_end_is_known_is_not_called_too_short(farm: Farm) -> None:
    """It may have run for long."""
    end = {"SLURM_JOB_END_TIME": str(int(time.time()) + 50)}
    done = farm.write("true").run("--expect", "5m", env={**in_job_with(farm, "exit 1"), **end}, check=75)
    assert "stopping (the job's time is up, but for the --margin of 60 s)" in done.stdout
    later = {"SLURM_JOB_END_TIME": str(int(time.time()) + 200)}
    done = farm.run("--expect", "5m", env={**in_job_with(farm, "exit 1"), **later}, check=75)
    assert "2 min left, tasks take up to 5 min: 1 held back." in done.stdout


def test_where_nothing_is_left_squeue_is_not_asked(farm: Farm) -> None:
    farm.write("true").run(check=0)
    farm.run(check=0, env=in_job_with(farm, "touch asked; echo 30:00 1:00:00"))
    assert not (farm.folder / "asked").exists()
