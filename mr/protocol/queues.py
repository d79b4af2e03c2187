"""Every queue, exchange, routing key and priority on RabbitMQ: written here and nowhere else."""

from mr.protocol.ids import JobId, TaskKind

JOBS_QUEUE = "mr.jobs"
TASKS_QUEUE = "mr.tasks"
REPORTS_QUEUE = "mr.reports"
DEAD_QUEUE = "mr.dead"
EVENTS_EXCHANGE = "mr.events"
CONTROL_EXCHANGE = "mr.control"

#: Priorities of `mr.tasks`: 2 x job priority (0..4) + 1 for reduce.
MAX_TASK_PRIORITY = 9
MAX_JOB_PRIORITY = 4


def coordinator_queue(holder: str) -> str:
    """The private queue of a coordinator: gone means that its connection is closed."""
    return f"mr.coordinator.{holder}"


def task_priority(job_priority: int, kind: TaskKind) -> int:
    """The AMQP priority (0..9) of a task message: reduces of a job go before its maps."""
    return 2 * job_priority + (1 if kind is TaskKind.REDUCE else 0)


def job_event_key(state: str, job: JobId) -> str:
    """Routing key on `mr.events` for a job that entered `state`."""
    return f"job.{state.lower()}.{job}"


def task_event_key(state: str, job: JobId) -> str:
    """Routing key on `mr.events` for a task of `job` that entered `state`."""
    return f"task.{state.lower()}.{job}"
