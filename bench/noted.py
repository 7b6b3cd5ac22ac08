"""The program as it is, but for a note of each time the lock was taken: `python -m bench.noted NOTES tasks.txt ...`

NOTES is JSON: `[[at, waited, held], ...]`, seconds; `at` is when it was taken, by the monotonic clock of this machine.
"""

from __future__ import annotations

import json
import os
import sys
import time

import taskfarmer.stores.workdir
from taskfarmer.cli.main import main
from taskfarmer.system.lock import FarmLock

Note = tuple[float, float, float]


class NotedLock(FarmLock):
    """The lock, and when it was taken for how long."""

    notes: list[Note] = []

    def __enter__(self) -> FarmLock:
        super().__enter__()
        self._taken_at = time.monotonic()
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self.notes.append((self._taken_at, self.waited, time.monotonic() - self._taken_at))


if __name__ == "__main__":
    path, pid = sys.argv.pop(1), os.getpid()
    taskfarmer.stores.workdir.FarmLock = NotedLock  # type: ignore[misc]
    try:
        sys.exit(main(sys.argv[1:]))
    finally:
        if os.getpid() == pid:  # not in a worker
            with open(path, "w") as file:
                json.dump(NotedLock.notes, file)
