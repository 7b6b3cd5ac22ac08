"""Each definition in runners.d/ can be built, shows every option, and starts its command.

What runs in real containers is asked in tests/components; here a program of the right name refuses what it does not expect.
"""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path

import pytest
from conftest import Farm

from taskfarmer.farm import choices

pytestmark = pytest.mark.quick

FOLDER = Path(__file__).parents[2] / "runners.d"
#: A program that expects these words before the command, and runs the command.
STAND_IN = """\
#!/bin/bash
want=({want})
for word in "${{want[@]}}"; do
    [ "$1" = "$word" ] || {{ echo "expected $word, found $1" >&2; exit 99; }}
    shift
done
exec "$@"
"""
WANT = {
    "shifter": "--image docker:debian:12 --",
    "apptainer": "exec image.sif",
}


def sections() -> dict[str, Path]:
    found = {}
    for file in FOLDER.glob("*.ini"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(file)
        found |= dict.fromkeys(parser.sections(), file)
    return found


@pytest.mark.parametrize("name", sections())
def test_it_can_be_built(farm: Farm, name: str) -> None:
    done = farm.call("runners", "--check", name)
    assert done.returncode == 0 and "ok: it can be built" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", sections())
def test_it_shows_every_option_and_says_what_it_does(name: str) -> None:
    text = sections()[name].read_text()
    (described,) = [
        one
        for one in choices.described("runner")
        if isinstance(one, choices.Described) and one.definition.name == name and one.definition.file
    ]
    assert described.help and all(option.help for option in described.options)
    for option in described.options:
        assert f"\n{option.name} = " in text or f"\n# {option.name} =" in text, option.name


def test_every_option_it_shows_would_be_taken(farm: Farm) -> None:
    """With its comments away each definition can be built, too."""
    for name, file in sections().items():
        text = re.sub(r"^# (\w+ =|    )", r"\1", file.read_text(), flags=re.MULTILINE)
        (farm.folder / f"{name}_all.ini").write_text(text.replace(f"[{name}]", f"[{name}_all]"))
        done = farm.call("runners", "--check", f"{name}_all")
        assert done.returncode == 0 and "ok: it can be built" in done.stdout, done.stdout + done.stderr


def test_the_default_runs_commands(farm: Farm) -> None:
    farm.write("echo $((6 * 7))").run("--runner", "default", check=0)
    assert farm.log(0) == "42\n"


@pytest.mark.parametrize("name", WANT)
def test_the_command_comes_behind_the_words_of_its_program(
    farm: Farm, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (farm.folder / "bin").mkdir()
    (farm.folder / "bin" / name).write_text(STAND_IN.format(want=WANT[name]))
    (farm.folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{farm.folder}/bin:{os.environ['PATH']}")
    farm.write("echo $PROC_NUMBER 'a  b' && cat nofile").run("--runner", name, check=1)
    assert farm.log(0).startswith("0 a  b\ncat: nofile:")
