"""What the user asked of a farmer."""

from typing import Callable, NamedTuple

from taskfarmer.farm.deadline import NEVER, JobEnd
from taskfarmer.stores.owners import DEAD_AFTER


class Policy(NamedTuple):
    """Times in seconds.

    `job_end` says when to be gone, as soon as that is known; what `expect` says a task takes must fit before it.
    """

    retries: int = 0
    retry_delay: float = 0.0
    max_failures: int | None = None
    grace: float = 5.0
    tell_finished: bool = False
    job_end: Callable[[], JobEnd | None] = lambda: NEVER
    expect: float | None = None
    sick_node_stop: bool = True
    dead_after: float = DEAD_AFTER
    in_job: bool = False
    wait_for_others: bool = False
