"""A small image with bash and BusyBox in it, as a folder, for tests of containers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_APPLETS = """
sh ls cat chmod echo env pwd sleep hostname ps touch true false test kill id grep sed seq mkdir rm readlink tr sort
"""


def missing() -> str | None:
    """Why no image can be made here."""
    if not shutil.which("busybox"):
        return "busybox is missing: sh tests/components/install.sh busybox"
    return None if os.geteuid() == 0 else "only root can enter an image"


def make(folder: Path) -> Path:
    """Make the image in this new folder."""
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "usr/bin", "root", "mnt", "opt", "data", "out"):
        (folder / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, folder / "bin" / "busybox")
    for name in _APPLETS.split():
        (folder / "bin" / name).symlink_to("busybox")
    _copy_with_libraries("/bin/bash", folder)
    (folder / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc" / "image-release").write_text("the image\n")
    for name in ("group", "hosts", "resolv.conf"):
        (folder / "etc" / name).touch()
    (folder / "opt" / "setup.sh").write_text("export FROM_SETUP=yes\n")
    return folder


def _copy_with_libraries(program: str, folder: Path) -> None:
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in [program, *(word for word in said.split() if word.startswith("/"))]:
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
