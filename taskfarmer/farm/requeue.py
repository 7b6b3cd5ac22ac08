"""Whether a job whose time is up should be started again. A pure decision of the farmer of a job that leaves last."""

from taskfarmer.farm.notices import Requeue, Summary
from taskfarmer.stores.base import Parting


def decide(summary: Summary, parting: Parting, settled_before: int) -> Requeue:
    """Start the job again? `settled_before`: tasks that were settled when this farmer started.

    Not if somebody or something else than the end of its time has stopped this farmer: whoever cancels a job does not
    want it back, and a disk that is full stays full.
    """
    stopped_otherwise = summary.stopped is not None and not summary.times_up
    if not parting.is_last or not parting.waiting or stopped_otherwise or summary.gave_up is not None:
        return Requeue.NO
    has_settled = summary.finished + summary.failed > 0 or parting.settled > settled_before
    return Requeue.YES if has_settled else Requeue.IN_VAIN
