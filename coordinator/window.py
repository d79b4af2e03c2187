"""Which tasks are published next: a bounded number, by priority, then by fair share. Pure."""

from coordinator.outcomes import Core, set_record
from coordinator.policy import window_limit
from coordinator.state import ActiveJob
from coordinator.transitions import TaskCause
from coordinator.turn import Turn
from mr.protocol.names import MAX_JOB_PRIORITY


def fill_window(core: Core, turn: Turn) -> None:
    """Publish waiting tasks while the window has room.

    A priority level sees only what is out at its own level and above, so that a full window of
    lower jobs never delays it. Inside a level the job with the least out for its weight is next.
    """
    limit = window_limit(core.settings, core.cluster.slots)
    core.peak_window = max(core.peak_window, limit)
    out = 0
    for priority in range(MAX_JOB_PRIORITY, -1, -1):
        jobs = [job for job in core.jobs.values() if job.spec.priority == priority]
        out += sum(len(job.outstanding) for job in jobs)
        while out < limit and jobs:
            job = min(jobs, key=_share)
            if _publish_one(turn, job):
                out += 1
            else:
                jobs.remove(job)


def _share(job: ActiveJob) -> tuple[float, int]:
    """What a job has out, for its weight; equals in order of acceptance."""
    return len(job.outstanding) / job.spec.weight, job.order


def _publish_one(turn: Turn, job: ActiveJob) -> bool:
    """Publish the job's next task. Returns whether there was one."""
    task = None if job.output_done else job.next_waiting(turn.now)
    if task is None:
        return False
    set_record(task, queued_at=turn.now)
    job.move(task, TaskCause.PUBLISHED)
    turn.touch(job, task)
    turn.publish(job, task)
    return True
