"""PodmanRunner with a real podman, and an image of its own in a storage of its own.

What is unusual about it here is what a machine without systemd, and maybe itself a container, demands: no cgroups, no
limits above ours, and a mount namespace in which the kernel's second cgroup tree is not seen.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator

import images
import pytest
from conftest import Farm, wait_until
from farmhands import (
    assert_nothing_runs_in,
    children_of,
    ended,
    kill,
)

from taskfarmer.system import proctable

pytestmark = pytest.mark.components

IMAGE = "localhost/tiny:1"
OPTIONS = "--ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --network none --cgroups disabled"
SCRIPT = """\
#!/bin/sh
export XDG_RUNTIME_DIR={home}/xdg
exec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2> /dev/null; exec "$@"' _ {podman} --root {home}/store \\
    --runroot {home}/run --storage-driver vfs --cgroup-manager cgroupfs --events-backend file --runtime crun "$@"
"""


def missing() -> str | None:
    """Why podman cannot be used here."""
    if not shutil.which("podman") or not shutil.which("crun"):
        return "podman is not here: sh tests/components/install.sh podman"
    return images.missing()


class Podman:
    """A podman with a storage of its own; `bin` goes in front of PATH."""

    def __init__(self, home: Path) -> None:
        for name in ("bin", "xdg"):
            (home / name).mkdir(parents=True)
        self.bin = home / "bin"
        program = self.bin / "podman"
        program.write_text(SCRIPT.format(home=home, podman=shutil.which("podman")))
        program.chmod(0o755)

    def call(self, *words: str, **options) -> str:
        words = (str(self.bin / "podman"), *words)
        return subprocess.run(words, check=True, capture_output=True, text=True, **options).stdout

    def containers(self) -> list[str]:
        """Those that are in the storage, running or not."""
        return self.call("ps", "--all", "--quiet").split()


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    if why := missing():
        pytest.skip(why)
    home = Path(tempfile.mkdtemp(prefix="podman."))  # not in pytest's own folder: podman wants short paths
    podman = Podman(home)
    images.make(home / "image")
    archive = home / "image.tar"
    subprocess.run(["tar", "-C", str(home / "image"), "-cf", str(archive), "."], check=True)
    podman.call("import", str(archive), IMAGE)
    yield podman
    podman.call("rm", "--all", "--force", "--time", "0")
    shutil.rmtree(home)


@pytest.fixture
def lab(farm: Farm, podman: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    monkeypatch.setenv("PATH", f"{podman.bin}:{os.environ['PATH']}")
    (farm.folder / "out").mkdir()
    yield farm
    podman.call("rm", "--all", "--force", "--time", "0")


def define(farm: Farm, **options: str) -> Farm:
    options = {"image": IMAGE, "options": OPTIONS, "volumes": "./out:/out", **options}
    lines = [f"{name} = {value}".replace("\n", "\n    ") for name, value in options.items()]
    (farm.folder / "lab.ini").write_text("\n".join(["[lab]", "Runner = taskfarmer.runners.PodmanRunner", *lines, ""]))
    return farm


def run(farm: Farm, *commands: str, check: int = 0, flags: tuple[str, ...] = ()) -> list[str]:
    farm.write(*commands).run("-n", "1", "--runner", "lab", *flags, check=check)
    return [farm.log(id) for id in range(len(commands))]


def started(farm: Farm, *commands: str, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start these and wait until each has made its file `ready_ID`."""
    farmer = farm.write(*commands).start("-n", str(len(commands)), "--runner", "lab", *flags)
    wait_until(lambda: all((farm.folder / "out" / f"ready_{id}").exists() for id in range(len(commands))))
    return farmer


def assert_nothing_is_left(farm: Farm) -> None:
    """Nothing that belongs to a container of this farm runs: not the container, not podman, not conmon."""
    assert marked(farm) == []
    assert_nothing_runs_in(farm.folder)


