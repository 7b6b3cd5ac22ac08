"""Standard output and standard error, which may be closed, full, without a reader, or unable to show a name."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def make_usable() -> None:
    """Once, before anything is opened or said."""
    _have_descriptors()
    # Python has given up on those it found closed.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as that of standard error is


def _have_descriptors() -> None:
    """A farmer started with stdin, stdout or stderr closed must not open its files in their place."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def say(text: str) -> None:
    """Print it; a reader that has gone away changes nothing else. OSError where the disk refuses."""
    try:
        print(text)
    except BrokenPipeError:
        stop_talking()


def showable(text: str) -> str:
    """Text with a question mark for each byte that is no UTF-8; what a terminal cannot show is the stream's affair."""
    return text.encode("utf-8", "replace").decode("utf-8")


def complain(sentence: str) -> None:
    """Say it on standard error. That nobody can hear it changes nothing else."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def stop_talking_if_closed() -> None:
    """After `| head` has closed the pipe: keep Python from complaining about it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        stop_talking()


def stop_talking() -> None:
    """Nothing goes to standard output any more."""
    _silence(sys.stdout)


def _silence(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
