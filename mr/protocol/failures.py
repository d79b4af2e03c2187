"""What can go wrong with a task attempt, classified: retried or not, counted or not, whose fault."""

from enum import StrEnum

import msgspec

from mr.protocol.bounds import Attempt, Int64, Real
from mr.protocol.ids import Incarnation, TaskId, WorkerId


class FailureKind(StrEnum):
    """Why a task attempt did not commit."""

    USER_ERROR = "user_error"
    KILLED = "killed"
    TIMED_OUT = "timed_out"
    BAD_INPUT = "bad_input"
    INPUT_UNREADABLE = "input_unreadable"
    OUTPUT_UNWRITABLE = "output_unwritable"
    INPUT_LOST = "input_lost"
    INFRASTRUCTURE = "infrastructure"
    BAD_JOB = "bad_job"


class Fault(StrEnum):
    """Who has to change something for the task to succeed."""

    JOB = "job"
    WORKER = "worker"
    NOBODY = "nobody"


class FailureRule(msgspec.Struct, frozen=True):
    """How the scheduler treats one kind of failure."""

    retry: bool
    #: Whether the attempt counts against the job's `max_attempts`. One that does not counts against the much
    #: larger setting `max_uncounted_attempts`.
    counts: bool
    fault: Fault
    #: Whether the attempt's process ended in the middle of its work. Then its worker may be at fault, too,
    #: and the failure names the whole split or partition, because nobody knows which record it had.
    ends_process: bool = False


FAILURE_RULES: dict[FailureKind, FailureRule] = {
    FailureKind.USER_ERROR: FailureRule(retry=True, counts=True, fault=Fault.JOB),
    FailureKind.KILLED: FailureRule(retry=True, counts=True, fault=Fault.JOB, ends_process=True),
    FailureKind.TIMED_OUT: FailureRule(retry=True, counts=True, fault=Fault.JOB, ends_process=True),
    FailureKind.BAD_INPUT: FailureRule(retry=False, counts=True, fault=Fault.JOB),
    FailureKind.INPUT_UNREADABLE: FailureRule(retry=True, counts=True, fault=Fault.WORKER),
    FailureKind.OUTPUT_UNWRITABLE: FailureRule(retry=True, counts=True, fault=Fault.WORKER),
    FailureKind.INPUT_LOST: FailureRule(retry=True, counts=False, fault=Fault.NOBODY),
    FailureKind.INFRASTRUCTURE: FailureRule(retry=True, counts=False, fault=Fault.WORKER),
    FailureKind.BAD_JOB: FailureRule(retry=False, counts=True, fault=Fault.JOB),
}


class Loss(StrEnum):
    """What a reducer found in place of a map output."""

    #: The worker answered that it does not have it.
    MISSING = "missing"
    #: It came, or lies there, with a wrong checksum.
    DAMAGED = "damaged"
    #: No answer came: the fault may lie with the worker that was asked or with the one that asked.
    UNREACHABLE = "unreachable"


class LostInput(msgspec.Struct, frozen=True):
    """One map output of the failed attempt's job that the attempt could not fetch."""

    task_id: TaskId
    attempt: Attempt
    worker: WorkerId
    #: The incarnation of the worker that was asked; empty if unknown.
    incarnation: Incarnation = Incarnation("")
    found: Loss = Loss.MISSING


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failed attempt, with everything a user needs to reproduce and fix it."""

    kind: FailureKind
    #: One line: what happened and what to do.
    message: str
    #: The user's function that was running: `map_fn`, `reduce_fn` ...; empty if none was.
    function: str = ""
    #: The user's traceback, without frames of mrmq; empty if there is none.
    traceback: str = ""
    #: The record: `file:offset` for a map, `key ...` for a reduce; empty when unknown.
    record: str = ""
    #: Signal that ended the process (9 = SIGKILL, often out of memory), 0 for none.
    signal: Int64 = 0
    #: Command that runs the failing record again on a laptop; empty if there is none.
    reproduce: str = ""
    #: Last lines the task printed.
    output_tail: str = ""
    #: For `input_lost`: the map outputs that are gone.
    lost: tuple[LostInput, ...] = ()
    #: How long the attempt had run; 0 when it was not started.
    wall_seconds: Real = 0.0
    #: For `timed_out`: how long no record had been finished.
    stalled_seconds: Real = 0.0

    @property
    def rule(self) -> FailureRule:
        """How the scheduler treats this failure."""
        return FAILURE_RULES[self.kind]

    @property
    def signature(self) -> str:
        """Equal for two failures of one cause, however many records and attempts it hits.

        Of a traceback it holds the lines and the error's type. The error's text often quotes the record.
        """
        if not self.traceback.strip():
            return "\n".join((self.kind, self.function, self.message))
        *frames, error = [line for line in self.traceback.splitlines() if line.strip()]
        places = [line for line in frames if line.startswith(" ")]
        return "\n".join((self.kind, self.function, *places, error.partition(":")[0]))
