"""The command line: which verb, its flags, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from typing import Sequence

from taskfarmer.cli import flags
from taskfarmer.errors import DiskError, FarmError

EXIT_FINISHED, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_AGAIN = 0, 1, 2, os.EX_TEMPFAIL


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    _have_standard_descriptors()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _verb(words)
        sys.stdout.flush()
    except DiskError as error:
        _stop_talking_if_closed()
        again = "Nothing is lost: start the same line again when the disk can be written"
        print(f"{flags.PROGRAM}: {error}. {again}", file=sys.stderr)
        status = error.exit_status
    except FarmError as error:
        _stop_talking_if_closed()
        print(f"{flags.PROGRAM}: {error}", file=sys.stderr)
        status = error.exit_status
    except BrokenPipeError:
        _stop_talking_if_closed()
        status = EXIT_FINISHED
    except OSError as error:
        if not _is_about_standard_output(error):
            raise
        _silence_standard_output()
        print(f"{flags.PROGRAM}: standard output cannot be written: {error.strerror}", file=sys.stderr)
        status = EXIT_AGAIN
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
    if verb in ("runners", "tasklists"):
        from taskfarmer.cli import definitions

        return definitions.main(verb.removesuffix("s"), words)
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
    except OSError:
        _silence_standard_output()


def _silence_standard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_about_standard_output(error: OSError) -> bool:
    """Whether a disk refused what we print: every other file's error names its file."""
    from taskfarmer.system import files

    return error.filename is None and error.errno in files.DISK_TROUBLE
