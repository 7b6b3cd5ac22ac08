"""Real filesystems, each mounted twice: two mounts of one filesystem are to its locks and caches what two hosts are.

Each function is a context that yields the two mounts. `missing(NAME)` says what is not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Iterator, Sequence

from conftest import wait_until

HERE = Path(__file__).parent
_HOME = Path(os.environ.get("COMPONENTS_DIR") or Path.home() / ".cache" / "taskfarmer-components")
_SFTP_SERVER = "/usr/lib/openssh/sftp-server"
_PROGRAMS = {
    "flakyfs": ["fusermount3", str(_HOME / "mfusepy" / "mfusepy.py")],
    "sshfs": ["sshfs", _SFTP_SERVER],
    "glusterfs": ["glusterfs", "glusterfsd"],
    "moosefs": ["mfsmaster", "mfschunkserver", "mfsmount", "ip"],
}

#: What makes GlusterFS remember nothing.
FORGETFUL = ("--fopen-keep-cache=false", "--attribute-timeout=0", "--entry-timeout=0")

Mounts = tuple[Path, Path]


def missing(name: str) -> str | None:
    """Why there is no such filesystem here; None if there is."""
    lacking = [program for program in _PROGRAMS[name] if not shutil.which(program) and not os.path.exists(program)]
    if lacking or not os.path.exists("/dev/fuse"):
        component = "fuse" if name == "flakyfs" else name
        return f"{', '.join(lacking) or '/dev/fuse'} is missing: sh tests/components/install.sh {component}"
    return None


@contextmanager
def flakyfs(folder: Path, *options: str) -> Iterator[Mounts]:
    """Our own; `options` as flakyfs.py explains them."""
    backing = _made(folder / "backing")
    env = {**os.environ, "PYTHONPATH": str(_HOME / "mfusepy")}

    def command(mount: Path) -> list[str]:
        return [sys.executable, str(HERE / "flakyfs.py"), str(backing), str(mount), *options]

    with _twice(folder, command, env) as mounts:
        yield mounts


@contextmanager
def sshfs(folder: Path, *options: str) -> Iterator[Mounts]:
    """sshfs without ssh: in its place is a script that starts the server at the other end of the pipe."""
    ssh = folder / "ssh"
    ssh.write_text(f"#!/bin/sh\nexec {_SFTP_SERVER}\n")
    ssh.chmod(0o755)
    backing = _made(folder / "backing")

    def command(mount: Path) -> list[str]:
        words = ",".join([f"ssh_command={ssh}", *options])
        return ["sshfs", f"node:{backing}", str(mount), "-f", "-o", words]

    with _twice(folder, command) as mounts:
        yield mounts


@contextmanager
def glusterfs(folder: Path, *options: str, locks: bool = True) -> Iterator[Mounts]:
    """One brick and its two clients, described to them by hand. `locks`: whether the brick knows of locks."""
    brick = _made(folder / "brick")
    os.setxattr(brick, "trusted.glusterfs.volume-id", bytes.fromhex("7d1f0c5e000040008000000000000001"))
    port = _free_port()
    top = "locks" if locks else "posix"
    (folder / "brick.vol").write_text(
        _volume("posix", "storage/posix", directory=brick, volume_id="7d1f0c5e-0000-4000-8000-000000000001")
        + (_volume("locks", "features/locks", below="posix") if locks else "")
        + _volume("threads", "performance/io-threads", below=top)
        + _volume("export", "debug/io-stats", below="threads")
        + _volume(
            "server",
            "protocol/server",
            below="export",
            transport_type="tcp",
            **{
                "transport.socket.bind-address": "127.0.0.1",
                "transport.socket.listen-port": port,
                "auth.addr.export.allow": "*",
            },
        )  # fmt: skip
    )
    (folder / "client.vol").write_text(
        _volume(
            "client",
            "protocol/client",
            transport_type="tcp",
            remote_host="127.0.0.1",
            remote_port=port,
            remote_subvolume="export",
            ping_timeout=5,
        )  # fmt: skip
    )
    server = ["glusterfsd", "-N", "-f", str(folder / "brick.vol"), "-l", str(folder / "brick.log")]
    server += ["-p", str(folder / "brick.pid")]

    def command(mount: Path) -> list[str]:
        log = ["-l", f"{mount}.log", "-p", f"{mount}.pid"]
        return ["glusterfs", "-N", "-f", str(folder / "client.vol"), *options, *log, str(mount)]

    with _running(server), _listening(port), _twice(folder, command) as mounts:
        yield mounts


def _volume(name: str, kind: str, below: str = "", **options: object) -> str:
    lines = [f"volume {name}", f"  type {kind}"]
    lines += [f"  option {key.replace('_', '-')} {value}" for key, value in options.items()]
    lines += [f"  subvolumes {below}"] if below else []
    return "\n".join([*lines, "end-volume\n\n"])


@contextmanager
def moosefs(folder: Path, *options: str) -> Iterator[Mounts]:
    """A master, a chunk server and two clients, in a network of their own: they refuse 127.0.0.1. `options` are lines of
    mfsmaster.cfg."""
    net, address, port = f"mfs{os.getpid()}", "10.77.0.1", 29420
    for name in ("meta", "chunks", "cs"):
        _made(folder / name)
    empty = next(path for path in Path("/var/lib/mfs").glob("metadata.mfs.empty"))
    shutil.copy(empty, folder / "meta" / "metadata.mfs")
    (folder / "exports").write_text("10.77.0.0/16 / rw,alldirs,admin,maproot=0:0\n")
    (folder / "topology").touch()
    (folder / "disks").write_text(f"{folder}/chunks\n")
    common = f"WORKING_USER = root\nWORKING_GROUP = root\nMASTER_HOST = {address}\n"
    (folder / "master.cfg").write_text(
        f"{common}DATA_PATH = {folder}/meta\nEXPORTS_FILENAME = {folder}/exports\nTOPOLOGY_FILENAME = {folder}/topology\n"
        + "".join(
            f"MATO{who}_LISTEN_HOST = {address}\nMATO{who}_LISTEN_PORT = {port + n}\n"
            for n, who in enumerate(("ML", "CS", "CL"))
        )
        + "".join(f"{line}\n" for line in options)
    )
    (folder / "chunks.cfg").write_text(
        f"{common}DATA_PATH = {folder}/cs\nHDD_CONF_FILENAME = {folder}/disks\nMASTER_PORT = {port + 1}\n"
        f"CSSERV_LISTEN_HOST = {address}\nCSSERV_LISTEN_PORT = {port + 3}\nMASTER_RECONNECTION_DELAY = 1\n"
    )
    inside = ["nsenter", f"--net=/run/netns/{net}"]
    with ExitStack() as stack:
        _call("ip", "netns", "add", net)
        stack.callback(_call, "ip", "netns", "del", net)
        _call(*inside, "ip", "link", "set", "lo", "up")
        _call(*inside, "ip", "address", "add", f"{address}/32", "dev", "lo")
        stack.enter_context(_running([*inside, "mfsmaster", "-f", "-c", str(folder / "master.cfg"), "start"]))
        stack.enter_context(_running([*inside, "mfschunkserver", "-f", "-c", str(folder / "chunks.cfg"), "start"]))
        door = ["bash", "-c", f"exec 3<>/dev/tcp/{address}/{port + 2}"]
        wait_until(
            lambda: subprocess.run([*inside, *door], capture_output=True).returncode == 0, 60, "MooseFS's master"
        )
        client = ["mfsmount", "-f", "-H", address, "-P", str(port + 2), "-o", "mfssubfolder=/"]
        mounts = stack.enter_context(_twice(folder, lambda mount: [*inside, *client[:2], str(mount), *client[2:]]))
        wait_until(lambda: _takes_files(mounts[0]), 60, "MooseFS, ready to be written")
        yield mounts


def _takes_files(mount: Path) -> bool:
    try:
        (mount / "ready").write_text("yes\n")
    except OSError:
        return False
    return True


# Processes and mounts


@contextmanager
def _twice(folder: Path, command, env: dict[str, str] | None = None) -> Iterator[Mounts]:  # type: ignore[no-untyped-def]
    mounts = (_made(folder / "mount_1"), _made(folder / "mount_2"))
    with ExitStack() as stack:
        for mount in mounts:
            stack.enter_context(_running(command(mount), env))
            stack.callback(_unmount, mount)
            wait_until(lambda: _is_mounted(mount), 60, f"the mount {mount}")  # noqa: B023
        yield mounts


def _is_mounted(mount: Path) -> bool:
    try:
        return mount.is_mount() and os.listdir(mount) is not None
    except OSError:
        return False  # mounted, but the server is not there yet


def _unmount(mount: Path) -> None:
    subprocess.run(["umount", "--lazy", str(mount)], check=True, timeout=60)


@contextmanager
def _running(command: Sequence[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _listening(port: int) -> Iterator[None]:
    import socket

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, 60, f"somebody at port {port}")
    yield


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _call(*words: str) -> None:
    subprocess.run(words, check=True, timeout=60)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
