"""Every command and every output block of README.md and docs/ is true: it is executed here.

The blocks of a page are run in their order in one new folder that holds `test/task_list.txt`:

    ```console    `$ command` lines and what they print (both streams). `...` in a line stands for any text in
                  that line, a line of three dots for any number of lines
    ```sh         run to its end; must exit 0

`<!-- not run: REASON -->` on the line before a block leaves it out. Blocks of another kind are text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SECONDS = 60


class Block(NamedTuple):
    """A fenced block of a page."""

    line: int
    kind: str
    lines: list[str]
    not_run: bool


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in its order."""
    lines = page.read_text().splitlines()
    begin = None
    for number, line in enumerate(lines):
        if line.startswith("```"):
            if begin is None:
                begin = number
            else:
                note = lines[begin - 1] if begin else ""
                not_run = bool(re.fullmatch(r"<!-- not run: \S.* -->", note))
                yield Block(begin + 1, lines[begin][3:].strip(), lines[begin + 1 : number], not_run)
                begin = None
    assert begin is None, f"{page.name}, line {begin}: this block has no end"


def steps(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block with the lines it is said to print."""
    command, output = None, []
    for line in block.lines:
        if line.startswith("$ "):
            if command is not None:
                yield command, output
            command, output = line[2:], []
        else:
            assert command is not None, f"line {block.line}: output before the first command"
            output.append(line)
    if command is not None:
        yield command, output


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as a person would: in bash, with the installed program on PATH."""
    unwanted = ("SLURM_", "PMI", "OMPI_", "TASKFARMER_", "SCRATCH", "PYTEST_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    return subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=folder,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
    )


def run_console(block: Block, folder: Path, page: str) -> None:
    commands = list(steps(block))
    # Each command finds the `$?` of the one before, as it would in a terminal.
    script = "".join(f"{command}\ns=$?; printf '\\0'; (exit $s)\n" for command, _ in commands)
    printed = bash(script, folder).stdout.split("\0")
    for (command, expected), output in zip(commands, printed):
        lines = output.splitlines()
        assert re.fullmatch(pattern(expected), "".join(f"{line}\n" for line in lines)), (
            f"{page}, block in line {block.line}: $ {command}\nprints\n{output}\nand not\n" + "\n".join(expected)
        )


def pattern(expected: list[str]) -> str:
    """The regular expression for what is said to be printed."""
    parts = []
    for line in expected:
        parts.append("(?:.*\n)*" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + "\n")
    return "".join(parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    shutil.copy(ROOT / "test" / "task_list.txt", tmp_path / "test")
    for block in blocks(page):
        if block.not_run:
            continue
        if block.kind == "console":
            run_console(block, tmp_path, page.name)
        elif block.kind == "sh":
            done = bash("set -e\n" + "\n".join(block.lines), tmp_path)
            assert done.returncode == 0, f"{page.name}, line {block.line}: exit {done.returncode}\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_flag_is_explained_and_none_is_made_up() -> None:
    """Long flags: those of `--help`, those anywhere in the pages, and those that a page gives to our program."""
    told = "\n".join(page.read_text() for page in PAGES)
    offered: set[str] = set()
    for verb in ("run", "status", "retry", "doctor", "runners", "tasklists"):
        text = bash(f"pytaskfarmer.py {verb} --help", ROOT).stdout
        offered |= {flag for line in re.findall(r"^  (-.*?)(?:  |$)", text, re.M) for flag in FLAG.findall(line)}
    assert sorted(offered - set(FLAG.findall(told))) == []
    ours = re.findall(r"pytaskfarmer(?:\.py)? ([^`|;&<>\n#]*)", told)
    made_up = {flag for words in ours for flag in FLAG.findall(words.split(" -- ")[0])} - offered
    assert made_up == set()


FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def test_the_journal_of_the_page_about_files_is_a_whole_record() -> None:
    from taskfarmer.stores.journal import parse

    samples = [block for block in blocks(ROOT / "docs" / "files.md") if "pytaskfarmer journal" in "".join(block.lines)]
    writer, operations = parse("".join(f"{line}\n" for line in samples[0].lines).encode())
    assert writer is not None
    assert operations and [operation.name for operation in operations][0] == "finished"


def test_every_exit_status_and_every_refusal_is_explained() -> None:
    """What the error classes and the exit statuses say stands in the page about failures."""
    text = (ROOT / "docs" / "when-it-fails.md").read_text()
    for status in (0, 1, 2, 75, 126, 127):
        assert f"| {status} " in text, status
    for message in (ROOT / "tests" / "cli" / "messages").iterdir():
        for line in message.read_text().splitlines():
            if line.startswith("pytaskfarmer.py: "):
                assert any(words in line for words in EXPLAINED), f"{message.name}: {line}"
    for words in EXPLAINED:
        assert words in text, words


#: Each refusal in `tests/cli/messages` holds one of these, and each of these stands in when-it-fails.md.
EXPLAINED = [
    "is wanted",
    "no such file",
    "a tasklist is a file, this is a folder",
    "this is a device",
    "a command comes first",
    "did you mean",
    "there is no such flag",
    "takes no value",
    "is no time",
    "is no size",
    "of that name; there are:",
    "has no line",
    "has no such option; it has",
    "starts no steps of its own",
    "there is no farm here",
    "goes with --run",
    "do not go together",
    "not failed; nothing was put back",
    "belongs to another list",
    "No closing quotation",
    "a folder is wanted",
    "nothing can be found out",
    "letters, digits, dots and dashes are wanted",
    "--hosts goes with --token",
    "hosts came within",
    "a Slurm job is wanted",
]
