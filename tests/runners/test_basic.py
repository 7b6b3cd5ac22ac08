"""What the options of BasicRunner do to a task; without them nothing changes (test_commands.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Farm
from defined import define, launch, run

from taskfarmer.errors import UsageError
from taskfarmer.runners import BasicRunner

pytestmark = pytest.mark.quick

BASIC = "taskfarmer.runners.BasicRunner"


def lab(farm: Farm, **options: str) -> Farm:
    return define(farm, BASIC, **options)


# setup


def test_setup_runs_before_each_command_in_the_same_shell(farm: Farm) -> None:
    setup = 'export COLOUR="dark red"\nplain=1; greet() { echo "hello $1"; }'
    run(lab(farm, setup=setup), 'greet "$COLOUR $plain"', "false || echo went on", "greet again; exit 3", check=1)
    assert [farm.log(id) for id in range(3)] == ["hello dark red 1\n", "went on\n", "hello again\n"]
    assert farm.ids("failed") == [2]


def test_a_line_of_setup_that_fails_fails_the_task_and_says_which(farm: Farm) -> None:
    run(lab(farm, setup="echo one\nls /nosuchfile\necho never"), "echo command", check=1)
    said = farm.log(0)
    assert "one\n" in said and "never" not in said and "command\n" not in said.replace("before the command", "")
    assert said.endswith("pytaskfarmer: before the command: ls /nosuchfile: exit 2\n")
    assert farm.lines("failed") == ["0 echo command"]


@pytest.mark.parametrize(
    "line",
    [
        "false | true",
        "( exit 0 )",
        "false || true",
        "if false; then :; fi",
        "! true || :",
        ". ./sourced.sh",
        "f() { false; true; }; f",
    ],
)
def test_what_fails_inside_of_what_succeeds_does_not_fail_the_task(farm: Farm, line: str) -> None:
    (farm.folder / "sourced.sh").write_text("false\nls /nosuchfile 2> /dev/null\nexport FOUND=it\n")
    run(lab(farm, setup=line), "echo command")
    assert farm.log(0) == "command\n"


@pytest.mark.parametrize("line", ["exit 0", "if", ". ./leaves.sh", "source nosuchfile", "return 0", "echo 'one"])
def test_a_setup_that_leaves_the_shell_never_makes_a_task_finished(farm: Farm, line: str) -> None:
    (farm.folder / "leaves.sh").write_text("exit 0\n")
    run(lab(farm, setup=line), "echo 'the command'", check=1)
    assert "the command\n" not in farm.log(0)
    assert farm.ids("finished") == []


@pytest.mark.parametrize(
    "line", ["exec true", "set -n", ". ./replaces.sh", "trap : EXIT; exit 0", "exec 3>&1; exec true 3>&-"]
)
def test_a_setup_that_takes_the_shell_s_place_or_silences_it_never_makes_a_task_finished(farm: Farm, line: str) -> None:
    (farm.folder / "replaces.sh").write_text("set -e\nexec bash -l\n")
    run(lab(farm, setup=line), "touch ran; true", check=1)
    assert not (farm.folder / "ran").exists()
    assert farm.ids("finished") == [] and farm.ids("failed") == [0]
    assert farm.log(0) == (
        "pytaskfarmer: the command did not begin: `setup` has ended the shell, replaced it (exec) or silenced it (set -n)\n"
    )


@pytest.mark.parametrize("flags", [(), ("--logs", "failed"), ("--logs", "none")])
def test_the_fault_of_a_setup_is_said_however_logs_are_kept(farm: Farm, flags: tuple[str, ...]) -> None:
    done = lab(farm, setup="exec true").write("touch ran").run("--runner", "lab", *flags, check=1)
    assert "not started" in done.stdout and "`setup` has ended the shell" in done.stdout, done.stdout


def test_what_a_setup_leaves_running_does_not_speak_for_the_next_task(farm: Farm) -> None:
    setup = "[ $PROC_NUMBER = 0 ] || exec true\nsleep 60 &\nhelper=$!; export helper"
    run(lab(farm, setup=setup), "echo 'this one runs'", "touch ran; true", "touch ran; true", check=1)
    assert (farm.ids("finished"), farm.ids("failed")) == ([0], [1, 2])
    assert not (farm.folder / "ran").exists()


def test_a_class_of_a_user_s_around_it_hears_of_it_too(farm: Farm) -> None:
    with open(farm.folder / "log", "w") as log:
        assert BasicRunner(setup="exec true").run(0, "touch ran; true", log) == 1
        assert BasicRunner(setup="A=1").run(1, "exit $A", log) == 1
        assert BasicRunner(setup="A=0").run(1, "exit $A", log) == 0
    assert (farm.folder / "log").read_text().count("`setup` has ended the shell") == 1


def test_a_dry_run_shows_a_setup_as_it_was_written_and_one_line_for_each_task(farm: Farm) -> None:
    lab(farm, setup="export A='a\\b'\n# it's a comment\numask 027")
    done = farm.write('echo "$A"; umask', "echo it\\'s").run("--runner", "lab", "--dry-run", check=0)
    first, second = done.stdout.splitlines()
    assert first == r"""0 bash -c $'export A=\'a\\b\'\numask 027\necho "$A"; umask'"""
    said = [subprocess.run(["bash", "-c", line[2:]], capture_output=True, text=True).stdout for line in (first, second)]
    assert said == ["a\\b\n0027\n", "it's\n"]


@pytest.mark.parametrize("line", ["ulimit -n 64", "set -eu", "set -o posix", "set -C", "set -E; shopt -s extdebug"])
def test_a_setup_may_make_the_shell_strict(farm: Farm, line: str) -> None:
    run(lab(farm, setup=line), "echo 'the command'")
    assert farm.log(0) == "the command\n"


@pytest.mark.parametrize("line", ["echo hi \\", "export A=1 \\", "A=1 # \\"])
def test_a_setup_that_ends_in_a_backslash_ends_there(farm: Farm, line: str) -> None:
    run(lab(farm, setup=line), "echo 'the command'")
    assert farm.log(0).removeprefix("hi\n") == "the command\n"


def test_setup_leaves_no_trace_in_the_shell_of_the_command(farm: Farm) -> None:
    run(
        lab(farm, setup=":"),
        "false; trap; type _pytaskfarmer 2>/dev/null; set -o | grep err; echo $?; ls /proc/$$/fd | tr '\\n' ' '",
    )
    assert farm.log(0).replace(" ", "").replace("\t", "").rpartition("\n")[0] == "errexitoff\nerrtraceoff\n0"
    assert "219" not in farm.log(0)


@pytest.mark.parametrize(
    "command", ["echo 'a b' \"$HOME\"", "-nosuch", "echo % \\$x $(echo '$(date)') `echo b`", "echo ü {1..3} # and"]
)
def test_a_command_means_the_same_behind_a_setup(farm: Farm, command: str) -> None:
    run(lab(farm, setup=":", prefix="nice -n 1"), command, check=None)
    wanted = subprocess.run(["bash", "-c", "--", command], cwd=farm.folder, capture_output=True, text=True)
    assert farm.log(0).rpartition("line ")[2][2:] == (wanted.stdout + wanted.stderr).rpartition("line ")[2][2:]


# prefix


def test_a_prefix_is_put_in_front_of_all_of_the_command(farm: Farm) -> None:
    run(lab(farm, prefix="nice -n 5"), "nice", "nice; nice | cat", "nosuchprogram", check=1)
    nice = f"{os.nice(0) + 5}\n"
    assert farm.log(0) == nice
    assert farm.log(1) == nice * 2
    assert "nosuchprogram: command not found" in farm.log(2)
    assert farm.ids("failed") == [2]


def test_a_prefix_starts_plain_commands_without_a_shell() -> None:
    assert launch(BasicRunner(prefix="nice -n 5"), "cat x").argv == ("nice", "-n", "5", "cat", "x")
    assert launch(BasicRunner(prefix="nice -n 5"), "cat *").argv == ("nice", "-n", "5", "/bin/bash", "-c", "cat *")
    assert launch(BasicRunner("always", prefix="nice"), "cat x").argv == ("nice", "/bin/bash", "-c", "cat x")
    assert launch(BasicRunner("never", prefix="nice -n '5'"), "cat *").argv == ("nice", "-n", "5", "cat", "*")


def test_a_prefix_may_use_what_a_shell_knows(farm: Farm) -> None:
    run(lab(farm, prefix='env TWICE=$((PROC_NUMBER * 2)) NAME="a b"', setup="B=1"), "true", 'echo "$TWICE $NAME"')
    assert farm.log(1) == "2 a b\n"


def test_a_prefix_may_come_from_the_setup(farm: Farm) -> None:
    (farm.folder / "own").mkdir()
    (farm.folder / "own" / "front").write_text('#!/bin/sh\necho front\nexec "$@"\n')
    (farm.folder / "own" / "front").chmod(0o755)
    run(lab(farm, setup="PATH=$PWD/own:$PATH", prefix="front"), "echo 'the command'")
    assert farm.log(0) == "front\nthe command\n"


# cwd and taskdir


def test_tasks_start_in_cwd(farm: Farm) -> None:
    (farm.folder / "a b").mkdir()
    (farm.folder / "a b" / "prog").write_text("#!/bin/sh\necho prog in $PWD\n")
    (farm.folder / "a b" / "prog").chmod(0o755)
    run(lab(farm, cwd="a b"), "pwd", "/bin/pwd", "./prog", "true; ./prog", "echo $PWD; touch here")
    place = f"{farm.folder}/a b\n"
    assert [farm.log(id) for id in range(5)] == [place, place, f"prog in {place}", f"prog in {place}", place]
    assert (farm.folder / "a b" / "here").exists()


def test_each_task_has_a_directory_of_its_own_and_it_stays(farm: Farm) -> None:
    run(lab(farm, taskdir="work/task_{id}"), "echo 1 > out", "pwd", "cat out || echo 2 > out")
    assert (farm.folder / "work/task_0/out").read_text() == "1\n"
    assert farm.log(1) == f"{farm.folder}/work/task_1\n"
    assert (farm.folder / "work/task_2/out").read_text() == "2\n"


def test_taskdir_is_seen_from_cwd(tmp_path: Path) -> None:
    said = launch(BasicRunner(cwd=str(tmp_path), taskdir="{id}/x{y}"), "true", 12)
    assert said.cwd == said.folder == f"{tmp_path}/12/x{{y}}"
    assert said.env["PWD"] == said.cwd


def test_a_directory_that_cannot_be_made_fails_the_task_alone(farm: Farm) -> None:
    (farm.folder / "0").write_text("a file")
    run(lab(farm, taskdir="{id}"), "true", "true", check=1)
    assert (farm.ids("failed"), farm.ids("finished")) == ([0], [1])
    assert "the directory cannot be made: File exists" in farm.log(0)


def test_a_program_in_a_relative_path_is_the_one_of_where_the_task_starts(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("bin", "place/bin"):
        (farm.folder / folder).mkdir(parents=True)
        (farm.folder / folder / "prog").write_text(f"#!/bin/sh\necho of {folder}\n")
        (farm.folder / folder / "prog").chmod(0o755)
    monkeypatch.setenv("PATH", f"bin:{os.environ['PATH']}")
    run(lab(farm, cwd="place"), "prog", "prog; prog")
    assert [farm.log(0), farm.log(1)] == ["of place/bin\n", "of place/bin\n" * 2]


# venv, conda


def test_a_virtual_environment_is_as_good_as_activated(farm: Farm) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "own env"], cwd=farm.folder, check=True)
    question = "import sys, os; print(sys.prefix, os.environ['VIRTUAL_ENV'], 'PYTHONHOME' in os.environ)"
    (farm.folder / "ask.py").write_text(question)
    env = {**os.environ, "PYTHONHOME": "/nosuchplace"}
    del env["PYTHONHOME"]
    run(
        lab(farm, venv="own env"),
        "python ask.py",
        "python ask.py | cat; true",
        f"{sys.executable} -c 1; python ask.py",
    )
    place = f"{farm.folder}/own env"
    assert [farm.log(id) for id in range(3)] == [f"{place} {place} False\n"] * 3


def test_venv_conda_and_cwd_do_not_cost_a_shell(tmp_path: Path) -> None:
    said = launch(BasicRunner(venv=str(tmp_path), cwd=str(tmp_path)), "cat x")
    assert said.argv == ("cat", "x") and said.env["VIRTUAL_ENV"] == str(tmp_path)
    assert said.fallback is not None and said.fallback.env == said.env and said.fallback.cwd == str(tmp_path)


@pytest.fixture
def conda(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as conda makes them, with the environments base, tools and elsewhere; the farmer itself runs in base."""
    root = farm.folder / "conda root"
    elsewhere = farm.folder / "far" / "elsewhere"
    for prefix in (root, root / "envs" / "tools", elsewhere):
        (prefix / "conda-meta").mkdir(parents=True)
        (prefix / "bin").mkdir()
        (prefix / "bin" / "which-env").write_text(f"#!/bin/sh\necho of {prefix.name}\n")
        (prefix / "bin" / "which-env").chmod(0o755)
    (root / "bin" / "conda").write_text("#!/bin/sh\necho conda was called >&2; exit 1\n")
    (root / "bin" / "conda").chmod(0o755)
    home = farm.folder / "home"
    (home / ".conda").mkdir(parents=True)
    (home / ".conda" / "environments.txt").write_text(f"{root}\n{elsewhere}\n{farm.folder}/gone\n")
    for name in [name for name in os.environ if "CONDA" in name or name == "MAMBA_ROOT_PREFIX"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CONDA_EXE", str(root / "bin" / "conda"))
    monkeypatch.setenv("CONDA_PREFIX", str(root))
    monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")
    return root


@pytest.mark.parametrize("name", ["tools", "base", "elsewhere", "{farm}/far/elsewhere"])
def test_a_conda_environment_is_found_without_conda(farm: Farm, conda: Path, name: str) -> None:
    run(
        lab(farm, conda=name.format(farm=farm.folder)),
        "which-env",
        'which-env; echo $CONDA_DEFAULT_ENV; echo "$CONDA_PREFIX"',
    )
    folder = {"tools": conda / "envs" / "tools", "base": conda}.get(name, farm.folder / "far" / "elsewhere")
    assert farm.log(0) == f"of {folder.name}\n"
    assert farm.log(1) == f"of {folder.name}\n{name.format(farm=farm.folder)}\n{folder}\n"


def test_conda_without_scripts_does_not_cost_a_shell(conda: Path) -> None:
    said = launch(BasicRunner(conda="tools"), "which-env x")
    assert said.program == f"{conda}/envs/tools/bin/which-env" and said.argv == ("which-env", "x")
    assert f"{conda}/bin" not in str(said.env["PATH"]).split(":")  # that of the environment which was active before


def test_what_packages_of_a_conda_environment_want_to_be_set_is_set(farm: Farm, conda: Path) -> None:
    prefix = conda / "envs" / "tools"
    (prefix / "etc/conda/activate.d").mkdir(parents=True)
    (prefix / "etc/conda/activate.d/b.sh").write_text('export ORDER="$ORDER b"; false\n')
    (prefix / "etc/conda/activate.d/a.sh").write_text('export ORDER="$CONDA_PREFIX a"\n')
    (prefix / "etc/conda/activate.d/c.csh").write_text("setenv ORDER csh\n")
    (prefix / "etc/conda/env_vars.d").mkdir()
    (prefix / "etc/conda/env_vars.d/pkg.json").write_text('{"FROM_PACKAGE": "1", "BOTH": "package"}')
    (prefix / "conda-meta/state").write_text('{"version": 1, "env_vars": {"BOTH": "user", "HIDDEN": "***unset***"}}')
    env = {**os.environ, "HIDDEN": "yes"}
    run(lab(farm, conda="tools"), 'echo "$ORDER"; echo $FROM_PACKAGE $BOTH ${HIDDEN-unset}', env=env)
    assert farm.log(0) == f"{prefix} a b\n1 user unset\n"


# Refusals


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"conda": "nosuch"}, "conda: nosuch: there is no such conda environment; looked for in "),
        ({"conda": "./nosuch"}, "there is no conda environment in this folder"),
        ({"venv": "nosuch"}, "nosuch: there is no virtual environment in this folder (no bin/python)"),
        ({"cwd": "nosuch"}, "nosuch: there is no such directory"),
        ({"shell_mode": "sometimes"}, "shell_mode: auto, always, never is wanted, found 'sometimes'"),
        ({"prefix": "nice # politely"}, "prefix: one line without a comment is wanted, found 'nice # politely'"),
        ({"prefix": "nice\nx = 3"}, "prefix: one line without a comment is wanted"),
        ({"taskdir": "all"}, "taskdir: {id} is wanted in it"),
        ({"prefix": "nosuchprogram -n 5"}, "prefix: nosuchprogram is not on PATH of "),
        ({"prefix": "nice -n '5", "shell_mode": "never"}, 'prefix: "nice -n \'5": No closing quotation'),
        ({"setup": "x=1", "shell_mode": "never"}, "need a shell: not with --shell never"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_claimed(
    farm: Farm, options: dict[str, str], sentence: str
) -> None:
    done = lab(farm, **options).write("touch ran").run("--runner", "lab", check=2)
    assert sentence in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not farm.workdir.exists()
    assert not (farm.folder / "ran").exists()


def test_two_conda_environments_of_one_name_are_not_guessed_at(farm: Farm, conda: Path) -> None:
    other = farm.folder / "other" / "elsewhere"
    (other / "conda-meta").mkdir(parents=True)
    with open(farm.folder / "home/.conda/environments.txt", "a") as file:
        file.write(f"{other}\n")
    with pytest.raises(UsageError, match=f"which of these.*far/elsewhere, {other}"):
        BasicRunner(conda="elsewhere").check(os.environ)


def test_where_there_are_no_modules_that_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "MODULE" in name or "LMOD" in name or name.startswith("BASH_FUNC_")]:
        monkeypatch.delenv(name)
    runner = BasicRunner(modules=["gcc"])
    if any(os.path.exists(f"/etc/profile.d/{name}.sh") for name in ("modules", "lmod")):
        runner.check(os.environ)
    else:
        with pytest.raises(UsageError, match="modules: there is no `module` here: no such function, and none of /etc/"):
            runner.check(os.environ)


