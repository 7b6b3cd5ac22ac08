"""Where a task's output goes: `logs/log_ID`, for every task, for failed ones, or nowhere.

With `failed` a slot writes into one file of its own, `running/OWNER/log_K`, which gets its name in `logs/` only if the
task fails: the number of files does not grow with the list.
"""

from __future__ import annotations

import os

from taskfarmer.farm.orders import Setup
from taskfarmer.stores.lines import owner_folder
from taskfarmer.system import files

_APPEND = os.O_APPEND | os.O_TRUNC
_FRESH = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | _APPEND


class TaskLog:
    """The output of one slot's tasks, one after another."""

    def __init__(self, setup: Setup, slot: int) -> None:
        self._setup = setup
        self._scratch = os.path.join(owner_folder(setup.workdir, setup.owner), f"log_{slot}")
        self._prefix = os.path.join(setup.workdir, "logs", "log_")
        self._limit = setup.log_limit
        self._fd = -1
        self._id = -1
        self._left_out = 0  # bytes of this task's output, so far
        self._mark = b""  # what stands in their place

    def open(self, id: int) -> int:
        """A descriptor for the next task's output."""
        self._id = id
        self._left_out, self._mark = 0, b""
        if self._setup.logs == "all":
            if self._setup.shared:
                self._fd = self._open_shared(self._path(id))
            else:
                self._fd = os.open(f"{self._prefix}{id}", _FRESH, 0o666)
        elif self._fd < 0:
            if self._setup.logs == "failed":
                self._fd = files.open_or_create(self._scratch, self._setup.shared, _APPEND)
            else:
                self._fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        return self._fd

    def _open_shared(self, path: str) -> int:
        try:
            return files.open_or_create(path, True, _APPEND)
        except PermissionError:
            os.unlink(path)  # from before the farm was shared
            return files.open_or_create(path, True, _APPEND)

    def is_there(self, id: int) -> bool:
        """Whether something has the name of a task's log."""
        return os.path.lexists(self._path(id))

    def write(self, text: str) -> None:
        """Say something of ours in the task's log."""
        os.write(self._fd, text.encode("utf-8", "surrogateescape"))

    def trim(self, final: bool = False) -> None:
        """Keep head and tail of an output that is larger than `--log-limit`, twice that while it is being written."""
        if self._setup.logs != "none":
            size = os.fstat(self._fd).st_size
            if size - len(self._mark) > (self._limit if final else 2 * self._limit):
                self._leave_out_the_middle(size)

    def _leave_out_the_middle(self, size: int) -> None:
        half = self._limit // 2
        tail = os.pread(self._fd, half, size - half)
        self._left_out += size - len(self._mark) - 2 * half
        self._mark = b"\n[pytaskfarmer: %d bytes left out, --log-limit %d]\n" % (self._left_out, self._limit)
        # The task may write on meanwhile: it appends, so it loses at most what it says in this instant.
        os.ftruncate(self._fd, half)
        os.write(self._fd, self._mark + tail)

    def close(self, failed: bool, attempt: int) -> None:
        """The task has ended: keep its output, or not."""
        if self._limit:
            self.trim(final=True)
        if self._setup.logs == "all":
            os.close(self._fd)
            self._fd = -1
        elif self._setup.logs == "failed":
            if failed:
                os.rename(self._scratch, self._path(self._id))
                os.close(self._fd)
                self._fd = -1
            else:
                if os.fstat(self._fd).st_size:
                    os.ftruncate(self._fd, 0)
                if attempt > 1:
                    self._remove(self._id)  # of an attempt that failed

    def _remove(self, id: int) -> None:
        try:
            os.unlink(self._path(id))
        except FileNotFoundError:
            pass  # the earlier attempt ended without one

    def _path(self, id: int) -> str:
        return f"{self._prefix}{id}"
