"""A user's class, tasklist handler or runner, that goes wrong is told in a sentence, before anything is started."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.quick

_CLASSES = """
class Gives:
    def __init__(self, path, workdir, what="7"):
        self.what = what
    def __iter__(self):
        yield "echo hello"
        yield eval(self.what)

class Indexed:
    def __init__(self, path, workdir):
        self.lines = open(path).read().split()
    def __getitem__(self, id):
        return f"echo {self.lines[id]}"

class Neither:
    def __init__(self, path, workdir):
        pass
"""


@pytest.fixture
def shop(farm):
    (farm.folder / "shop.py").write_text(_CLASSES)
    return farm.write("one", "two")


def define(shop, text: str) -> None:
    (shop.folder / "a.ini").write_text(f"[mine]\n{text}\n")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("7", "a.ini:1 [mine]: Gives cannot read the list: TypeError: command 1 is no text: 7"),
        ("'a\\nb'", "task 1: one line is wanted for a command, found 'a\\nb'; join lines with ';'"),
        ("1 / 0", "a.ini:1 [mine]: Gives cannot read the list: ZeroDivisionError: division by zero"),
        (
            "open('/no/such')",
            "a.ini:1 [mine]: Gives cannot read the list: FileNotFoundError: [Errno 2] No such file or directory: '/no/such'",
        ),
    ],
)
def test_a_handler_that_fails_is_named(shop, what: str, message: str) -> None:
    define(shop, f"TaskList = shop.Gives\nwhat = {what}")
    for dry in ((), ("--dry-run",)):
        done = shop.run("-t", "mine", *dry, check=2)
        assert done.stderr.endswith(f"{message}\n") and "Traceback" not in done.stderr
    assert shop.ids("finished") == []


def test_a_class_that_can_only_be_indexed_is_read(shop) -> None:
    define(shop, "TaskList = shop.Indexed")
    shop.run("-t", "mine", check=0)
    assert [shop.log(0), shop.log(1)] == ["one\n", "two\n"]


def test_a_class_that_cannot_be_read_is_refused(shop) -> None:
    define(shop, "TaskList = shop.Neither")
    assert "a class with __iter__ or __getitem__ is wanted" in shop.run("-t", "mine", check=2).stderr


def test_who_names_what_is_gone_is_told_what_does_the_same(shop) -> None:
    define(shop, "TaskList = taskfarmer.atlas.AthenaTaskList")
    assert "docs/coming-from.md" in shop.run("-t", "mine", check=2).stderr


def test_a_runner_of_the_users_that_fails_is_told_in_a_sentence_by_a_dry_run_too(farm) -> None:
    (farm.folder / "mine.py").write_text(
        "from taskfarmer.runners import BasicRunner\n"
        "class Mine(BasicRunner):\n"
        "    def launch(self, task, slot):\n"
        "        return 1 / 0\n"
    )
    (farm.folder / "mine.ini").write_text("[mine]\nRunner = mine.Mine\n")
    said = farm.write("true").run("--dry-run", "--runner", "mine", check=2).stderr
    place = farm.folder / "mine.py"
    assert said == (
        "pytaskfarmer.py: mine.ini:1 [mine]: Mine cannot start task 0: "
        f"ZeroDivisionError: division by zero ({place}:4)\n"
    )


_RUNNERS = """
import sys
from taskfarmer.runners import BasicRunner, Runner

class Leaves(BasicRunner):
    def __init__(self):
        sys.exit(0)

class Checks(BasicRunner):
    def check(self, environ):
        raise ValueError("no such licence")

class Counts(BasicRunner):
    def slots(self, environ):
        return "many"

class Says(Runner):
    pass

class Returns(BasicRunner):
    def launch(self, task, slot):
        return ["sh", "-c", "true"]

class LeavesLater(BasicRunner):
    def launch(self, task, slot):
        sys.exit(0)

class Numbers(BasicRunner):
    def launch(self, task, slot):
        return super().launch(task, slot)._replace(argv=("true", 7))
"""


@pytest.fixture
def yard(farm):
    (farm.folder / "yard.py").write_text(_RUNNERS)
    return farm.write("true")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Leaves", "a.ini:1 [mine]: Leaves cannot be made: SystemExit: 0 (yard.py:7)"),
        ("Checks", "a.ini:1 [mine]: Checks cannot be used here: ValueError: no such licence (yard.py:11)"),
        (
            "Counts",
            "a.ini:1 [mine]: Counts cannot be used here: TypeError: slots() must return a whole number or None; it returned 'many'",
        ),
        ("Says", "a.ini:1 [mine]: Says has no launch(task, slot), which says how a command is started"),
    ],
)
def test_a_runner_that_cannot_be_used_is_told_before_anything_is_claimed(yard, name: str, message: str) -> None:
    (yard.folder / "a.ini").write_text(f"[mine]\nRunner = yard.{name}\n")
    done = yard.run("--runner", "mine", check=2)
    assert done.stderr.replace(f"{yard.folder}/", "") == f"pytaskfarmer.py: {message}\n"
    assert not yard.workdir.exists()
    if name != "Counts":
        assert "WRONG: a.ini:1 [mine]: " in yard.call("runners", "--check", "mine").stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Returns", "TypeError: launch() must return a taskfarmer.model.Launch; it returned ['sh', '-c', 'true']"),
        ("LeavesLater", "SystemExit: 0"),
        ("Numbers", "expected str, bytes or os.PathLike object, not int"),
    ],
)
def test_a_runner_that_fails_at_a_task_fails_the_task_and_says_why(yard, name: str, message: str) -> None:
    (yard.folder / "a.ini").write_text(f"[mine]\nRunner = yard.{name}\n")
    done = yard.run("--runner", "mine", check=1)
    assert message in yard.log(0) and yard.ids("failed") == [0]
    assert "Traceback" not in done.stderr
    if name != "Numbers":
        assert message in yard.run("--runner", "mine", "--dry-run", check=2).stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def __init__(self, path, workdir): raise SystemExit(0)", "Mine cannot be made: SystemExit: 0"),
        ("def __getitem__(self, id): raise SystemExit(0)", "Mine, task 0: "),
        ("def __iter__(self): raise SystemExit(0)", "Mine cannot read the list: SystemExit: 0"),
        ("def __len__(self): return -1", "Mine, how many tasks there are: "),
        ("def __len__(self): return '2'", "Mine, how many tasks there are: "),
    ],
)
def test_a_handler_that_leaves_the_program_or_cannot_count_never_ends_well(farm, body: str, message: str) -> None:
    (farm.folder / "yard.py").write_text(
        f"from taskfarmer.task import ListTaskList\nclass Mine(ListTaskList):\n    {body}\n"
    )
    (farm.folder / "a.ini").write_text("[mine]\nTaskList = yard.Mine\n")
    done = farm.write("true").run("-t", "mine", check=2)
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_dry_run_does_not_even_leave_what_python_makes_of_a_user_s_class(yard) -> None:
    (yard.folder / "a.ini").write_text("[mine]\nRunner = yard.Numbers\n")
    before = sorted(os.listdir(yard.folder))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    yard.run("--runner", "mine", "--dry-run", env=env)
    assert sorted(os.listdir(yard.folder)) == before
