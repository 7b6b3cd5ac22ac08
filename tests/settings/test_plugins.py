"""From text to objects: what is converted, and what each step says when it cannot."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from taskfarmer.errors import UsageError
from taskfarmer.runners import Runner
from taskfarmer.settings import plugins
from taskfarmer.settings.definitions import Definition
from taskfarmer.settings.plugins import from_text

pytestmark = pytest.mark.quick

CLASSES = '''
from __future__ import annotations
from pathlib import Path
from taskfarmer.runners import Runner

class Mine(Runner):
    """My own runner.

    Options:
        `image`: what it runs in.
        `level`: how nice it is,
            from 0 to 19.
    """
    def __init__(self, image: str, level: int = 3, *, dry: bool = False, words: list[str] | None = None,
                 where: Path = Path("/"), share: float = 1.0, plain="x", shell_mode: str = "auto"):
        self.all = dict(locals())
        if level > 19:
            raise ValueError("19 is the most")

class Any(Runner):
    def __init__(self, **options):
        self.all = options

class NoRunner:
    pass

number = 7
'''


@pytest.fixture
def file(tmp_path: Path) -> Iterator[str]:
    before = list(sys.path)
    (tmp_path / "shop.py").write_text(CLASSES)
    yield str(tmp_path / "x.ini")
    sys.path[:] = before
    for name in ("shop", "failing", "exiting", "needy"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_a_module_that_others_may_write_is_not_imported_for_a_file_that_they_may_not(file: str, mode: int) -> None:
    Path(file).write_text("[mine]\nRunner = shop.Any\n")
    module = Path(file).with_name("shop.py")
    module.chmod(mode)
    with pytest.raises(UsageError, match=rf"Runner = shop.Any: {module} is not imported: others may write it"):
        load(file, "shop.Any")
    assert "shop" not in sys.modules
    Path(file).chmod(mode)  # who names such a file trusts what is beside it, too
    load(file, "shop.Any")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_package_of_somebody_elses_is_not_imported_for_a_file_of_mine(file: str, tmp_path: Path) -> None:
    Path(file).write_text("[mine]\nRunner = theirs.Any\n")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("raise SystemExit('it was imported')")
    os.chown(tmp_path / "theirs" / "__init__.py", 65534, 65534)
    with pytest.raises(UsageError, match="theirs/__init__.py is not imported: it belongs to somebody else"):
        load(file, "theirs.Any")


def load(file: str, dotted: str, **options: str) -> plugins.Loaded:
    definition = Definition("runner", "mine", dotted, options, file, 4)
    return plugins.load(definition, Runner, 0, {"shell_mode": "never"})


def values(file: str, dotted: str, **options: str) -> dict[str, Any]:
    return load(file, dotted, **options).build().all


def test_options_become_what_the_constructor_asks_for(file: str) -> None:
    got = values(
        file,
        "shop.Mine",
        image="docker:x y",
        level=" 7",
        dry="Yes",
        words="a b, c",
        where="~x/../y",
        share="1e-3",
        plain="7",
    )
    assert (got["image"], got["level"], got["dry"], got["words"]) == ("docker:x y", 7, True, ["a b", "c"])
    assert (got["share"], got["plain"], got["shell_mode"]) == (0.001, "7", "never")
    assert got["where"] == Path(file).parent / "y"


def test_a_class_that_takes_any_option_gets_text_and_only_what_is_defined(file: str) -> None:
    assert values(file, "shop.Any", x="1", Y="two") == {"x": "1", "Y": "two"}


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("", str | None, None),
        ("a", str | None, "a"),
        (" ", int | None, None),
        ("5", int | None, 5),
        ("OFF", bool, False),
        ("1", bool, True),
        ("a,b ,, c", list, ["a", "b", "c"]),
        ("\n a, b\n\nc ", list[str], ["a, b", "c"]),
        ("1, 2", tuple[int, ...], (1, 2)),
        ("", list[str], []),
        ("$(date) %d", str, "$(date) %d"),
        ("x", "Unknown", "x"),
        ("inf", float, float("inf")),
    ],
)
def test_text_becomes_a_value(text: str, annotation: Any, value: Any) -> None:
    assert from_text(text, annotation) == value


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("maybe", bool, "yes or no is wanted, found 'maybe'"),
        ("", bool, "yes or no is wanted, found ''"),
        ("1.5", int, "a whole number is wanted, found '1.5'"),
        ("one", float, "a number is wanted, found 'one'"),
        ("1, x", list[int], "a whole number is wanted, found 'x'"),
    ],
)
def test_text_that_means_no_such_value_is_refused(text: str, annotation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_text(text, annotation)


@pytest.mark.parametrize(
    ("dotted", "options", "message"),
    [
        ("shop", {}, r"Runner = shop: a class is wanted, as package.module.Class"),
        ("shop.", {}, r"a class is wanted"),
        ("rm -rf /.x", {}, r"a class is wanted"),
        ("nowhere.Mine", {}, r"there is no module nowhere, neither installed, nor next to the file"),
        ("shop.sub.Mine", {}, r"there is no module shop.sub|not a package"),
        ("shop.Mein", {}, r"shop.py has no class Mein; it has Any, Mine$"),
        ("taskfarmer.runners.Mine", {}, r"has no class Mine; it has ApptainerRunner, BasicRunner, "),
        ("shop.number", {}, r"number in .*shop.py is no class"),
        ("shop.NoRunner", {}, r"a class derived from taskfarmer.runners.Runner is wanted"),
        ("failing.Mine", {}, r"module failing cannot be imported: ZeroDivisionError: .*failing.py:2\)"),
        ("exiting.Mine", {}, r"module exiting cannot be imported: SystemExit: 3"),
        ("needy.Mine", {}, r"module needy cannot be imported: No module named 'ROOT'"),
        ("shop.Mine", {}, r"x.ini:4 \[mine\]: Mine wants `image = ...`"),
        (
            "shop.Mine",
            {"image": "i", "imgae": "x"},
            r"\[mine\] imgae: Mine has no such option; it has image, level, .*image\?",
        ),
        ("shop.Mine", {"image": "i", "level": "high"}, r"\[mine\] level: a whole number is wanted, found 'high'"),
        ("shop.Mine", {"image": "i", "level": "20"}, r"\[mine\]: Mine cannot be made: ValueError: 19 is the most"),
    ],
)
def test_each_step_says_what_it_wanted(file: str, dotted: str, options: dict[str, str], message: str) -> None:
    folder = Path(file).parent
    (folder / "failing.py").write_text("x = 1\n1 / 0\n")
    (folder / "exiting.py").write_text("raise SystemExit(3)\n")
    (folder / "needy.py").write_text("import ROOT\n")
    with pytest.raises(UsageError, match=message) as error:
        load(file, dotted, **options).build()
    assert str(error.value).startswith(f"{file}:4 [mine]")


def test_a_file_of_the_user_cannot_stand_in_for_a_module_of_python(file: str) -> None:
    (Path(file).parent / "random.py").write_text("raise RuntimeError\n")
    load(file, "shop.Any")
    sys.modules.pop("random", None)
    import random

    assert random.random() < 1


def test_options_are_described_by_the_constructor_and_the_docstring(file: str) -> None:
    described = {option.name: option for option in plugins.options_of(load(file, "shop.Mine", image="i").cls, 0)}
    assert described["image"] == ("image", "text", "", "what it runs in")
    assert described["level"] == ("level", "number", "3", "how nice it is, from 0 to 19")
    assert described["dry"][1:3] == ("yes/no", "no")
    assert described["words"][1:3] == ("list", "none")
    assert described["where"][1] == "path"
