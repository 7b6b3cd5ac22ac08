"""The command line: which verb, its flags, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from typing import Sequence

from taskfarmer.cli import flags
from taskfarmer.errors import FarmError

EXIT_FINISHED, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_AGAIN = 0, 1, 2, os.EX_TEMPFAIL


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    _have_standard_descriptors()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _verb(words)
        sys.stdout.flush()
    except FarmError as error:
        _stop_talking_if_closed()
        print(f"{flags.PROGRAM}: {error}", file=sys.stderr)
        status = error.exit_status
    except BrokenPipeError:
        _stop_talking_if_closed()
        status = EXIT_FINISHED
    except KeyboardInterrupt:
        status = 128 + 2
    sys.exit(status)


def _verb(words: list[str]) -> int:
    verb = words.pop(0) if words and words[0] in flags.VERBS else "run"
    if verb == "status":
        from taskfarmer.cli import status

        return status.main(words)
    if verb == "retry":
        from taskfarmer.cli import retry

        return retry.main(words)
    if verb == "doctor":
        from taskfarmer.cli import doctor

        return doctor.main(words)
    from taskfarmer.cli import run

    return run.main(words)


def _have_standard_descriptors() -> None:
    """A farmer started with stdin, stdout or stderr closed must not open its files in their place."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    # Python has given up on those it found closed.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def _stop_talking_if_closed() -> None:
    """After `| head` has closed the pipe: keep Python from complaining about it at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
