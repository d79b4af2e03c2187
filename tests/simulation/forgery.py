"""Messages that are not true: whoever reaches the broker can send them, and they must change nothing."""

from typing import TYPE_CHECKING

from mr.ports.broker import OutgoingMessage
from mr.protocol.codec import encode
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import AttemptId, Incarnation, TaskKind, WorkerId, task_id
from mr.protocol.messages import (
    EndJob,
    PauseWorker,
    StopAttempt,
    TaskCommitted,
    TaskFailed,
    WorkerStopped,
)
from mr.protocol.queues import CONTROL_EXCHANGE, REPORTS_QUEUE

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


def forge(cluster: "Cluster") -> None:
    """Send one such message."""
    chance = cluster.chance
    worker = chance.choice(cluster.workers)
    job = chance.choice(list(cluster.jobs.values()))
    task = task_id(TaskKind.MAP, chance.randrange(len(job.words)))
    if job.reduces and chance.random() < 0.3:
        task = task_id(TaskKind.REDUCE, chance.randrange(job.reduces))
    attempt = AttemptId(job.id, task, chance.choice((1, 1, 2, 3, 9)))
    stranger = (WorkerId("stranger"), Incarnation("stranger.1"))
    failure = Failure(FailureKind.BAD_JOB, "forged")
    forged = chance.choice(
        (
            EndJob(job.id),
            StopAttempt(attempt),
            PauseWorker(worker.name, 30.0, "forged"),
            WorkerStopped(worker.name, worker.incarnation),
            TaskCommitted(attempt, *stranger),
            TaskFailed(attempt, *stranger, failure),
        )
    )
    cluster.world.say(f"somebody forges a {type(forged).__name__}")
    if isinstance(forged, EndJob | StopAttempt | PauseWorker):
        message = OutgoingMessage(exchange=CONTROL_EXCHANGE, routing_key="", body=encode(forged))
    else:
        message = OutgoingMessage(routing_key=REPORTS_QUEUE, body=encode(forged))
    cluster.queues.route(message)
