"""The scripts in `test/`, handed to a real Slurm: each task is counted by what it leaves behind, not by what we recorded."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import Farm, wait_until
from slurm_lab import PATIENCE, Slurm

pytestmark = pytest.mark.components
pytest_plugins = "slurm_fixture"

SCRIPTS = Path(__file__).parents[2] / "test"


class Field(Farm):
    """A farm whose tasks tell an oracle that they began and that they ended: a line each, with their node."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in ("slurm_test.sh", "srun_test.sh"):
            shutil.copy(SCRIPTS / name, folder)
        self._count = 0

    def plant(self, *commands: str) -> Field:
        """Write the list."""
        self._count = len(commands)
        tell = 'echo "%s $PROC_NUMBER $(hostname)" >> oracle'
        self.write(*[f"{tell % 'began'}; {command} && {tell % 'ended'}" for command in commands])
        return self

    def add_to_script(self, name: str, flags: str) -> None:
        """Give the farmers that a script starts these flags, too."""
        script = (self.folder / name).read_text()
        assert script.count("pytaskfarmer.py ") == 1
        (self.folder / name).write_text(script.replace("pytaskfarmer.py ", f"pytaskfarmer.py {flags} "))

    def told(self, what: str) -> Counter[int]:
        """How often each task has begun, or ended."""
        lines = [line.split() for line in self._oracle()]
        return Counter(int(words[1]) for words in lines if words[0] == what)

    def nodes(self) -> set[str]:
        """The nodes on which tasks have begun."""
        return {line.split()[2] for line in self._oracle()}

    def _oracle(self) -> list[str]:
        oracle = self.folder / "oracle"
        return oracle.read_text().splitlines() if oracle.exists() else []

    def claimed(self) -> list[int]:
        """The tasks that farmers hold now."""
        claims = self.workdir.glob("running/*/claims")
        return [int(line.split()[1]) for path in claims for line in path.read_text().splitlines()]

    def has_begun(self, count: int = 1) -> bool:
        """Whether so many tasks have begun."""
        return len(self.told("began")) >= count

    def said(self, job: int | str) -> str:
        """What the script of a job, or of a member of an array, has printed."""
        return (self.folder / f"slurm-{job}.out").read_text()

    def assert_all_is_done_once(self) -> None:
        """Each task ran exactly once, to its end, and is recorded once."""
        once = Counter(range(self._count))
        assert self.told("began") == once
        self.assert_all_is_done()

    def assert_all_is_done(self) -> None:
        """Each task has ended exactly once and is recorded once; what was cut short may have begun before."""
        assert self.told("ended") == Counter(range(self._count))
        assert sorted(self.ids("finished")) == list(range(self._count))
        self.assert_each_task_stands_once(self._count)
        assert list((self.workdir / "running").iterdir()) == []


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


# Many nodes


def test_an_array_shares_a_list(slurm: Slurm, field: Field) -> None:
    field.plant(*["sleep 0.2"] * 90)
    job = slurm.submit(field.folder, "--array=1-3", "--exclusive", "slurm_test.sh", "tasks.txt")
    assert slurm.wait(job) == ["COMPLETED"] * 3
    field.assert_all_is_done_once()
    assert field.nodes() == {"n1", "n2", "n3"}


def test_every_member_of_an_array_knows_when_its_job_ends(slurm: Slurm, field: Field) -> None:
    """Also the one whose job has the number of the whole array, and whatever the user likes to see of the queue."""
    field.plant(*["until [ -e go ]; do sleep 0.1; done"] * 60)
    likes = "--export=ALL,SQUEUE_STATES=PENDING,SLURM_CLUSTERS=other"
    job = slurm.submit(field.folder, likes, "--array=1-3", "--exclusive", "slurm_test.sh", "tasks.txt")
    wait_until(lambda: field.nodes() == {"n1", "n2", "n3"}, PATIENCE, "all nodes work")
    (field.folder / "go").touch()
    assert slurm.wait(job) == ["COMPLETED"] * 3
    for member in (1, 2, 3):
        assert "when the job ends is not known" not in field.said(f"{job}_{member}")


