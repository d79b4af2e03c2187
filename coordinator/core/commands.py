"""What the scheduler wants done: the outputs of `Scheduler.handle`. Pure.

Commands come, and are carried out, in the order of effects:

1. *persist*: Reopen, ReleaseDead, Speculate, then SaveJob or CloseJob;
2. *publish*: PublishTasks, then SendControl, then EmitEvent;
3. *ask*: InspectClaims, ProbeWorker, WriteBack, FinishOutput, AbandonOutput, LogFault; events answer;
4. *acknowledge* the delivery that brought the event (done by the shell, after the last command).

So a coordinator that dies between two commands leaves a store that is ahead of the broker, never behind it,
and the report is delivered again. To publish a task twice does no harm, since the claim decides.
"""

from enum import IntEnum
from typing import ClassVar

import msgspec

from mr.protocol.bad_records import BadRecordsFile
from mr.protocol.claims import Placement
from mr.protocol.formats import OutputFormatName
from mr.protocol.ids import Incarnation, JobId, TaskId
from mr.protocol.messages import Control, LifecycleEvent, TaskMessage
from mr.protocol.records import JobRecord, Manifest, PartOutput, TaskRecord


class Effect(IntEnum):
    """A step of the order of effects. It never decreases within one list of commands."""

    PERSIST = 1
    PUBLISH = 2
    ASK = 3


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What all commands have in common."""

    effect: ClassVar[Effect]
    #: Why it was given, in a few words: for the debug log and for tests.
    cause: str


class Reopen(Command, frozen=True):
    """`StateStore.reopen`: these map outputs are lost, if they are still recorded in these places."""

    effect = Effect.PERSIST

    job_id: JobId
    lost: dict[TaskId, Placement]


class ReleaseDead(Command, frozen=True):
    """`StateStore.release_dead`: these incarnations have ended, so their leases are given back."""

    effect = Effect.PERSIST

    job_id: JobId
    leases: tuple[tuple[TaskId, Incarnation], ...]


class Speculate(Command, frozen=True):
    """`StateStore.speculate`: allow each of these tasks a second holder. PublishTasks follows."""

    effect = Effect.PERSIST

    job_id: JobId
    tasks: tuple[TaskId, ...]


class SaveJob(Command, frozen=True):
    """`StateStore.save_job`: the record of a job, and those of its tasks that changed."""

    effect = Effect.PERSIST

    record: JobRecord
    tasks: tuple[TaskRecord, ...]


class CloseJob(Command, frozen=True):
    """`StateStore.end_job`: the job has ended.

    `tasks` are all of its tasks, or fewer if the job could not be handled. A SendControl(EndJob) and, unless
    the job COMPLETED, an AbandonOutput follow in the same list.
    """

    effect = Effect.PERSIST

    record: JobRecord
    tasks: tuple[TaskRecord, ...]


class Publication(msgspec.Struct, frozen=True):
    """One message for `mr.tasks`."""

    message: TaskMessage
    #: AMQP priority, 0 to 9.
    priority: int


class PublishTasks(Command, frozen=True):
    """Publish to `mr.tasks` in this order; the confirms are awaited together."""

    effect = Effect.PUBLISH

    tasks: tuple[Publication, ...]


class SendControl(Command, frozen=True):
    """Broadcast on `mr.control`."""

    effect = Effect.PUBLISH

    control: Control


class EmitEvent(Command, frozen=True):
    """Publish on `mr.events`, with `task_event_key` if the event has a `task_id`, else `job_event_key`."""

    effect = Effect.PUBLISH

    event: LifecycleEvent


class InspectClaims(Command, frozen=True):
    """Read the claims of a job, then the results; the event ClaimsObserved answers.

    In this order, because a result read after its claim is that of the claim's winner or a newer one.
    """

    effect = Effect.ASK

    job_id: JobId
    #: The results of these tasks are wanted if they are committed.
    tasks: tuple[TaskId, ...]
    #: Whether the results of all maps are wanted, because some outputs may be elsewhere or lost.
    outputs: bool = False
    #: By the clock of the events. What was committed later is not in the answer.
    asked_at: float = 0.0


class ProbeWorker(Command, frozen=True):
    """Ask whether the process of an incarnation runs. WorkerProbed answers if anything is proven."""

    effect = Effect.ASK

    incarnation: Incarnation
    #: Number of its last heartbeat that is known.
    number: int
    control_queue: str
    address: str
    #: Whether its port has answered before. Only then does a refused connection prove the end by itself.
    reachable: bool
    #: Whether another incarnation has its address now. Then the control queue alone decides.
    replaced: bool
    #: Whether its heartbeats have stopped. Then a refused connection counts even if the port never answered.
    silent: bool = False


class WriteBack(Command, frozen=True):
    """`StateStore.rewrite`: give the store back what it has lost of this job. JobWrittenBack answers."""

    effect = Effect.ASK

    job_id: JobId


class FinishOutput(Command, frozen=True):
    """`finish_output` with these arguments; the event OutputFinished or OutputFailed answers.

    Idempotent; it may be given again after a takeover. An AbandonOutput of the same job waits for it.
    """

    effect = Effect.ASK

    job_id: JobId
    output: str
    output_format: OutputFormatName
    #: In order of index.
    parts: tuple[PartOutput, ...]
    manifest: Manifest
    #: By index of the map.
    bad_records: dict[int, BadRecordsFile] = {}


class AbandonOutput(Command, frozen=True):
    """`abandon_output(output, job_id)`: the job failed or was cancelled. No event answers.

    With `keep` it is `leave_output`: what has committed stays for a resume. With an empty output, when it is
    not known, nothing is done.
    """

    effect = Effect.ASK

    job_id: JobId
    output: str
    keep: bool = False


class LogFault(Command, frozen=True):
    """Log an error of the engine, with its traceback and the last events of the job."""

    effect = Effect.ASK

    text: str
