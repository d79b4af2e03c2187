"""What must hold between any two events. The simulator and the tests check it. Pure."""

from collections.abc import Iterator

from mr.coordinator.core.state import OUTSTANDING_STATES, ActiveJob, SchedulerState, Task
from mr.errors import MrError
from mr.protocol.ids import TaskKind
from mr.protocol.queues import MAX_JOB_PRIORITY
from mr.protocol.records import JobState, MapOutput, TaskState


class InvariantBroken(MrError):
    """The scheduler's state contradicts itself. Please report it with the events that led here."""


def check(state: SchedulerState) -> None:
    """Check the whole state. Raises InvariantBroken, which names every contradiction."""
    broken = list(_broken(state))
    if broken:
        raise InvariantBroken("; ".join(broken))


def _broken(state: SchedulerState) -> Iterator[str]:
    for job in state.jobs.values():
        for message in _broken_in_job(job):
            yield f"{job.job_id}: {message}"
    for priority in range(MAX_JOB_PRIORITY + 1):
        queued = sum(
            job.count(kind, TaskState.QUEUED)
            for job in state.jobs.values()
            if job.spec.options.priority == priority
            for kind in TaskKind
        )
        if queued > state.peak_window:
            yield f"{queued} tasks of priority {priority} are queued, over {state.peak_window}"


def _broken_in_job(job: ActiveJob) -> Iterator[str]:
    record = job.record
    if record.state.terminal or record.state is JobState.SUBMITTED:
        yield f"{record.state}, but active"
    if record.state is not record.history[-1].state:
        yield f"{record.state}, but its history ends with {record.history[-1].state}"
    if record.state is JobState.MAPPING and job.spec.reduces > 0 and job.maps_done:
        yield "MAPPING, but all maps are committed"
    if job.output_done and not job.finishing and job.finish_tries == 0:
        yield "all parts are committed, but FinishOutput was not given"
    counts: dict[tuple[TaskKind, TaskState], int] = {}
    for task in job.tasks.values():
        key = (task.kind, task.state)
        counts[key] = counts.get(key, 0) + 1
        for message in _broken_in_task(job, task):
            yield f"{task.task_id}: {message}"
    if counts != {key: count for key, count in job.counts.items() if count}:
        yield f"the tasks count {counts}, but the job says {job.counts}"
    if sum(counts.values()) != len(job.splits) + job.spec.reduces:
        yield "tasks are missing"


def _broken_in_task(job: ActiveJob, task: Task) -> Iterator[str]:
    state = task.state
    if (task.task_id in job.outstanding) != (state in OUTSTANDING_STATES):
        yield f"{state}, but {'in' if task.task_id in job.outstanding else 'not in'} the window"
    if (state is TaskState.COMMITTED) != (task.result is not None):
        yield f"{state} with result {task.result}"
    if state in (TaskState.FAILED, TaskState.CANCELLED):
        yield f"{state} in an active job"
    if (state is TaskState.RUNNING) != bool(task.running):
        yield f"{state} with {len(task.running)} running attempts"
    if any(number > task.record.attempt for number in task.running):
        yield f"runs {sorted(task.running)}, but its newest attempt is {task.record.attempt}"
    if task.record.failures >= job.spec.options.max_attempts and not job.output_done:
        yield f"failed {task.record.failures} times of {job.spec.options.max_attempts}, but is not FAILED"
    if task.result is not None:
        output = task.result.output
        if output.attempt.number <= task.fenced_attempt:
            yield f"attempt {output.attempt.number} is committed, but fenced up to {task.fenced_attempt}"
        filed = isinstance(output, MapOutput) and task.task_id in job.outputs.get(output.incarnation, ())
        if isinstance(output, MapOutput) and not filed:
            yield f"its output on {output.worker} is not in job.outputs"
    elif any(task.task_id in held for held in job.outputs.values()):
        yield "job.outputs lists it, but it is not COMMITTED"