def test_a_farmer_on_each_node_of_a_job_shares_a_list(slurm: Slurm, field: Field) -> None:
    field.plant(*["sleep 0.2"] * 60)
    job = slurm.submit(field.folder, "--nodes=3", "srun_test.sh", "tasks.txt")
    assert slurm.wait(job) == ["COMPLETED"]
    field.assert_all_is_done_once()
    assert field.nodes() == {"n1", "n2", "n3"}
    assert field.said(job).count("one for each core") == 3


def test_an_array_and_a_job_of_several_nodes_work_on_one_list_at_once(slurm: Slurm, field: Field) -> None:
    field.plant(*["sleep 0.2"] * 30, "until [ -e go ]; do sleep 0.1; done", *["sleep 0.2"] * 90)
    array = slurm.submit(field.folder, "--array=1-2", "slurm_test.sh", "tasks.txt")
    job = slurm.submit(field.folder, "--nodes=2", "srun_test.sh", "tasks.txt")
    wait_until(lambda: slurm.states(array) + slurm.states(job) == ["RUNNING"] * 3, PATIENCE, "all run at once")
    (field.folder / "go").touch()
    assert slurm.wait(array) + slurm.wait(job) == ["COMPLETED"] * 3
    field.assert_all_is_done_once()
    assert field.nodes() == {"n1", "n2", "n3"}


def test_members_of_an_array_come_and_go_as_the_scheduler_pleases(slurm: Slurm, field: Field) -> None:
    """Two at a time of six, and each leaves after a while: what it has not done is done by those that come later."""
    field.plant(*["sleep 0.5"] * 60)
    field.add_to_script("slurm_test.sh", "--timeout 3 -n 2")
    script = (field.folder / "slurm_test.sh").read_text()
    (field.folder / "slurm_test.sh").write_text(script.replace(" --requeue ", " "))
    job = slurm.submit(field.folder, "--array=1-6%2", "slurm_test.sh", "tasks.txt")
    states = slurm.wait(job)
    assert set(states) <= {"FAILED", "COMPLETED"} and "FAILED" in states  # with 75
    field.assert_each_task_stands_once(60)
    if field.waiting():
        assert slurm.wait(slurm.submit(field.folder, "--wrap", "pytaskfarmer.py tasks.txt")) == ["COMPLETED"]
    field.assert_all_is_done()


# The list


@pytest.mark.parametrize("script", ["slurm_test.sh", "srun_test.sh"])
@pytest.mark.parametrize("is_absolute", [False, True], ids=["relative", "absolute"])
def test_a_list_may_have_any_name_and_be_anywhere(slurm: Slurm, field: Field, script: str, is_absolute: bool) -> None:
    """Tasks run in the folder in which the job was submitted."""
    name = "my sweeps/it's $HOME; *.txt"
    field.tasklist, field.workdir = field.folder / name, field.folder / f"{name}_workdir"
    field.tasklist.parent.mkdir()
    field.plant(*["true"] * 8)
    job = slurm.submit(field.folder, script, str(field.tasklist) if is_absolute else name)
    assert slurm.wait(job) == ["COMPLETED"], field.said(job)
    field.assert_all_is_done_once()


@pytest.mark.parametrize("script", ["slurm_test.sh", "srun_test.sh"])
def test_a_script_without_a_list_says_what_is_wanted(slurm: Slurm, field: Field, script: str) -> None:
    job = slurm.submit(field.folder, script)
    assert slurm.wait(job) == ["FAILED"]
    assert "a TASKLIST is wanted" in field.said(job)
    assert slurm.about(job)["ExitCode"] == "2:0"


# Stopping


def test_a_cancelled_job_leaves_its_tasks_to_the_next_one(slurm: Slurm, field: Field) -> None:
    field.plant(*["until [ -e go ]; do sleep 0.1; done"] * 30)
    for script, words in (("slurm_test.sh", []), ("srun_test.sh", ["--nodes=3"])):
        begun = field.told("began").total()
        job = slurm.submit(field.folder, *words, script, "tasks.txt")
        wait_until(lambda: field.told("began").total() >= begun + 6, PATIENCE, "six tasks run")  # noqa: B023
        slurm.say("scancel", str(job))
        assert slurm.wait(job) == ["CANCELLED"]
        assert "stopping (SIGTERM)" in field.said(job)
        field.assert_each_task_stands_once(30)
        assert len(field.waiting()) == 30
        assert slurm.about(job)["Restarts"] == "0"
    (field.folder / "go").touch()
    job = slurm.submit(field.folder, "slurm_test.sh", "tasks.txt")
    assert slurm.wait(job) == ["COMPLETED"]
    field.assert_all_is_done()


