"""The default tasklist: what is a task, what is its id, and which bytes are the user's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfarmer.tasklists import ListTaskList

pytestmark = pytest.mark.quick


def read(folder: Path, content: bytes) -> list[bytes]:
    path = folder / "tasks.txt"
    path.write_bytes(content)
    return [command.encode("utf-8", "surrogateescape") for command in ListTaskList(str(path))]


@pytest.mark.parametrize(
    ("content", "commands"),
    [
        (b"", []),
        (b"\n\n  \n\t\n", []),
        (b"# one\n#two\n", []),
        (b"echo a\necho b\n", [b"echo a", b"echo b"]),
        (b"echo a\necho b", [b"echo a", b"echo b"]),
        (b"# c\n\necho a\n  \n# d\necho b\n", [b"echo a", b"echo b"]),
        (b"  # indented\necho a\n", [b"# indented", b"echo a"]),
        (b"echo a # not a comment\n", [b"echo a # not a comment"]),
        (b"  echo a \t\n", [b"echo a"]),
        (b"echo a\r\n\r\n# c\r\necho b\r\n", [b"echo a", b"echo b"]),
        (b"echo a\r\necho b\r", [b"echo a", b"echo b"]),
        (b"\xef\xbb\xbfecho a\necho b\n", [b"echo a", b"echo b"]),
        (b"\xef\xbb\xbf# c\necho b\n", [b"echo b"]),
        (b"echo a\n\xef\xbb\xbfecho b\n", [b"echo a", b"\xef\xbb\xbfecho b"]),
        (b"echo \xff\xfe\x80\n", [b"echo \xff\xfe\x80"]),
        (b"echo a\rb\n", [b"echo a\rb"]),
        (b"echo a\x0cb\x0bc\n", [b"echo a\x0cb\x0bc"]),
        (b"echo \xc2\x85 \xe2\x80\xa8 \xe2\x80\xa9 \x1c\x1d\x1e x\n", [b"echo \xc2\x85 \xe2\x80\xa8 \xe2\x80\xa9 \x1c\x1d\x1e x"]),
        (b"echo \xc2\xa0\n", [b"echo \xc2\xa0"]),
        (b"echo \xc2\x85\n", [b"echo \xc2\x85"]),
        (b"echo\0x\n", [b"echo\0x"]),
    ],
)  # fmt: skip
def test_kept_lines_are_the_tasks(tmp_path: Path, content: bytes, commands: list[bytes]) -> None:
    assert read(tmp_path, content) == commands


def test_a_long_line_is_one_task(tmp_path: Path) -> None:
    assert read(tmp_path, b"echo " + b"x" * 2_000_000 + b"\ntrue\n") == [b"echo " + b"x" * 2_000_000, b"true"]


def test_a_list_is_read_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").write_text("a\nb\n")
    tasks = ListTaskList(str(tmp_path / "tasks.txt"))
    assert list(tasks) == list(tasks) == ["a", "b"]


@given(
    content=st.lists(st.sampled_from([b"a", b"#", b" ", b"\t", b"\r", b"\n", b"\n", b"\xff", b"\x85", b"\xe2\x80\xa8"]))
)
def test_lines_are_kept_as_the_rule_says(content: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    text = b"".join(content)
    expected = [line.strip(b" \t\r\n\v\f") for line in text.split(b"\n") if not line.startswith(b"#")]
    assert read(tmp_path_factory.getbasetemp(), text) == [line for line in expected if line]
