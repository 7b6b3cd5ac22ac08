"""A table with a header: each row is put into one command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from taskfarmer.errors import UsageError
from taskfarmer.tasklists import TableTaskList

pytestmark = pytest.mark.quick


def commands(folder: Path, content: bytes, command: str, name: str = "runs.csv", **options: str | bool) -> list[str]:
    (folder / name).write_bytes(content)
    return list(TableTaskList(str(folder / name), f"{folder}/w", command, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        b"energy,seed\n10,1\n20,2\n",
        b"energy,seed\n10,1\n20,2",
        b"energy,seed\r\n10,1\r\n20,2\r\n",
        b"\xef\xbb\xbfenergy,seed\n10,1\n20,2\n",
        b'\xef\xbb\xbf"energy","seed"\n"10","1"\n20,2\n',
        b"\nenergy , seed\n\n10,1\n\n20,2\n\n",
        b"seed,other,energy\n1,x,10\n2,y,20\n",
    ],
)
def test_each_row_is_put_into_the_command(content: bytes, tmp_path: Path) -> None:
    assert commands(tmp_path, content, "sim {energy} {seed} {id}") == ["sim 10 1 0", "sim 20 2 1"]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("runs.tsv", b"a\tb\n1,2\t3\n", {}),
        ("runs.TAB", b"a\tb\n1,2\t3\n", {}),
        ("runs.csv", b"a;b\n1,2;3\n", {"delimiter": ";"}),
        ("runs.txt", b"a\tb\n1,2\t3\n", {"delimiter": "tab"}),
        ("runs.txt", b"a\tb\n1,2\t3\n", {"delimiter": "\\t"}),
        ("runs.tsv", b'a,b\n"1,2",3\n', {"delimiter": ","}),
    ],
)
def test_the_delimiter_is_that_of_the_suffix_or_the_one_that_is_said(
    name: str, content: bytes, options: dict[str, str | bool], tmp_path: Path
) -> None:
    assert commands(tmp_path, content, "sim {a} {b}", name, **options) == ["sim '1,2' 3"]


def test_a_quoted_value_holds_anything(tmp_path: Path) -> None:
    content = b'a,b\n"x, ""y""\nz",\'$(date)\n"",\xff\n'
    made = commands(tmp_path, content, "printf '%s|' {a} {b}")
    assert [command.encode("utf-8", "surrogateescape") for command in made] == [
        b"""printf '%s|' 'x, "y"'$'\\n''z' ''\\''$(date)'""",
        b"printf '%s|' '' '\xff'",
    ]
    done = subprocess.run(["/bin/bash", "-c", made[0]], capture_output=True)
    assert done.stdout == b'x, "y"\nz|\'$(date)|'


def test_a_column_named_like_a_field_of_ours_is_the_column(tmp_path: Path) -> None:
    assert commands(tmp_path, b"id,x\nA7,1\n", "sim {id} {x} {workdir}") == [f"sim A7 1 {tmp_path}/w"]


def test_a_header_alone_is_an_empty_list(tmp_path: Path) -> None:
    assert commands(tmp_path, b"a,b\n", "sim {a}") == []


@pytest.mark.parametrize(
    ("content", "command", "sentence"),
    [
        (b"", "sim {a}", "runs.csv, line 1: the names of the columns are wanted, found nothing"),
        (b"\n,,\n", "sim {a}", "runs.csv, line 2: the names of the columns are wanted, found nothing"),
        (b"a,b,a\n", "sim {a}", "runs.csv, line 1: each column wants a name of its own, found 'a' twice"),
        (b"a,b\n1,2\n", "sim {c}", "runs.csv, line 1: command: {c} is no field; known: {a} {b} {id} {workdir}."),
        (b"a,b\n1,2\n", "sim $a", "runs.csv, line 1: command: a field is wanted, found none: the same command would run for each task; known: {a} {b} {id}"),
        (b"a,b\n1,2\n\n3\n", "sim {a}", "runs.csv, line 4: 2 values are wanted (a, b), found 1: '3'"),
        (b'a,b\n"1\n\n2",2\n3,4,5\n', "sim {a}", "runs.csv, line 5: 2 values are wanted (a, b), found 3: '3,4,5'"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "sim {a}", "runs.csv, line 3: this row cannot be read: "),
        (b'a,b\n1,2\n"3"4,5\n', "sim {a}", "runs.csv, line 3: this row cannot be read: "),
        (b'a,b\n1,2\n"3\n4",5\n', "sim {a:raw}", "runs.csv, line 3: command: one line is wanted, but an unquoted value holds"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_with_its_line(
    content: bytes, command: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        commands(tmp_path, content, command)
    assert sentence in str(error.value)


@pytest.mark.parametrize("delimiter", ["::", '"', "\n", "§"])
def test_a_delimiter_is_one_character(delimiter: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="delimiter: one character, or tab, is wanted, found"):
        commands(tmp_path, b"a\n", "sim {a}", delimiter=delimiter)


def test_a_column_whose_name_is_no_name_of_a_field_is_not_left_in_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"runs.csv, line 1: column 'E \(GeV\)' can be no field: a name of letters"):
        commands(tmp_path, b"E (GeV),seed\n10,1\n", "sim {E (GeV)} {seed}")
    assert commands(tmp_path, b"E (GeV),seed\n10,1\n", "sim {seed}") == ["sim 1"]


def test_a_table_with_another_delimiter_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no field; .* The only column is 'a;b': is `delimiter` right\?$"):
        commands(tmp_path, b"a;b\n1;2\n", "sim {a} {b}")
