"""A user's class, tasklist handler or runner, that goes wrong is told in a sentence, before anything is started."""

from __future__ import annotations

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