MODULE = """
module() {
    echo "module $*"
    case $2 in broken*) echo "cannot load $2" >&2; return 3 ;; esac
    export LOADED=$2; PATH=/from/a/module:$PATH
}
"""


def test_modules_are_loaded_in_the_shell_of_the_task(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    (farm.folder / "init").mkdir()
    (farm.folder / "init" / "bash").write_text(MODULE)
    monkeypatch.setenv("MODULESHOME", str(farm.folder))
    run(lab(farm, modules="gcc/13, open mpi"), 'echo "$LOADED"')
    assert farm.log(0) == "module load gcc/13 open mpi\ngcc/13\n"
    run(lab(farm, modules="broken"), "echo 'the command'", check=1, flags=("-w", "again"))
    said = (farm.folder / "again/logs/log_0").read_text()
    assert "cannot load broken\n" in said
    assert said.endswith("pytaskfarmer: before the command: module load broken: exit 3\n")


def test_what_the_farmer_knows_as_module_is_what_tasks_use(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODULESHOME", "/nosuchplace")
    monkeypatch.setenv("BASH_FUNC_module%%", '() { echo "mine: $*"; }')
    run(lab(farm, modules="one\ntwo"), "echo done")
    assert farm.log(0) == "mine: load one two\ndone\n"


def test_an_environment_stays_in_front_of_what_modules_put_there(
    farm: Farm, conda: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (farm.folder / "init").mkdir()
    (farm.folder / "init" / "bash").write_text(MODULE)
    monkeypatch.setenv("MODULESHOME", str(farm.folder))
    run(lab(farm, modules="gcc", conda="tools"), "echo ${PATH%%:*}; which-env")
    assert farm.log(0).splitlines()[1:] == [f"{conda}/envs/tools/bin", "of tools"]
