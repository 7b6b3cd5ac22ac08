"""A list of files or words: each line is put into one command."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfarmer.errors import UsageError
from taskfarmer.tasklists import TemplateTaskList
from taskfarmer.tasklists.template import _parts

pytestmark = pytest.mark.quick


def commands(folder: Path, command: str, content: bytes = b"/data/a.tar.gz\n", **options: bool) -> list[str]:
    path = folder / "files.txt"
    path.write_bytes(content)
    return list(TemplateTaskList(str(path), f"{folder}/files.txt_workdir", command, **options))


def test_each_line_is_put_into_the_command(tmp_path: Path) -> None:
    made = commands(
        tmp_path, "prog --in {line} --out {stem}.out --id {id}", b"# files\n/a/x.root\n\n  /b/y z.root \r\n"
    )
    assert made == ["prog --in /a/x.root --out x.out --id 0", "prog --in '/b/y z.root' --out 'y z'.out --id 1"]


@pytest.mark.parametrize(
    ("line", "name", "stem", "suffix", "parent"),
    [
        ("/data/a.tar.gz", "a.tar.gz", "a.tar", ".gz", "/data"),
        ("a.root", "a.root", "a", ".root", "."),
        ("sub/a", "a", "a", "''", "sub"),
        ("sub/.hidden", ".hidden", ".hidden", "''", "sub"),
        ("/", "''", "''", "''", "/"),
    ],
)
def test_parts_of_a_path_are_those_of_pathlib(
    line: str, name: str, stem: str, suffix: str, parent: str, tmp_path: Path
) -> None:
    made = commands(tmp_path, "{name} {stem} {suffix} {parent}", f"{line}\n".encode())
    assert made == [f"{name} {stem} {suffix} {parent}"]


@given(st.lists(st.sampled_from(["/", "/", ".", ".", "a", "b c", "-"])).map("".join))
def test_any_line_has_the_parts_that_pathlib_gives_it(line: str) -> None:
    path = PurePosixPath(line)
    if path.name.endswith("."):
        return  # Python 3.14 sees a suffix there, earlier ones do not
    assert _parts(line) == (path.name, path.stem, path.suffix, str(path.parent))


def test_the_workdir_is_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words").write_text("a\n")
    tasklist = TemplateTaskList("words", "words_workdir", "cp {line} {workdir}/output")
    assert list(tasklist) == [f"cp a {tmp_path}/words_workdir/output"]


def test_braces_of_the_shell_are_left_to_the_shell(tmp_path: Path) -> None:
    command = "awk '{print $1}' {} ${HOME} ${line} {1..3} {a,b} {0} {{line}} {{x}} {line}"
    expected = "awk '{print $1}' {} ${HOME} ${line} {1..3} {a,b} {0} {line} {x} w"
    assert commands(tmp_path, command, b"w\n") == [expected]


def test_values_are_put_in_as_they_are_if_that_is_wanted(tmp_path: Path) -> None:
    assert commands(tmp_path, "prog {line} `{line}`", b"-a -b\n", quote=False) == ["prog -a -b `-a -b`"]
    assert commands(tmp_path, "prog {line:raw} {line}", b"-a -b\n") == ["prog -a -b '-a -b'"]


@pytest.mark.parametrize("command", ["prog $PROC_NUMBER", "prog -s ${TASKFARMER_TASK_ID}", "prog {id}"])
def test_a_command_may_differ_by_the_number_of_the_task_alone(tmp_path: Path, command: str) -> None:
    assert len(commands(tmp_path, command, b"a\nb\n")) == 2


def test_a_long_command_goes_on_in_the_next_line_behind_a_backslash(tmp_path: Path) -> None:
    assert commands(tmp_path, "\nprog {line} \\\n--fast\n", b"w\n") == ["prog w --fast"]


def test_bytes_that_are_not_utf_8_stay_the_users(tmp_path: Path) -> None:
    made = commands(tmp_path, "cat {line}", b"\xff \xfe\n")
    assert made[0].encode("utf-8", "surrogateescape") == b"cat '\xff \xfe'"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("prog {lin}", "{lin} is no field; known: {line} {id} {name} {stem} {suffix} {parent} {workdir}. Braces meant for the shell: {{lin}}"),
        ("prog {line:q}", "{line:q}: only {line:raw} is known"),
        ("prog {line}\nprog", "one line is wanted, found a newline"),
        ("prog '{line}\nb'", "one line is wanted, found a newline"),
        ("prog", "a field is wanted, found none: the same command would run for each task; known: {line} {id} {name}"),
        ("prog $line {{line}} {} ${line}", "a field is wanted, found none"),
        ("cd {workdir} && prog", "a field is wanted, found none but {workdir}"),
        (" \n ", "a command is wanted, found nothing"),
        ("prog `cat {line}`", "{line} stands in backticks, where it cannot be quoted"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_filled_is_refused_with_a_sentence(
    command: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        commands(tmp_path, command)
    assert sentence in str(error.value)
