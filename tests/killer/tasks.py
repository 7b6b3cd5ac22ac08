"""What the tasks of the killer's farms do, and the side effects by which their executions are counted.

A task takes a lock of its own for as long as it runs, its children included: if it finds it taken, two attempts run at
once, and it says so in `twice`. It appends whole lines to `effects`, outside the workdir:

    ID ATTEMPT WHAT OWNER WORKER PID UPTIME        WHAT: start, ok, fail
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

SCRIPT = """\
me="$TASKFARMER_TASK_ID $TASKFARMER_ATTEMPT"
say() {
    read -r up idle < /proc/uptime
    echo "$me $1 $TASKFARMER_OWNER $PPID $$ $up" >> effects
}
exec 9> locks/$TASKFARMER_TASK_ID
flock -n 9 || echo "$me $TASKFARMER_OWNER $PPID $$" >> twice
say start
echo "$me"
case $1 in
    stubborn) trap '' TERM INT USR1 USR2 HUP ;;
    leaver) setsid sleep 3 & ;;
esac
[ "$2" = 0 ] || sleep "$2"
case $1 in
    failing) say fail; exit 3 ;;
esac
say ok
"""

#: Seconds that a `leaver` leaves something running behind.
LEFT_BEHIND = 3.0


class Execution(NamedTuple):
    """One execution of a task, as it said itself. Times are seconds of uptime; `how` is "" if it did not reach its end."""

    id: int
    attempt: int
    owner: str
    worker: int
    start: float
    how: str = ""
    end: float = 0.0

    @property
    def farmer(self) -> int:
        """The pid of the farmer it belonged to."""
        return int(self.owner.rsplit(".", 3)[1])


def lines(rng: random.Random, count: int, brisk: bool = False) -> list[str]:
    """Task lines: some take no time, some three seconds; some fail, do not heed signals, or leave something behind.

    `brisk`: none takes time, so that they are claimed, handed out and settled in large batches.
    """
    if brisk:
        return [f"sh task.sh {kind} 0" for kind in rng.choices(["plain", "failing"], [20, 1], k=count)]
    kinds = rng.choices(["plain", "failing", "stubborn", "leaver"], [12, 3, 2, 3], k=count)
    return [f"sh task.sh {kind} {_length(rng)}" for kind in kinds]


def _length(rng: random.Random) -> str:
    least, most = rng.choices([(0, 0), (0.02, 0.3), (0.3, 1.2), (1.2, 3.0)], [6, 5, 3, 1])[0]
    return f"{rng.uniform(least, most):.2f}" if most else "0"


def read_effects(path: Path) -> list[Execution]:
    """Every execution, in the order in which they started."""
    executions: dict[tuple[str, str, str], Execution] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        id, attempt, what, owner, worker, pid, uptime = line.split()
        key = (id, owner, pid)
        if what == "start":
            executions[key] = Execution(int(id), int(attempt), owner, int(worker), float(uptime))
        else:
            executions[key] = executions[key]._replace(how=what, end=float(uptime))
    return list(executions.values())
