#!/usr/bin/env python3
"""pytaskfarmer.py TASKLIST: work through a file of shell commands. See `pytaskfarmer.py --help`."""

import sys

if sys.version_info < (3, 10):
    sys.stderr.write(
        "pytaskfarmer.py: Python 3.10 or newer is needed, this is %d.%d (%s)\n"
        % (sys.version_info[:2] + (sys.executable,))
    )
    sys.exit(2)

from taskfarmer.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()