@pytest.mark.parametrize(("script", "words"), [("slurm_test.sh", []), ("srun_test.sh", ["--nodes=2"])])
def test_the_tasks_of_a_cancelled_job_have_time_to_save_what_they_have(
    slurm: Slurm, field: Field, script: str, words: list[str]
) -> None:
    """Though they hear of it twice, from Slurm and from their farmer, and srun tells the farmers once more."""
    saves = "trap 'trap : TERM; sleep 2; touch saved.$PROC_NUMBER; exit 3' TERM; while :; do sleep 0.1; done"
    field.plant(*[saves] * 4)
    job = slurm.submit(field.folder, *words, script, "tasks.txt")
    wait_until(lambda: field.has_begun(4), PATIENCE, "all tasks run")
    slurm.say("scancel", str(job))
    assert slurm.wait(job) == ["CANCELLED"]
    assert len(list(field.folder.glob("saved.*"))) == 4
    field.assert_each_task_stands_once(4)
    assert len(field.waiting()) == 4, "they are to be run again, whatever their exit status was"


def test_a_suspended_job_is_not_dead(slurm: Slurm, field: Field) -> None:
    """Frozen for longer than silence proves anything dead, while others work on its node and on another."""
    field.plant(*["until [ -e go ]; do sleep 0.1; done"] * 8, *["sleep 6"] * 48)
    field.add_to_script("slurm_test.sh", "--dead-after 10s")
    frozen = slurm.submit(field.folder, "-w", "n1", "slurm_test.sh", "tasks.txt")
    wait_until(lambda: field.has_begun(8), PATIENCE, "the first farmer is at work")
    slurm.say("scontrol", "suspend", str(frozen))
    others = [slurm.submit(field.folder, "-w", node, "slurm_test.sh", "tasks.txt") for node in ("n1", "n2")]
    assert [slurm.wait(other) for other in others] == [["COMPLETED"]] * 2
    (field.folder / "go").touch()
    slurm.say("scontrol", "resume", str(frozen))
    assert slurm.wait(frozen) == ["COMPLETED"]
    field.assert_all_is_done_once()
    assert field.nodes() == {"n1", "n2"}


# The end of the time


def bring_the_end_near(slurm: Slurm, job: int, seconds: int) -> None:
    """As if the job had begun long ago."""
    slurm.say("scontrol", "update", f"jobid={job}", f"EndTime=now+{seconds}seconds")


def test_slurms_warnings_stop_farmers_and_a_job_is_started_again_until_all_is_done(slurm: Slurm, field: Field) -> None:
    """Both ways of `--signal`, as Slurm sends it: to the batch shell, which is our farmer, and to the steps."""
    field.plant(*["until [ -e go ] || [ -e go.$PROC_NUMBER ]; do sleep 0.1; done"] * 40)
    alone = slurm.submit(field.folder, "-w", "n1", "slurm_test.sh", "tasks.txt")
    steps = slurm.submit(field.folder, "--nodes=2", "srun_test.sh", "tasks.txt")
    wait_until(lambda: field.nodes() == {"n1", "n2", "n3"}, PATIENCE, "all nodes work")
    (field.folder / f"go.{field.claimed()[0]}").touch()
    wait_until(lambda: field.ids("finished"), PATIENCE, "a task is finished")
    for job in (alone, steps):
        bring_the_end_near(slurm, job, 75)
    wait_until(lambda: slurm.about(alone)["Restarts"] == "1", PATIENCE, "it is started again")
    before = field.told("began").total()
    wait_until(lambda: field.told("began").total() >= before + 8, PATIENCE, "it works again")
    (field.folder / "go").touch()
    assert slurm.wait(alone) == ["COMPLETED"]
    field.assert_all_is_done()
    assert slurm.wait(steps) == ["FAILED"]  # with 75
    assert field.said(alone).count("stopping (SIGUSR1)") == 1
    assert field.said(alone).count("Slurm is asked to start this job again") == 1
    assert field.said(steps).count("stopping (SIGUSR1)") == 2
    assert "start this job again" not in field.said(steps)


