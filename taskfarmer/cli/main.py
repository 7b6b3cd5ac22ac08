"""The command line: which verb, its flags, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from typing import Sequence

from taskfarmer.cli import PROGRAM, VERBS, streams
from taskfarmer.errors import DiskError, FarmError

EXIT_FINISHED, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_AGAIN = 0, 1, 2, os.EX_TEMPFAIL


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    if argv is None and sys.getfilesystemencoding() != "utf-8" and sys.executable:
        # The locale says ASCII or Latin-1. Commands and names are bytes that must reach the tasks as they are: begin anew.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    streams.make_usable()
    words = list(sys.argv[1:] if argv is None else argv)
    status = EXIT_FINISHED
    try:
        status = _verb(words)
        sys.stdout.flush()
    except DiskError as error:
        streams.stop_talking_if_closed()
        again = "Nothing is lost: start the same line again when the disk can be written"
        streams.complain(f"{PROGRAM}: {error}. {again}")
        status = error.exit_status
    except FarmError as error:
        streams.stop_talking_if_closed()
        streams.complain(f"{PROGRAM}: {error}")
        status = error.exit_status
    except BrokenPipeError:
        streams.stop_talking_if_closed()
    except OSError as error:
        if not _is_about_standard_output(error):
            raise
        streams.stop_talking()
        streams.complain(f"{PROGRAM}: standard output cannot be written: {error.strerror}")
        status = EXIT_AGAIN
    except KeyboardInterrupt:
        status = 128 + 2
    sys.exit(status)


def _verb(words: list[str]) -> int:
    verb = words.pop(0) if words and words[0] in VERBS else "run"
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


def _is_about_standard_output(error: OSError) -> bool:
    """Whether a disk refused what we print: every other file's error names its file."""
    from taskfarmer.system import files

    return error.filename is None and error.errno in files.DISK_TROUBLE
