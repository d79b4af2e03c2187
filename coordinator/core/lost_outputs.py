"""Which map outputs are lost when the worker that held them is gone. Pure.

The store is asked before a map is run again: if a worker has started in the same spool, it has adopted the
outputs of its predecessor and nothing is lost.
"""

from mr.coordinator.core.attempts import reopen_output
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.events import ClaimsObserved
from mr.coordinator.core.isolation import each_job
from mr.coordinator.core.state import ActiveJob
from mr.protocol.claims import Claim
from mr.protocol.records import MapOutput, TaskState


def doubt_outputs(decisions: Decisions) -> None:
    """Read the results of each job that needs outputs of a worker that is gone, at most once a lease."""
    each_job(decisions, lambda job: _doubt(decisions, job))


def _doubt(decisions: Decisions, job: ActiveJob) -> None:
    if not job.needs_map_outputs:
        return
    if not any(
        decisions.state.membership.outputs_gone(incarnation, decisions.now) for incarnation in job.outputs
    ):
        return
    if not job.doubtful or decisions.now - job.inspected_at >= decisions.state.settings.lease_seconds:
        job.doubtful = True
        decisions.inspect(job, "a worker that held outputs is gone")


def settle_outputs(decisions: Decisions, job: ActiveJob, answer: ClaimsObserved) -> None:
    """Take in where outputs were relocated, and run those maps again whose output is lost.

    The answer holds the results of all maps that were committed at `asked_at`.
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
            reopen_output(decisions, job, task, "the store has no such output")
            continue
        if recorded is not None and output.placement != known.placement:
            decisions.state.membership.hear_of(output.worker, output.incarnation, decisions.now)
            job.move_output(task, recorded)
            decisions.change(job, task, "another worker has adopted the output", worker=output.worker)
        if decisions.state.membership.outputs_gone(output.incarnation, decisions.now):
            reopen_output(decisions, job, task, "its worker is gone")
