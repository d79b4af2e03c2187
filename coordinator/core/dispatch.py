"""Which tasks are published next: a bounded number, by priority, then by weighted fair shares. Pure."""

import heapq
from collections.abc import Iterable

from mr.coordinator.core.attempts import publish_task
from mr.coordinator.core.decisions import Decisions
from mr.coordinator.core.isolation import isolated
from mr.coordinator.core.policy import (
    MAXIMUM_COST_SECONDS,
    MINIMUM_COST_SECONDS,
    MINIMUM_WEIGHT,
    aged_limit,
    window_limit,
)
from mr.coordinator.core.state import OUTSTANDING_STATES, ActiveJob, Level, Task
from mr.protocol.ids import TaskKind
from mr.protocol.queues import MAX_JOB_PRIORITY, task_priority
from mr.protocol.records import TaskState


def fill_window(decisions: Decisions) -> None:
    """Publish waiting tasks while the window has room.

    Only tasks of the same or a higher priority count against the window of a level, so a full window of lower
    jobs never delays it. Inside a level the queue is first in, first out: tasks start in the shares in which
    they are published here.
    """
    limit = window_limit(decisions.state.settings, decisions.state.membership.slots)
    decisions.state.peak_window = max(
        decisions.state.peak_window, limit + aged_limit(decisions.state.membership.slots)
    )
    jobs: list[list[ActiveJob]] = [[] for _ in decisions.state.levels]
    for job in decisions.state.jobs.values():
        jobs[job.spec.options.priority].append(job)
    out = 0
    for priority in range(MAX_JOB_PRIORITY, -1, -1):
        out += sum(len(job.outstanding) for job in jobs[priority])
        if out < limit:
            out += _fill_level(decisions, decisions.state.levels[priority], jobs[priority], limit - out)


def _fill_level(decisions: Decisions, level: Level, jobs: Iterable[ActiveJob], room: int) -> int:
    """Publish up to `room` tasks of one priority, the earliest start tag first. Returns how many.

    Start-time fair queueing: the start tag of a job's next task is the virtual time up to which the job is
    charged, or the present one if that is later. So a job earns no credit while it has nothing to run.
    """
    ready: list[tuple[float, int, ActiveJob]] = []
    for job in jobs:
        with isolated(decisions, job):
            if _next_task(decisions, job) is not None:
                ready.append((max(job.charged_until, level.virtual_seconds), job.order, job))
    heapq.heapify(ready)
    published = 0
    while ready and published < room:
        tag, order, job = ready[0]
        task = None
        with isolated(decisions, job):
            task = _next_task(decisions, job)
            if task is not None:
                _charge(level, job, task, tag)
                publish_task(decisions, job, task, "the window has room")
        if task is None or job.job_id not in decisions.state.jobs:
            heapq.heappop(ready)
            continue
        level.virtual_seconds = tag
        published += 1
        heapq.heapreplace(ready, (job.charged_until, order, job))
    return published


def _next_task(decisions: Decisions, job: ActiveJob) -> Task | None:
    return None if job.output_done else job.next_waiting(decisions.now)


def _charge(level: Level, job: ActiveJob, task: Task, start: float) -> None:
    """Charge a job for a task: the median time of its tasks, so that short and long ones share fairly.

    Before its first task has finished, the last charge to a job of this priority counts.
    """
    median = job.median(task.kind)
    if median is not None:
        level.cost_seconds = min(max(MINIMUM_COST_SECONDS, median[0]), MAXIMUM_COST_SECONDS)
    job.charged_until = start + level.cost_seconds / max(MINIMUM_WEIGHT, job.spec.options.weight)


# --- ageing


def publish_aged(decisions: Decisions) -> None:
    """Publish one task at the highest priority for each job that waited too long behind higher priorities.

    Called once a tick, as it looks at every job. A message keeps its priority, so a queued task is published
    once more; the claim lets one of the two messages run. At most half of the slots are used in this way.
    """
    patience_seconds = decisions.state.settings.starvation_seconds
    busy = max(
        (job.spec.options.priority for job in decisions.state.jobs.values() if job.outstanding), default=0
    )
    room = aged_limit(decisions.state.membership.slots)
    starved: list[ActiveJob] = []
    for job in list(decisions.state.jobs.values()):
        if job.aged is not None and job.tasks[job.aged].state not in OUTSTANDING_STATES:
            job.aged = None
        room -= job.aged is not None
        with isolated(decisions, job):
            _note_idle(decisions, job, busy)
        if job.idle_since is not None and decisions.now - job.idle_since >= patience_seconds:
            starved.append(job)
    for job in sorted(starved, key=lambda job: (job.idle_since or 0.0, job.order))[: max(0, room)]:
        with isolated(decisions, job):
            _publish_first(decisions, job)


def _publish_first(decisions: Decisions, job: ActiveJob) -> None:
    """Publish one task of a job at the highest priority."""
    task = _first_queued(job) or _next_task(decisions, job)
    if task is None:
        return
    if task.state is TaskState.WAITING:
        level = decisions.state.levels[job.spec.options.priority]
        _charge(level, job, task, max(job.charged_until, level.virtual_seconds))
    first = task_priority(MAX_JOB_PRIORITY, TaskKind.REDUCE)
    publish_task(decisions, job, task, "the job waited too long", priority=first)
    job.aged, job.idle_since = task.task_id, decisions.now


def _note_idle(decisions: Decisions, job: ActiveJob, busy: int) -> None:
    """Note since when a job has tasks to run and runs none, while jobs of priority `busy` have some."""
    running = any(job.count(kind, TaskState.RUNNING) for kind in TaskKind)
    if job.spec.options.priority >= busy or running or not (job.outstanding or _next_task(decisions, job)):
        job.idle_since = None
    elif job.idle_since is None:
        job.idle_since = decisions.now


def _first_queued(job: ActiveJob) -> Task | None:
    """The task that was queued first."""
    tasks = (job.tasks[name] for name in job.outstanding)
    return next((task for task in tasks if task.state is TaskState.QUEUED), None)
