"""`modules` of BasicRunner with real Environment Modules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Farm

pytestmark = pytest.mark.components

INIT = Path("/usr/share/modules/init/bash")


@pytest.fixture
def lab(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Farm:
    """Two modules that go together, and an environment in which nobody has used modules yet."""
    if not INIT.exists():
        pytest.skip("Environment Modules are not here: sh tests/components/install.sh modules")
    for name in [name for name in os.environ if "MODULE" in name or name.startswith(("BASH_FUNC_", "LOADED", "_LM"))]:
        monkeypatch.delenv(name)
    (farm.folder / "modulefiles" / "tool").mkdir(parents=True)
    (farm.folder / "modulefiles" / "tool" / "1.0").write_text(
        f"#%Module\nprepend-path PATH {farm.folder}/tool-1.0\nsetenv TOOL_HOME {{a b}}\nsetenv OMP_NUM_THREADS 3\n"
    )
    (farm.folder / "modulefiles" / "addon").write_text("#%Module\nprereq tool\nsetenv ADDON yes\n")
    (farm.folder / "modulefiles" / "broken").write_text("#%Module\nputs stderr {it is broken}\nbreak\n")
    (farm.folder / "tool-1.0").mkdir()
    (farm.folder / "tool-1.0" / "tool").write_text("#!/bin/sh\necho the tool\n")
    (farm.folder / "tool-1.0" / "tool").chmod(0o755)
    monkeypatch.setenv("MODULEPATH", f"{farm.folder}/modulefiles")
    return farm


def define(farm: Farm, modules: str, **options: str) -> Farm:
    lines = [f"{name} = {value}" for name, value in {"modules": modules, **options}.items()]
    (farm.folder / "lab.ini").write_text("\n".join(["[lab]", "Runner = taskfarmer.runners.BasicRunner", *lines, ""]))
    return farm


def test_modules_are_loaded_where_nobody_has_made_module_known(lab: Farm) -> None:
    define(lab, "tool/1.0, addon").write("tool", 'echo "$TOOL_HOME" $OMP_NUM_THREADS $ADDON; module list 2>&1 | cat')
    lab.run("-n", "1", "--runner", "lab", check=0)
    assert lab.log(0) == "the tool\n"
    assert lab.log(1).startswith("a b 3 yes\n") and "tool/1.0" in lab.log(1)


def test_modules_are_loaded_where_the_farmer_was_started_in_a_shell_that_knows_them(lab: Farm) -> None:
    define(lab, "tool").write("tool; echo $ADDON", "true && tool")
    shell = f". {INIT}; module load tool addon; exec {sys.executable} -m taskfarmer -n 1 --runner lab tasks.txt"
    subprocess.run(["bash", "-c", shell], cwd=lab.folder, check=True, capture_output=True)
    assert lab.log(0) == "the tool\nyes\n"
    assert lab.log(1) == "the tool\n"


@pytest.mark.parametrize("modules", ["nosuchmodule", "tool, nosuchmodule", "broken"])
def test_a_module_that_cannot_be_loaded_fails_the_task_and_says_so(lab: Farm, modules: str) -> None:
    define(lab, modules).write("touch ran").run("-n", "1", "--runner", "lab", check=1)
    words = modules.replace(",", "")
    assert f"pytaskfarmer: before the command: module load {words}: exit 1\n" in lab.log(0)
    assert "Unable to locate a modulefile for 'nosuchmodule'" in lab.log(0) or "it is broken" in lab.log(0)
    assert not (lab.folder / "ran").exists()


def test_a_prefix_may_come_from_a_module(lab: Farm) -> None:
    (lab.folder / "tool-1.0" / "front").write_text('#!/bin/sh\necho in front\nexec "$@"\n')
    (lab.folder / "tool-1.0" / "front").chmod(0o755)
    define(lab, "tool", prefix="front").write("tool").run("-n", "1", "--runner", "lab", check=0)
    assert lab.log(0) == "in front\nthe tool\n"
