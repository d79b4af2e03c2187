"""What the scheduler wants done: the outputs of `Scheduler.handle`. Pure.

Order of effects, which a list of commands keeps and the shell follows from first to last:

1. *persist*: Reopen, ReleaseDead, Speculate, then SaveJob or CloseJob;
2. *publish*: PublishTasks, then SendControl, then EmitEvent;
3. *ask*: InspectClaims, ProbeWorker, WriteBack, FinishOutput, AbandonOutput, LogFault; events answer;
4. *acknowledge* the delivery which brought the event (the shell's part, after the last command).

So a coordinator that dies between two commands leaves a store that is ahead of the broker, never
behind it, and the report comes again: publishing again is harmless (the claim decides), forgetting is not.
"""

from enum import IntEnum
from typing import ClassVar

import msgspec

from mr.protocol.claims import Placement
from mr.protocol.formats import OutputFormatName
from mr.protocol.ids import Incarnation, JobId, TaskId
from mr.protocol.messages import Control, LifecycleEvent, TaskMessage
from mr.protocol.records import JobRecord, Manifest, PartOutput, TaskRecord


class Effect(IntEnum):
    """The step of the order of effects a command belongs to; never decreases within one list."""

    PERSIST = 1
    PUBLISH = 2
    ASK = 3


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What all commands have in common."""

    #: The step of the order of effects to which commands of this type belong.
    effect: ClassVar[Effect]
    #: Why it was given, in a few words: for the debug log and for tests.
    cause: str


class Reopen(Command, frozen=True):
    """`StateStore.reopen`: these committed map outputs are gone, if they still are recorded to be there."""

    effect = Effect.PERSIST

    job_id: JobId
    lost: dict[TaskId, Placement]


class ReleaseDead(Command, frozen=True):
    """`StateStore.release_dead`: these lives have ended, so nobody need wait for their leases to run out."""

    effect = Effect.PERSIST

    job_id: JobId
    leases: tuple[tuple[TaskId, Incarnation], ...]


class Speculate(Command, frozen=True):
    """`StateStore.speculate`: allow each of these tasks a second holder. Its PublishTasks follows."""

    effect = Effect.PERSIST

    job_id: JobId
    tasks: tuple[TaskId, ...]


class SaveJob(Command, frozen=True):
    """`StateStore.save_job`: the record and those of the tasks that changed."""

    effect = Effect.PERSIST

    record: JobRecord
    tasks: tuple[TaskRecord, ...]


class CloseJob(Command, frozen=True):
    """`StateStore.end_job`: the job is over. `tasks` are all of them.

    `tasks` may be fewer for a job that could not be handled. A SendControl(EndJob) and, unless the job
    COMPLETED, an AbandonOutput follow in the same list.
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
    """Publish to `mr.tasks`, in this order, confirms awaited together."""

    effect = Effect.PUBLISH

    tasks: tuple[Publication, ...]


class SendControl(Command, frozen=True):
    """Broadcast on `mr.control`."""

    effect = Effect.PUBLISH

    control: Control


class EmitEvent(Command, frozen=True):
    """Publish on `mr.events`: key `job_event_key`, or `task_event_key` where `task_id` is given."""

    effect = Effect.PUBLISH

    event: LifecycleEvent


class InspectClaims(Command, frozen=True):
    """Read the claims of a job, then the results; the event ClaimsObserved answers.

    In that order: a result read after its claim is that of the claim's winner or a newer one.
    """

    effect = Effect.ASK

    job_id: JobId
    #: Results are wanted of these where they are committed; of others they may be left out.
    tasks: tuple[TaskId, ...]
    #: Whether the results of all maps are wanted, because it is in doubt where their outputs lie.
    outputs: bool = False
    #: When it was asked, by the clock of the events: what was committed later is not in the answer.
    asked_at: float = 0.0


class ProbeWorker(Command, frozen=True):
    """Ask whether a life's process runs; the event WorkerProbed answers, where there is something to tell."""

    effect = Effect.ASK

    incarnation: Incarnation
    #: Its last heartbeat that is known.
    number: int
    control_queue: str
    address: str
    #: Whether its port has answered from here before: only then does a refusal prove anything by itself.
    reachable: bool
    #: Whether another life has its address now: then the queue alone tells.
    replaced: bool
    #: Whether its heartbeats have stopped, too: then a refusal counts from a port that never answered.
    silent: bool = False


class WriteBack(Command, frozen=True):
    """The store was seen to have lost something of this job: `StateStore.rewrite`; JobWrittenBack answers."""

    effect = Effect.ASK

    job_id: JobId


class FinishOutput(Command, frozen=True):
    """`finish_output` with these arguments; the event OutputFinished or OutputFailed answers.

    Idempotent, and may be given again after a takeover. An AbandonOutput of the same job is carried
    out after it, never beside it.
    """

    effect = Effect.ASK

    job_id: JobId
    output: str
    output_format: OutputFormatName
    #: In order of index.
    parts: tuple[PartOutput, ...]
    manifest: Manifest


class AbandonOutput(Command, frozen=True):
    """`abandon_output(output, job_id)`: the job failed or was cancelled. Nothing answers."""

    effect = Effect.ASK

    job_id: JobId
    output: str


class LogFault(Command, frozen=True):
    """Log at level error what the engine could not handle: the traceback, and the job's last events."""

    effect = Effect.ASK

    text: str
