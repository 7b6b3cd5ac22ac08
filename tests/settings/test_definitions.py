"""Which definition wins, which files are no business of ours, and what is said of those that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskfarmer.errors import UsageError
from taskfarmer.settings import definitions
from taskfarmer.settings.definitions import Definition, look_up

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and a home with both folders."""
    for name in ("home/.pytaskfarmer/runners.d", "home/.pytaskfarmer/tasklists.d", "here"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def write(path: Path | str, text: str) -> None:
    Path(path).write_text(text)


def found(name: str, kind: str = "runner", named: tuple[str, ...] = ()) -> Definition:
    return look_up(kind, name, named).definition


def test_the_later_place_wins(folder: Path) -> None:
    places = [
        folder / "home/.pytaskfarmer/runners.d/a.ini",
        folder / "home/.pytaskfarmer/runners.d/b.ini",
        folder / "home/.pytaskfarmer/tasklists.d/a.ini",
        folder / "here/a.ini",
        folder / "here/b.ini",
    ]
    for number, place in enumerate(places):
        write(place, f"[mine]\nRunner = module.Class{number}\n")
        assert found("mine").dotted == f"module.Class{number}"
    write(folder / "named", "[mine]\nRunner = module.Named\n")
    assert found("mine", named=(str(folder / "named"),)).dotted == "module.Named"


def test_default_is_there_without_any_file_and_can_be_defined_anew(folder: Path) -> None:
    assert found("default").file == found("default", "tasklist").file == ""
    write("own.ini", "[default]\nRunner = module.Mine\n")
    assert found("default").where == "own.ini:1 [default]"
    assert found("default", "tasklist").file == ""


def test_several_definitions_of_both_kinds_stand_in_one_file() -> None:
    write("both.ini", "[one]\nRunner = m.One\n\n[two]\nTaskList = m.Two\nx = 1\n\n[three]\nnothing = of ours\n")
    assert found("one").dotted == "m.One"
    assert found("two", "tasklist") == Definition("tasklist", "two", "m.Two", {"x": "1"}, "both.ini", 4)
    for kind, name in (("runner", "two"), ("tasklist", "one"), ("runner", "three")):
        with pytest.raises(UsageError, match=f"there is no {kind} of that name"):
            look_up(kind, name)


def test_values_are_the_users_text_and_keys_keep_their_case() -> None:
    write(
        "a.ini",
        "[r]\nRunner = m.C\nCommand = $(date +%s) %d ${HOME} %(x)s ; not a comment\nLines =\n  one\n  # no\n  two\n",
    )
    assert found("r").options == {"Command": "$(date +%s) %d ${HOME} %(x)s ; not a comment", "Lines": "\none\ntwo"}


def test_a_section_called_default_in_capitals_is_like_any_other() -> None:
    write("a.ini", "[DEFAULT]\nimage = none\n\n[r]\nRunner = m.C\n")
    assert found("r").options == {}


def test_files_that_define_nothing_are_no_business_of_ours() -> None:
    write("php.ini", "memory_limit = 128M\n[default\n=\n%%%\n")
    Path("binary.ini").write_bytes(bytes(range(256)) * 10)
    Path("large.ini").write_bytes(b"x" * (2 << 20))
    os.mkfifo("unread.inix")
    Path("folder.ini").mkdir()
    write("tox.ini", "[tox]\nenvlist = py\n[default]\nx = 1\n")
    assert found("default").file == ""


def test_a_broken_file_is_told_to_who_needs_it_only() -> None:
    write("broken.ini", "[mine]\nRunner = m.C\nthis is no key\n")
    write("whole.ini", "[other]\nRunner = m.D\n")
    assert found("other").dotted == "m.D"
    assert found("default").file == ""
    with pytest.raises(UsageError, match=r"^broken.ini:3: `key = value` is wanted, found 'this is no key"):
        look_up("runner", "mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nRunner = m.C\n[a]\nRunner = m.D\n", r"a.ini:3 \[a\]: this section stands in the file twice"),
        ("[a]\nRunner = m.C\nx = 1\nx = 2\n", r"a.ini:4 \[a\] x: this key stands in the section twice"),
        ("x = 1\n[a]\nRunner = m.C\n", r"a.ini:1: a \[section\] is wanted first, found 'x = 1'"),
        ("[a]\nRunner = m.C\nTaskList = m.D\n", r"a.ini:1 \[a\]: one of Runner and TaskList is wanted, found both"),
    ],
)
def test_a_broken_file_is_named_with_line_and_section(text: str, message: str) -> None:
    write("a.ini", text)
    with pytest.raises(UsageError, match=message):
        look_up("runner", "a")


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o602])
def test_what_others_may_write_in_the_current_directory_is_not_obeyed(mode: int) -> None:
    write("a.ini", "[mine]\nRunner = m.C\n[default]\nRunner = m.D\n")
    os.chmod("a.ini", mode)
    with pytest.raises(UsageError, match="a.ini has one, but others may write it"):
        look_up("runner", "mine")
    default = look_up("runner", "default")
    assert default.definition.file == ""
    assert [place.file for place in default.passed_over] == ["a.ini"]
    assert found("mine", named=("a.ini",)).dotted == "m.C"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_somebody_else_is_not_obeyed() -> None:
    write("a.ini", "[mine]\nRunner = m.C\n")
    os.chown("a.ini", 65534, 65534)
    with pytest.raises(UsageError, match="a.ini has one, but it belongs to somebody else"):
        look_up("runner", "mine")