def test_a_job_that_meets_its_limit_unwarned_loses_nothing(slurm: Slurm, field: Field) -> None:
    """Slurm sends TERM, which these tasks ignore, and KILL; the farmer, which was told of another end, among them."""
    field.plant(*["trap '' TERM; until [ -e go ]; do sleep 0.1; done"] * 8, *["true"] * 8)
    line = "exec pytaskfarmer.py --walltime 10h --grace 1m tasks.txt"
    job = slurm.submit(field.folder, "-w", "n1", "--wrap", line)
    wait_until(lambda: field.has_begun(8), PATIENCE, "it works")
    bring_the_end_near(slurm, job, 1)
    assert slurm.wait(job) == ["TIMEOUT"]
    assert "stopping (SIGTERM)" in field.said(job) and "stopped: " not in field.said(job)
    (field.folder / "go").touch()
    assert slurm.wait(slurm.submit(field.folder, "-w", "n1", "slurm_test.sh", "tasks.txt")) == ["COMPLETED"]
    field.assert_all_is_done()


def test_a_job_that_knows_its_end_begins_nothing_that_would_not_be_done_and_is_started_again(
    slurm: Slurm, field: Field
) -> None:
    """The end is asked of Slurm: of two minutes it leaves but a quarter, less than the tasks need together."""
    field.plant(*["sleep 3"] * 24)
    field.add_to_script("slurm_test.sh", "--margin 1m45s --expect 5s -n 4")
    job = slurm.submit(field.folder, "--time=2", "slurm_test.sh", "tasks.txt")
    assert slurm.wait(job) == ["COMPLETED"]
    field.assert_all_is_done_once()
    assert int(slurm.about(job)["Restarts"]) >= 1
    assert "s left, tasks take up to 5 s: " in field.said(job)
    assert "squeue" not in field.said(job)


@pytest.mark.parametrize(
    ("script", "words"),
    [("slurm_test.sh", ["--array=1-2"]), ("srun_test.sh", ["--nodes=3", "--open-mode=append"])],
    ids=["array", "nodes"],
)
def test_the_last_farmer_of_a_job_has_it_started_again_until_all_is_done(
    slurm: Slurm, field: Field, script: str, words: list[str]
) -> None:
    """Of an array each member is a job of its own; those of a job of several nodes leave at once."""
    field.plant(*["sleep 0.5"] * 100)
    field.add_to_script(script, "--timeout 4 -n 2" if "array" in words[0] else "--timeout 4 --requeue")
    job = slurm.submit(field.folder, *words, script, "tasks.txt")
    assert set(slurm.wait(job)) == {"COMPLETED"}
    field.assert_all_is_done()
    for one in [f"{job}_1", f"{job}_2"] if "array" in words[0] else [str(job)]:
        restarts = int(slurm.about(one)["Restarts"])
        assert restarts >= 1
        assert field.said(one).count("Slurm is asked to start this job again") == restarts


def test_the_script_with_lines_after_the_farmer_is_started_again_until_all_is_done(slurm: Slurm, field: Field) -> None:
    """As it stands in the docs."""
    docs = (SCRIPTS.parent / "docs" / "slurm.md").read_text()
    lines = docs.partition("### A script with lines after")[2].partition("```text\n")[2].partition("```")[0]
    assert lines.count(' pytaskfarmer.py "$1"\n') == 1
    lines = lines.replace(' pytaskfarmer.py "$1"\n', ' pytaskfarmer.py --timeout 4 "$1"\n')
    (field.folder / "job.sh").write_text(f"#!/bin/bash\n{lines}")
    field.plant(*["sleep 0.5"] * 100)
    job = slurm.submit(field.folder, "--open-mode=append", "job.sh", "tasks.txt")
    assert slurm.wait(job) == ["COMPLETED"]
    field.assert_all_is_done()
    assert int(slurm.about(job)["Restarts"]) >= 1
    assert "100 tasks" in field.said(job)


