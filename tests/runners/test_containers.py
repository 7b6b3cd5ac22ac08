"""What the container runners say: argv, environment and folders. That it is true of real containers is asked in tests/components."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import Farm
from defined import define, launch

from taskfarmer.errors import UsageError
from taskfarmer.runners import ApptainerRunner, PodmanRunner, Runner, ShifterRunner, shell
from taskfarmer.system.process import host

pytestmark = pytest.mark.quick


# Shifter, as the documents of 0.1.0 have it


def test_shifter_with_an_image_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASH_ENV", "/etc/nosuchfile")
    said = launch(ShifterRunner("docker:mcc:1.5"), "Marlin steer.xml --n 3")
    assert said.argv == ("shifter", "--image", "docker:mcc:1.5", "--", "/bin/bash", "-c", "Marlin steer.xml --n 3")
    assert said.env == {"BASH_ENV": None} and said.scratch is None and said.cwd is None


def test_shifter_with_a_setup() -> None:
    said = launch(ShifterRunner("i:t", "source /opt/setup.sh"), "task --x 'a b'")
    assert said.argv[-3:-1] == ("/bin/bash", "-c")
    assert shell.for_eyes(said.argv[-1]) == "source /opt/setup.sh && task --x 'a b'"


def test_a_failing_setup_keeps_all_of_a_command_from_being_run() -> None:
    for command in ("a; b", "a || b", "a | b", "a & b", "a # b"):
        said = launch(ShifterRunner("i:t", "false"), command)
        assert shell.for_eyes(said.argv[-1]) == f"false && {{\n{command}\n}}"
        assert subprocess.run(said.argv[-3:], executable=said.argv[-3], capture_output=True).returncode == 1
    assert "before the command" in launch(ShifterRunner("i:t", "\none\ntwo\n"), "a").argv[-1]


def test_shifter_with_everything_in_the_order_its_parser_wants() -> None:
    runner = ShifterRunner("i:t", "s", "/a:/b /c:/d:ro\n'/e f:/g'", "mpich gpu", True, "A=1 B='2 3'")
    said = launch(runner, "task")
    assert said.argv == (
        "shifter", "--image", "i:t", f"--workdir={said.scratch}", "-V", "/a:/b", "-V", "/c:/d:ro", "-V", "/e f:/g",
        "-m", "mpich,gpu", "-e", "A=1", "-e", "B=2 3", "--", "/bin/bash", "-c", said.argv[-1],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tempdir", "has_one"), [(True, True), ("True", True), (False, False), ("False", False), ("", False)]
)
def test_tempdir_as_it_was_written_for_the_ancestor(tempdir: object, has_one: bool) -> None:
    said = launch(ShifterRunner("i:t", tempdir=tempdir), "task")  # type: ignore[arg-type]
    assert (said.scratch is not None) is has_one


def test_no_two_tasks_share_a_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = ShifterRunner("i:t", tempdir=True)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert launch(runner, "task", 7).scratch == f"/tmp/pytaskfarmer-{host()}-{os.getpid()}-7"
    monkeypatch.setenv("TMPDIR", "/local")
    assert launch(runner, "task", 8).scratch == f"/local/pytaskfarmer-{host()}-{os.getpid()}-8"


# Apptainer


def test_apptainer() -> None:
    assert launch(ApptainerRunner("x.sif"), "task *").argv == (
        "apptainer",
        "exec",
        "x.sif",
        "/bin/bash",
        "-c",
        "task *",
    )
    runner = ApptainerRunner(
        "~/x.sif",
        "/a ~/b:/c:ro",
        "A=1 B='2 3'",
        True,
        "",
        "/work",
        "/bin/sh",
        "/opt/bin/singularity",
        "--no-home --bind '/x y'",
    )
    home = os.path.expanduser("~")
    assert launch(runner, "-task").argv == (
        "singularity", "exec", "--nv", "--bind", "/a", "--bind", f"{home}/b:/c:ro", "--env", "A=1", "--env", "B=2 3",
        "--pwd", "/work", "--no-home", "--bind", "/x y", f"{home}/x.sif", "/bin/sh", "-c", "--", "-task",
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--cleanenv", "-e", "--containall", "-C"])
def test_apptainer_tells_the_number_of_the_task_also_where_it_passes_no_environment(option: str) -> None:
    argv = launch(ApptainerRunner("x", options=option), "task", 7, 3).argv
    assert argv[2:8] == (
        "--env", "PROC_NUMBER=7", "--env", "TASKFARMER_TASK_ID=7", "--env", "TASKFARMER_SLOT=3"
    )  # fmt: skip


# Podman

PASSED_ON = "PROC_NUMBER TASKFARMER_TASK_ID TASKFARMER_ATTEMPT TASKFARMER_SLOT TASKFARMER_OWNER TASKFARMER_WORKDIR"
ALWAYS = ["--entrypoint", "", "--log-driver", "none", "--label", "pytaskfarmer"]
ALWAYS += [word for name in PASSED_ON.split() for word in ("--env", name)]


def test_podman(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    plain = launch(PodmanRunner("i:t", init=False), "task")
    assert plain.argv == ("podman", "run", "--rm", *ALWAYS, "i:t", "/bin/bash", "-c", "task")
    runner = PodmanRunner(
        "i:t", ". /a:/b:ro,z ~/c", "A=1 B", "", ".", "/bin/sh", "podman-hpc", "--gpu --network 'none'", True
    )
    home = os.path.expanduser("~")
    assert launch(runner, "task").argv == (
        "podman-hpc", "run", "--rm", "--init", *ALWAYS, "--volume", f"{tmp_path}:{tmp_path}", "--volume", "/a:/b:ro,z",
        "--volume", f"{home}/c:{home}/c", "--env", "A=1", "--env", "B", "--workdir", str(tmp_path),
        "--gpu", "--network", "none", "i:t", "/bin/sh", "-c", "task",
    )  # fmt: skip


# All of them

NASTY = ["echo 'a b' \"c\"", "% $(date) `x`", "-e x", "ü\udcff", "a\\nb # c", "a; b && c | d > e", "{} {id} %s"]


@pytest.mark.parametrize("command", NASTY)
@pytest.mark.parametrize("runner", [ShifterRunner("i:t"), ApptainerRunner("i"), PodmanRunner("i")])
def test_a_command_is_one_word_whatever_is_in_it(runner: Runner, command: str) -> None:
    assert launch(runner, command).argv[-1] == command


@pytest.mark.parametrize(
    ("dotted", "program"), [("ShifterRunner", "shifter"), ("ApptainerRunner", "apptainer"), ("PodmanRunner", "podman")]
)
def test_a_program_that_is_not_here_is_said_before_anything_is_claimed(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, dotted: str, program: str
) -> None:
    monkeypatch.setenv("PATH", str(farm.folder))
    done = define(farm, f"taskfarmer.runners.{dotted}", image="i:t").write("true").run("--runner", "lab", check=2)
    assert f"{program} is not on PATH of {host()}\n" in done.stderr
    assert not farm.workdir.exists()
    done = farm.run("--runner", "lab", "--dry-run", check=0)
    assert done.stdout.startswith(f"0 {program} ") and done.stdout.endswith("-c true\n")


def test_a_program_given_by_its_path_must_be_there(farm: Farm) -> None:
    define(farm, "taskfarmer.runners.PodmanRunner", image="i", program="/nosuchplace/podman-hpc")
    done = farm.write("true").run("--runner", "lab", check=2)
    assert f"/nosuchplace/podman-hpc: there is no such program on {host()}\n" in done.stderr


@pytest.mark.parametrize("option", ["volumes", "env", "modules"])
def test_an_option_that_cannot_be_read_is_named(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shifter").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=f"{option}: .a 'b.: No closing quotation"):
        ShifterRunner("i:t", **{option: "a 'b"}).check(os.environ)


@pytest.mark.parametrize(
    "setup", ["SET=up # a comment", "#", "SET=up #", "SET=up; : '# no comment'", "SET=up;", "SET=up; :&", "SET=up \\"]
)
def test_how_a_setup_ends_does_not_take_the_command_with_it(setup: str) -> None:
    for runner in (ShifterRunner("image", setup=setup), ApptainerRunner("image", setup=setup)):
        script = launch(runner, "echo it runs").argv[-1]
        assert subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout == "it runs\n"


IN_IMAGES = {
    "shifter": ShifterRunner("i:t", "SETUP"),
    "apptainer": ApptainerRunner("i", setup="SETUP"),
    "podman": PodmanRunner("i", setup="SETUP"),
    "apptainer with sh": ApptainerRunner("i", setup="SETUP", shell="/bin/sh"),
    "podman with sh": PodmanRunner("i", setup="SETUP", shell="/bin/sh"),
}


@pytest.mark.parametrize("setup", ["exit 0", ". ./leaves.sh"])
@pytest.mark.parametrize("name", IN_IMAGES)
def test_a_setup_in_an_image_that_leaves_the_shell_never_makes_a_task_finished(
    name: str, setup: str, tmp_path: Path
) -> None:
    (tmp_path / "leaves.sh").write_text("exit 0\n")
    words = launch(IN_IMAGES[name], "touch ran; true").argv[-3:]
    done = subprocess.run(
        [words[0], "-c", words[2].replace("SETUP", setup)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and not (tmp_path / "ran").exists()
    assert done.stderr == "pytaskfarmer: before the command: the shell was left\n"


@pytest.mark.parametrize("name", IN_IMAGES)
def test_in_an_image_the_command_has_nothing_to_do_with_how_the_setup_was_watched(name: str, tmp_path: Path) -> None:
    words = launch(IN_IMAGES[name], "false; trap; echo here; exit 7").argv[-3:]
    script = words[2].replace("SETUP", "HERE=1 \\" if "shifter" not in name else "HERE=1")
    done = subprocess.run([words[0], "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "here\n", "")


@pytest.mark.parametrize("setup", ["exec true", "set -n", ". ./replaces.sh"])
@pytest.mark.parametrize("program", ["shifter", "apptainer"])
def test_where_descriptors_are_passed_on_a_setup_that_replaces_the_shell_is_found_out(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, program: str, setup: str
) -> None:
    """A program of that name that executes what stands behind its options."""
    (farm.folder / "bin").mkdir()
    (farm.folder / "bin" / program).write_text('#!/bin/sh\nuntil [ "$1" = /bin/bash ]; do shift; done\nexec "$@"\n')
    (farm.folder / "bin" / program).chmod(0o755)
    (farm.folder / "replaces.sh").write_text("exec bash -l\n")
    monkeypatch.setenv("PATH", f"{farm.folder}/bin:{os.environ['PATH']}")
    define(farm, f"taskfarmer.runners.{program.capitalize()}Runner", image="i:t", setup=setup)
    farm.write("touch ran; true", "touch ran").run("--runner", "lab", check=1)
    assert farm.ids("finished") == [] and not (farm.folder / "ran").exists()
    assert "`setup` has ended the shell" in farm.log(0)


def test_where_no_descriptor_is_passed_on_tasks_finish(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    (farm.folder / "bin").mkdir()
    (farm.folder / "bin" / "shifter").write_text(
        '#!/bin/bash\nexec 219>&-\nuntil [ "$1" = /bin/bash ]; do shift; done\nexec "$@"\n'
    )
    (farm.folder / "bin" / "shifter").chmod(0o755)
    monkeypatch.setenv("PATH", f"{farm.folder}/bin:{os.environ['PATH']}")
    define(farm, "taskfarmer.runners.ShifterRunner", image="i:t", setup="A=1")
    farm.write("echo $A").run("--runner", "lab", check=0)
    assert farm.log(0) == "1\n"