def test_an_unknown_name_says_which_there_are() -> None:
    write("a.ini", "[mine]\nRunner = m.C\n[list]\nTaskList = m.C\n")
    with pytest.raises(UsageError, match=r"^--runner main: .*; there are: .*default, mine") as error:
        look_up("runner", "main")
    assert "list" not in str(error.value).split("there are:")[1].split("(")[0].split(", ")


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(UsageError, match="nowhere.ini: an INI file that I can read is wanted"):
        look_up("runner", "default", ["nowhere.ini"])


def test_what_a_list_amounts_to_depends_on_class_and_options_not_on_the_file(folder: Path) -> None:
    write("a.ini", "[l]\nTaskList = m.C\nx = 1\n")
    identity = found("l", "tasklist").identity
    os.rename("a.ini", folder / "home/.pytaskfarmer/tasklists.d/b.ini")
    assert found("l", "tasklist").identity == identity
    write("a.ini", "[l]\nTaskList = m.C\nx = 2\n")
    assert found("l", "tasklist").identity != identity


def test_the_package_brings_definitions_and_all_that_it_brings_can_be_read() -> None:
    brought = [one for one in definitions.every("runner") if isinstance(one, Definition) and one.file]
    assert "default" in [one.name for one in brought]
    assert [one for kind in definitions.KEYS for one in definitions.every(kind) if isinstance(one, UsageError)] == []


def test_a_file_that_was_named_is_not_said_to_be_passed_over() -> None:
    write("a.ini", "[mine]\nRunner = m.C\n")
    os.chmod("a.ini", 0o666)
    for named in ("a.ini", os.path.abspath("a.ini")):
        assert look_up("runner", "mine", [named]).passed_over == []


@pytest.mark.parametrize("text", ["[mine]\nrunner = m.C\n", "[mine]\nTaskList = m.C\n", "[mine]\nx = 1\n"])
def test_a_section_of_that_name_that_defines_nothing_of_the_kind_is_pointed_to(text: str) -> None:
    write("a.ini", text)
    with pytest.raises(UsageError, match=r"; the section \[mine\] in a.ini has no line `Runner = CLASS`$"):
        look_up("runner", "mine")


def test_keys_may_be_indented() -> None:
    write("a.ini", "[mine]\n  Runner = m.C\n  x = 1\n")
    assert found("mine").options == {"x": "1"}
