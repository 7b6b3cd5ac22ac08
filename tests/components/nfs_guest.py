"""Kernel NFS, server and two clients, in a guest of its own: only a kernel that has it can serve and mount it.

The guest (QEMU, emulated: slow, but it needs no rights) boots Debian's kernel and sees this machine's files, the checkout
and its Python among them; what it writes there is gone with it. nfs_guest_boot.sh and nfs_guest_up.sh run inside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple, Sequence

HERE = Path(__file__).parent
_HOME = Path(os.environ.get("COMPONENTS_DIR") or Path.home() / ".cache" / "taskfarmer-components") / "nfs-kernel"
_PROGRAMS = ("qemu-system-x86_64", "busybox", "cpio", "modprobe", "ip", "exportfs", "mkfs.ext4")
_MODULES = (
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "nfsv3",
    "nfsv4",
    "nfsd",
    "veth",
    "loop",
    "ext4",
    "crc32c_generic",
)
#: Where the clients see the server's files.
MOUNTS = (Path("/mnt/nfs1"), Path("/mnt/nfs2"))
#: Seconds after which the server takes its locks from a client that is silent, if somebody else wants them.
LEASE = 15


class Nfs(NamedTuple):
    """How the guest's clients mount: version 4.2 or 3, more options (`,nolock`), whether both have one host name, and
    whether they have a lock daemon, which version 3 needs for locks."""

    version: str
    options: str = ""
    one_name: bool = False
    lock_daemon: bool = False


def missing() -> str | None:
    """Why there can be no guest here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name in _PROGRAMS if not shutil.which(name, path=path)]
    lacking += [] if (_HOME / "vmlinuz").exists() else [str(_HOME)]
    return f"{', '.join(lacking)} is missing: sh tests/components/install.sh nfs" if lacking else None


def run(nfs: Nfs, command: Sequence[str | os.PathLike[str]], timeout: float) -> str:
    """What a command says that runs in a new guest, in the current folder. It must succeed."""
    with tempfile.TemporaryDirectory(prefix="nfs-guest.") as name:
        folder = Path(name)
        _write_command(folder / "command", command)
        _make_initrd(folder)
        said = _boot(folder, nfs, timeout)
    before, mark, status = said.partition("GUEST-EXIT ")
    assert mark and status.split()[0] == "0", f"the guest ended with {status or 'nothing said'}:\n{before}"
    return before


def _write_command(path: Path, command: Sequence[str | os.PathLike[str]]) -> None:
    from shlex import quote

    words = " ".join(quote(os.fspath(word)) for word in command)
    path.write_text(f"cd {quote(os.getcwd())} && {words}\n")


def _make_initrd(folder: Path) -> None:
    """What the kernel begins with: busybox, the drivers in the order in which they must be loaded, and the first program."""
    root = folder / "initrd"
    for name in ("bin", "modules", "proc", "sys", "dev", "lower", "memory", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy(str(shutil.which("busybox")), root / "bin" / "busybox")
    shutil.copy(HERE / "nfs_guest_boot.sh", root / "init")
    (root / "init").chmod(0o755)
    files = list(dict.fromkeys(path for module in _MODULES for path in _module_files(module)))
    for path in files:
        shutil.copy(path, root / "modules")
    (root / "modules" / "order").write_text("".join(f"{path.name}\n" for path in files))
    with open(folder / "initrd.cpio", "wb") as archive:
        names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, check=True, input=names, stdout=archive)


def _module_files(module: str) -> list[Path]:
    (version,) = os.listdir(_HOME / "lib" / "modules")
    words = ["/sbin/modprobe", "-d", str(_HOME), "-S", version, "--show-depends", module]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return [Path(line.split()[1]) for line in said.splitlines() if line.startswith("insmod ")]


def _boot(folder: Path, nfs: Nfs, timeout: float) -> str:
    asked = {
        "UP": HERE / "nfs_guest_up.sh",
        "COMMAND": folder / "command",
        "NFS_VERSION": nfs.version,
        "NFS_OPTIONS": nfs.options,
        "ONE_NAME": "yes" if nfs.one_name else "",
        "LOCK_DAEMON": "yes" if nfs.lock_daemon else "",
        "LEASE": LEASE,
    }
    options = " ".join(f"{name}={value}" for name, value in asked.items() if value)
    guest = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1536",
        "-nodefaults", "-no-reboot", "-nographic", "-serial", "stdio", "-nic", "none",
        "-kernel", str(_HOME / "vmlinuz"), "-initrd", str(folder / "initrd.cpio"),
        "-append", f"console=ttyS0 panic=-1 quiet mitigations=off {options}",
        "-virtfs", "local,path=/,mount_tag=machine,security_model=none,readonly=on,multidevs=remap",
    ]  # fmt: skip
    path = folder / "said"  # to be looked at meanwhile
    with open(path, "wb") as said:
        subprocess.run(guest, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, timeout=timeout)
    return path.read_text(errors="replace").replace("\r", "")