def marked(farm: Farm) -> list[int]:
    """Processes with this farm's workdir in their environment or command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            said = [Path(f"/proc/{name}/{file}").read_bytes() for file in ("environ", "cmdline")]
        except OSError:
            continue
        if os.fsencode(farm.workdir) in b"".join(said) and proctable.exists(int(name)) and int(name) != os.getpid():
            found.append(int(name))
    return found


READY = "touch /out/ready_$PROC_NUMBER; "
BLOCK = f"{READY} [ -e /out/go ] || sleep 600"


def test_a_command_runs_in_the_container(lab: Farm, podman: Podman) -> None:
    said = run(
        define(lab), "cat /etc/image-release", "exit 7", "echo 'a  b' \"$HOME\" | tr a-z A-Z; echo err >&2",
        "nosuchprogram", "kill -9 $$", check=1,
    )  # fmt: skip
    assert said[0] == "the image\n"
    assert said[2] == "A  B /ROOT\nerr\n"
    assert lab.ids("finished") == [0, 2] and lab.ids("failed") == [1, 3, 4]
    assert podman.containers() == []


def test_what_tasks_see_reaches_it(lab: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "my own")
    monkeypatch.setenv("HIDDEN", "x")
    define(lab, env="THREADS=4 MINE", setup="source /opt/setup.sh")
    said = run(lab, "true", 'echo $PROC_NUMBER $THREADS "$MINE" $FROM_SETUP ${HIDDEN-}; env | grep -c ^TASKFARMER_')
    assert said[1] == "1 4 my own yes\n5\n"


def test_volumes_and_the_directory(lab: Farm) -> None:
    define(lab, volumes=". ./out:/out:ro", workdir="./out")
    run(lab, "pwd > here; [ -e ../tasks.txt ]; touch /out/x", check=1)
    assert (lab.folder / "out" / "here").read_text() == f"{lab.folder}/out\n"
    assert "Read-only file system" in lab.log(0)


def test_a_setup_that_fails_keeps_the_command_from_being_run(lab: Farm) -> None:
    for shell in ("/bin/bash", "/bin/sh"):
        define(lab, setup="true\nls /nosuchfile", shell=shell)
        name = os.path.basename(shell)
        lab.write("echo 'all done'").run("--runner", "lab", "-w", name, check=1)
        said = (lab.folder / name / "logs" / "log_0").read_text()
        assert "nosuchfile" in said and "all done" not in said


def test_an_image_that_is_not_there_fails_the_task_in_podmans_words(lab: Farm) -> None:
    said = run(define(lab, image="localhost/nosuch:1", options=f"--pull never {OPTIONS}"), "true", check=1)
    assert "nosuch" in said[0]


init = pytest.mark.parametrize("init", ["yes", "no"])


@init
def test_a_stop_reaches_the_task(lab: Farm, podman: Podman, init: str) -> None:
    heeds = f"trap 'echo heard > /out/heard; exit 9' TERM; {READY} while :; do sleep 0.1; done"
    farmer = started(define(lab, init=init), heeds, flags=("--grace", "30"))
    farmer.send_signal(signal.SIGTERM)
    status, said = ended(farmer, 60)
    assert status == 75, said
    assert (lab.folder / "out" / "heard").exists()
    assert lab.waiting() == [0]
    assert_nothing_is_left(lab)
    assert podman.containers() == []


def test_with_an_init_a_task_that_knows_nothing_of_signals_ends_at_once(lab: Farm, podman: Podman) -> None:
    farmer = started(define(lab, init="yes"), f"{READY} exec sleep 600", flags=("--grace", "30"))
    farmer.send_signal(signal.SIGTERM)
    status, said = ended(farmer, 25)
    assert status == 75, said
    assert_nothing_is_left(lab)
    assert podman.containers() == []


@init
def test_what_ignores_the_stop_is_killed_and_only_its_files_stay_where_the_label_finds_them(
    lab: Farm, podman: Podman, init: str
) -> None:
    stubborn = f"trap '' TERM; setsid sleep 600 & {READY} while :; do sleep 1; done"
    farmer = started(define(lab, init=init), stubborn, stubborn, flags=("--grace", "1"))
    farmer.send_signal(signal.SIGTERM)
    status, said = ended(farmer, 60)
    assert status == 75, said
    assert_nothing_is_left(lab)
    left = podman.call("ps", "--all", "--quiet", "--filter", "label=pytaskfarmer").split()
    assert sorted(left) == sorted(podman.containers())
    if left:
        podman.call("rm", "--force", *left)
    assert podman.containers() == []


def test_a_task_that_takes_too_long_is_ended_and_the_next_one_runs(lab: Farm, podman: Podman) -> None:
    run(define(lab), BLOCK, "true", flags=("--task-timeout", "4s"), check=1)
    assert lab.ids("failed") == [0] and lab.ids("finished") == [1]
    assert_nothing_is_left(lab)
    assert podman.containers() == []


@init
@pytest.mark.parametrize("whom", ["farmer and workers", "worker"])
def test_after_kill_9_what_ran_is_ended_before_it_runs_again(lab: Farm, podman: Podman, whom: str, init: str) -> None:
    define(lab, init=init)
    farmer = started(lab, f"echo $TASKFARMER_ATTEMPT >> /out/attempts; {BLOCK}")
    container = marked(lab)
    workers = children_of(farmer.pid)
    (lab.folder / "out" / "go").touch()
    kill(workers if whom == "worker" else [farmer.pid, *workers])
    if whom == "worker":
        status, said = ended(farmer, 60)
        assert status == 0, said
    else:
        farmer.communicate()
        lab.run("-n", "1", "--runner", "lab", check=0)
    assert lab.ids("finished") == [0]
    assert [pid for pid in container if proctable.exists(pid)] == []
    assert (lab.folder / "out" / "attempts").read_text().count("\n") == 2
    wait_until(lambda: podman.containers() == [], what="the removal of the container")


def test_the_shipped_definition_runs(lab: Farm, podman: Podman) -> None:
    podman.call("tag", IMAGE, "docker.io/library/debian:12")
    conf = podman.bin / "containers.conf"
    conf.write_text('[containers]\ncgroups = "disabled"\nnetns = "none"\n'
                    'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n')  # fmt: skip
    env = {**os.environ, "CONTAINERS_CONF": str(conf)}
    lab.write("cat /etc/image-release > here; ls").run("--runner", "podman", check=0, env=env)
    assert (lab.folder / "here").read_text() == "the image\n"
