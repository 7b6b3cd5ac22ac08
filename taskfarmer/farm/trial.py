"""A farm on trial: how long an exchange takes, measured with the store's own code in a farm of its own."""

import os
import time
from contextlib import closing
from typing import Callable

from taskfarmer.model import Attempt, Outcome
from taskfarmer.stores.textfiles import TextStore
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import process
from taskfarmer.tasklists.lines import ListTaskList

_EXCHANGES, _TASKS = 12, 4


def seconds_of_an_exchange(folder: str, lock_kind: str, check: Callable[[], None]) -> float:
    """The median of a dozen exchanges, each of which settles four tasks and claims four."""
    workdir, tasklist = os.path.join(folder, "farm"), os.path.join(folder, "tasks")
    with open(tasklist, "w") as file:
        file.write("true\n" * (_EXCHANGES + 1) * _TASKS)
    # The lock beside the farm: not in $SCRATCH, where it would be left behind.
    store = TextStore(Workdir(workdir, process.new_owner(), lock_kind, folder))
    try:
        store.load(ListTaskList(tasklist, workdir), "default")
        with closing(store.join(1)):
            claims = store.exchange([], _TASKS).claims  # this one turns the list round
            took = []
            for _ in range(_EXCHANGES):
                check()
                began = time.perf_counter()
                claims = store.exchange([Attempt(claim, Outcome.FINISHED) for claim in claims], _TASKS).claims
                took.append(time.perf_counter() - began)
        return sorted(took)[_EXCHANGES // 2]
    finally:
        store.close()
