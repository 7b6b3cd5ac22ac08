"""Each folder of examples/ is what its README says: the commands in it are run as a user would, in a copy.

Programs that are nowhere to be had are stood in for by scripts that refuse what they do not expect.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

pytestmark = pytest.mark.quick

EXAMPLES = Path(__file__).parents[2] / "examples"

_RECO = """#!/bin/bash
case "$1 $2" in
"--autoConfiguration everything") shift 2; part= ;;
esac
[ "$1" = --inputHITSFile ] || exit 64
in=$2; shift 2
if [ "$1" = --skipEvents ] && [ "$3" = --maxEvents ]; then part=" events $2 to $(($2 + $4))"; shift 4; fi
[ "$1" = --outputRDOFile ] && [ $# = 2 ] || exit 64
echo "$in$part" > "$2"
"""
_ATHENA = """#!/bin/bash
[ "$1" = --filesInput ] && [ "$3" = MyPackage/MyOptions.py ] && [ $# = 3 ] || exit 64
echo "$2" > M_output.root
"""
_RSYNC = """#!/bin/bash
[ "$1" = -a ] && [ $# = 3 ] && cp "$2" "$3"
"""


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in folder.iterdir() if path.is_file()}


def template(folder: Path) -> None:
    assert contents(folder / "texts.txt_workdir/output") == {"morning.words": "3", "it's late.words": "4"}


def table(folder: Path) -> None:
    assert (folder / "run_1.txt").read_text() == "1000 first try\n"
    assert (folder / "run_2.txt").read_text() == "1000 second, with a comma\n"
    assert (folder / "run_3.txt").read_text() == '27 "quoted"\n'


def sweep(folder: Path) -> None:
    results = {name: text for name, text in contents(folder).items() if name.startswith("result ")}
    assert len(results) == 24
    assert results["result large, slow 0.5 3"] == "large, slow 0.5 3"


def atlas(folder: Path) -> None:
    files = ["/data/HITS.1.root", "/data/HITS 2.root"]
    assert contents(folder / "files.txt_workdir/output") == {f"RDO.{id}.root": file for id, file in enumerate(files)}
    assert contents(folder / "truth_workdir/output") == {f"M_output.root.{id}": file for id, file in enumerate(files)}
    assert contents(folder / "parts.csv_workdir/output") == {
        "RDO.0.root": "/data/HITS.1.root events 0 to 500",
        "RDO.1.root": "/data/HITS.1.root events 500 to 1000",
        "RDO.2.root": "/data/HITS 2.root events 0 to 500",
    }


#: For each example: the stand-ins it needs, and what it is to have done.
DONE: dict[str, tuple[dict[str, str], Callable[[Path], None]]] = {
    "atlas": ({"Reco_tf.py": _RECO, "athena.py": _ATHENA, "rsync": _RSYNC}, atlas),
    "sweep": ({}, sweep),
    "table": ({}, table),
    "template": ({}, template),
}


def test_every_example_is_run_here() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir()) == sorted(DONE)


@pytest.mark.parametrize("example", DONE)
def test_an_example_does_what_its_readme_says(example: str, tmp_path: Path) -> None:
    stand_ins, check = DONE[example]
    folder, programs = tmp_path / "with a blank" / example, tmp_path / "bin"
    shutil.copytree(EXAMPLES / example, folder)
    for file in folder.rglob("*.ini"):
        file.chmod(0o644)
    programs.mkdir()
    for name, text in stand_ins.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    commands = re.findall(r"`(pytaskfarmer\.py [^`]*)`", (folder / "README.md").read_text())
    assert commands
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=folder,
            env={"PATH": path, "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    check(folder)
