"""Where the committed map outputs lie, when the worker that held them is gone. Pure.

Before a map is run again the store is asked: a worker that was restarted in the same spool has adopted the
outputs of its dead predecessor, and nothing is lost.
"""

from mr.coordinator.core.attempts import SchedulerState, reopen_output
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.events import ClaimsObserved
from mr.coordinator.core.isolation import each_job
from mr.coordinator.core.state import ActiveJob
from mr.protocol.claims import Claim
from mr.protocol.records import MapOutput, TaskState


def doubt_outputs(core: SchedulerState, turn: Decisions) -> None:
    """Ask the store about each job that needs outputs of a worker which is gone, once a lease at most."""
    each_job(core, turn, lambda job: _doubt(core, turn, job))


def _doubt(core: SchedulerState, turn: Decisions, job: ActiveJob) -> None:
    if not job.needs_map_outputs:
        return
    if not any(core.cluster.outputs_gone(incarnation, turn.now) for incarnation in job.outputs):
        return
    if not job.doubtful or turn.now - job.inspected_at >= core.settings.lease_seconds:
        job.doubtful = True
        turn.inspect(job)


def settle_outputs(core: SchedulerState, turn: Decisions, job: ActiveJob, answer: ClaimsObserved) -> None:
    """Follow the outputs that were relocated; run those maps again whose output is lost.

    The answer holds the results of all maps that were committed when it was asked for.
    """
    job.doubtful = False
    for task in job.tasks.values():
        known = None if task.result is None else task.result.output
        if task.state is not TaskState.COMMITTED or not isinstance(known, MapOutput):
            continue
        if task.committed_at > answer.asked_at:
            continue
        recorded = answer.results.get(task.task_id)
        output = None if recorded is None else recorded.output
        if not answer.claims.get(task.task_id, Claim()).winner or not isinstance(output, MapOutput):
            reopen_output(turn, job, task)
            continue
        if recorded is not None and output.placement != known.placement:
            core.cluster.hear_of(output.worker, output.incarnation, turn.now)
            job.move_output(task, recorded)
            turn.touch(job, task)
        if core.cluster.outputs_gone(output.incarnation, turn.now):
            reopen_output(turn, job, task)