# What the filesystem is worth


def test_the_nodes_of_a_step_examine_a_filesystem_together(slurm: Slurm, tmp_path: Path) -> None:
    for tasks in ("2", "4"):
        said = slurm.say("srun", "-N2", "-n", tasks, "pytaskfarmer.py", "doctor", str(tmp_path))
        assert " n1 and n2" in said or " n2 and n1" in said
        assert "between hosts" in said and said.splitlines().count("safe") == 1
        assert said.count(" says: safe") == 1, "the other one names who has found it out"
    assert list(tmp_path.iterdir()) == []


# A node that dies


def test_the_tasks_of_a_node_without_power_are_done_by_the_others(slurm: Slurm, field: Field) -> None:
    """Not even when Slurm notices it, after ten seconds here, are the others stopped."""
    field.plant(*["sleep 5"] * 28)
    field.add_to_script("srun_test.sh", "--dead-after 10s")
    slurm.submit(field.folder, "--nodes=3", "srun_test.sh", "tasks.txt")
    wait_until(lambda: field.nodes() == {"n1", "n2", "n3"}, PATIENCE, "all nodes work")
    slurm.cut_power("n3")
    wait_until(lambda: len(field.ids("finished")) == 28, PATIENCE, "the others have done it all")
    wait_until(lambda: list((field.workdir / "running").iterdir()) == [], PATIENCE, "they have left")
    field.assert_all_is_done()
    again = [id for id, times in field.told("began").items() if times > 1]
    assert 1 <= len(again) <= 4, "only what ran on n3 ran again"
    assert max(field.told("began").values()) == 2


def test_nodes_that_are_out_of_work_stay_for_the_others_of_their_job_and_take_over_when_one_dies(
    slurm: Slurm, field: Field
) -> None:
    """And of all of them one says how far the job is."""
    field.plant(*['if [ "$(hostname)" = n3 ] && [ ! -e gone ]; then sleep 600; else sleep 2; fi'] * 40)
    field.add_to_script("srun_test.sh", "--dead-after 10s")
    job = slurm.submit(field.folder, "--nodes=3", "srun_test.sh", "tasks.txt")
    wait_until(lambda: field.has_begun(40), PATIENCE, "all has begun")
    wait_until(lambda: "nothing is left to start; staying while" in field.said(job), PATIENCE, "they stay")
    said = [line for line in field.said(job).splitlines() if " running, " in line]
    assert {line.partition(":")[0] for line in said} <= {"n1"}, said
    held = 40 - len(field.ids("finished"))
    assert held >= 1
    slurm.cut_power("n3")
    (field.folder / "gone").touch()
    wait_until(lambda: len(field.ids("finished")) == 40, PATIENCE, "the others have done it all")
    wait_until(lambda: list((field.workdir / "running").iterdir()) == [], PATIENCE, "they have left")
    field.assert_all_is_done()
    assert "n3 (pid " in field.said(job) and "is gone: " in field.said(job)
    wait_until(lambda: "the whole list: 40 finished, 0 failed" in field.said(job), PATIENCE, "one says how all ended")
    assert field.said(job).count("the whole list: ") == 1


def test_farmers_that_wait_for_each_other_end_together_when_the_last_task_is_done(slurm: Slurm, field: Field) -> None:
    field.plant("until [ -e go ]; do sleep 0.1; done", *["true"] * 30)
    job = slurm.submit(field.folder, "--nodes=3", "srun_test.sh", "tasks.txt")
    wait_until(lambda: len(field.ids("finished")) == 30, PATIENCE, "all but one are done")
    wait_until(lambda: field.said(job).count("nothing is left to start; staying while") == 2, PATIENCE, "two stay")
    assert len(list((field.workdir / "running").iterdir())) == 3
    (field.folder / "go").touch()
    assert slurm.wait(job) == ["COMPLETED"]
    field.assert_all_is_done_once()
    said = [line for line in field.said(job).splitlines() if " running, " in line]
    assert said and {line.partition(":")[0] for line in said} == {"n1"}, said
