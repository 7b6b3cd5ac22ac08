#!/usr/bin/env python3
"""A stand-in for NERSC's shifter that really enters an image: mount namespace, chroot, exec in the same process.

It is no part of Shifter. Command line, environment and messages follow shifter.c: options end at the first word that is none,
the last --image, --module and --workdir count, TERM, INT and HUP are ignored while the image is set up, the loader's
variables and TMPDIR do not get into the image, the command is executed by the process that was started. Left out: that root
is refused, entrypoints, --env-file.

SHIFTER_TEST_IMAGES/TYPE/TAG (`/` in a tag as `_`) are the images, folders all. SHIFTER_TEST_LOG: a file that gets a line of
JSON per call. SHIFTER_TEST_DELAY: seconds the setting up takes. What the site mounts in every image is /tmp alone.
"""

from __future__ import annotations

import ctypes
import getopt
import json
import os
import re
import signal
import sys
import time
from typing import NamedTuple, NoReturn

LIBC = ctypes.CDLL(None, use_errno=True)
RDONLY, REMOUNT, BIND, REC, PRIVATE, NEWNS = 0x1, 0x20, 0x1000, 0x4000, 0x40000, 0x20000
OF_THE_SYSTEM = ("dev", "proc", "sys", "tmp")
ROOT = "/mnt"


class Wanted(NamedTuple):
    """What the command line says."""

    image: str
    volumes: list[tuple[str, str, bool]]
    env: list[tuple[str, str]]
    clear: bool
    workdir: str | None
    command: list[str]


def main() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    note_call()
    wanted = read(sys.argv[1:])
    folder = os.path.join(os.environ["SHIFTER_TEST_IMAGES"], *wanted.image.replace("/", "_").split(":", 1))
    if not os.path.isdir(folder):
        fail(f"FAILED to lookup {wanted.image.replace(':', ' image ', 1)}")
    here = os.getcwd()
    time.sleep(float(os.environ.get("SHIFTER_TEST_DELAY", "0")))
    enter(folder, wanted.volumes)
    try:
        os.chdir(wanted.workdir or here)
    except OSError:
        print(f"Failed to switch to working dir: {wanted.workdir or here}, staying in /", file=sys.stderr)
    env = environment(wanted)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.environ["PATH"] = env["PATH"]
    try:
        os.execvpe(wanted.command[0], wanted.command, env)
    except OSError as error:
        fail(f"shifter: {wanted.command[0]}: {error.strerror}", 127)


def note_call() -> None:
    if log := os.environ.get("SHIFTER_TEST_LOG"):
        with open(log, "a") as file:
            file.write(json.dumps({"argv": sys.argv, "pid": os.getpid(), "cwd": os.getcwd()}) + "\n")


def fail(message: str, status: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    sys.stderr.flush()
    os._exit(status)


# The command line


def read(argv: list[str]) -> Wanted:
    try:
        options, command = getopt.getopt(
            argv, "hvV:i:e:Em:", ["help", "verbose", "volume=", "image=", "env=", "clearenv", "module=", "workdir="]
        )
    except getopt.GetoptError as error:
        fail(f"shifter: {error}")
    image, workdir, clear, volumes, env = "", None, False, "", []
    for name, value in options:
        if name in ("-i", "--image"):
            image = value
        elif name in ("-V", "--volume"):
            volumes = f"{volumes};{value}"
        elif name in ("-e", "--env"):
            if not re.match(r"[^=]+=.", value, re.DOTALL):
                fail(f"Improperly formatted environment variable: {value}")
            variable, _, text = value.partition("=")
            env.append((variable, text))
        elif name in ("-E", "--clearenv"):
            clear = True
        elif name == "--workdir":
            workdir = value
    if ":" not in image:
        fail('Incorrect format for image identifier: need "image_type:image_desc", e.g., docker:ubuntu:17.10')
    return Wanted(
        image, [volume(text) for text in filter(None, volumes.split(";"))], env, clear, workdir, command or ["/bin/sh"]
    )


def volume(text: str) -> tuple[str, str, bool]:
    source, _, rest = text.partition(":")
    target, _, flags = rest.partition(":")
    if not target or re.match(r"/?(etc|var|opt/udiImage|proc|dev)(/|$)", target):
        fail("Failed to parse volume map options")
    return source, target, "ro" in flags.split(",")


def environment(wanted: Wanted) -> dict[str, str]:
    kept = {} if wanted.clear else dict(os.environ)
    env = {name: value for name, value in kept.items() if not re.match(r"LD_|TMPDIR$|SHIFTER_TEST_", name)}
    env["SHIFTER_IMAGEREQUEST"] = wanted.image
    env.update(wanted.env)
    env.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return env


# The image


def enter(folder: str, volumes: list[tuple[str, str, bool]]) -> None:
    """Make a root of the image, the system's folders and the volumes, and go there for good."""
    call(LIBC.unshare(NEWNS), "unshare")
    mount("none", "/", REC | PRIVATE)
    sources = [folder, *(f"/{name}" for name in OF_THE_SYSTEM), *(source for source, _, _ in volumes)]
    for source in sources:
        if not os.path.isdir(source):
            fail(f"FAILED to setup image. ({source}: no such folder)")
    open_at = {source: os.open(source, os.O_PATH) for source in sources}  # /mnt and /tmp are covered soon
    mount("image", ROOT, 0, "tmpfs", "mode=755")
    for name in os.listdir(f"/proc/self/fd/{open_at[folder]}"):
        add(f"/proc/self/fd/{open_at[folder]}/{name}", name)
    for name in OF_THE_SYSTEM:
        os.makedirs(f"{ROOT}/{name}", exist_ok=True)
        mount(f"/proc/self/fd/{open_at['/' + name]}", f"{ROOT}/{name}", BIND | REC)
    for source, target, read_only in volumes:
        if not os.path.isdir(ROOT + target):
            fail(f"FAILED to setup image. (mount point {target} does not exist in the image)")
        mount(f"/proc/self/fd/{open_at[source]}", ROOT + target, BIND)
        if read_only:
            mount("none", ROOT + target, BIND | REMOUNT | RDONLY)
    for fd in open_at.values():
        os.close(fd)
    os.chroot(ROOT)
    os.chdir("/")


def add(source: str, name: str) -> None:
    target = f"{ROOT}/{name}"
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isdir(source):
        os.mkdir(target)
        if name not in OF_THE_SYSTEM:
            mount(source, target, BIND)


def mount(source: str, target: str, flags: int, kind: str | None = None, data: str | None = None) -> None:
    words = [word and word.encode() for word in (source, target, kind, data)]
    call(LIBC.mount(words[0], words[1], words[2], flags, words[3]), f"mount {source} {target}")


def call(result: int, what: str) -> None:
    if result != 0:
        fail(f"FAILED to setup image. ({what}: {os.strerror(ctypes.get_errno())})")


if __name__ == "__main__":
    main()
