"""The messages between a worker daemon and its child processes, as msgpack over a socket."""

from collections.abc import Callable

import msgspec

from mr.protocol.bounds import Int64, Real
from mr.protocol.failures import Failure
from mr.protocol.ids import AttemptId, Incarnation, WorkerId
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.locations import PackedOutputs
from mr.protocol.records import TaskResult
from mr.settings import Settings


class WorkerIdentity(msgspec.Struct, frozen=True):
    """Which process of which worker runs the attempt, and where; copied into the map output's location."""

    worker: WorkerId
    incarnation: Incarnation
    #: `host:port` of the shuffle server; empty in the embedded mode.
    address: str
    #: Identity of machine and mount namespace: see `mr.workers.shuffle.transfer.host_identity.host_identity`.
    host: str


class RunTask(msgspec.Struct, frozen=True):
    """To the child: run this attempt."""

    spec: JobSpec
    attempt: AttemptId
    identity: WorkerIdentity
    #: Directory into which the job's bundle is unpacked; read only.
    code_dir: str
    #: Directory of this attempt alone, in the worker's spool; exists and is empty.
    work_dir: str
    settings: Settings
    #: For a map task.
    split: Split | None
    #: For a reduce task: all committed map outputs.
    map_outputs: PackedOutputs
    #: For a map that may skip bad records: the file of those that earlier runs of the attempt found.
    known_bad: str = ""
    #: If set, the run is a search for bad records: the file in which it notes each record it begins.
    started: str = ""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """From the child, about once a second: how far the attempt is.

    Its numbers have the bounds of a RunningTask, as the worker's heartbeat repeats them: with others it could
    not be read.
    """

    #: Share of the input consumed, 0 to 1.
    share: Real
    #: Records finished; of a reduce the values of its keys.
    records: Int64
    phase: str
    #: For a reduce: bytes of its partition, as far as it knows.
    bytes_in: Int64 = 0
    #: What the user's function works on, named as in a failure; empty when it is given nothing.
    record: str = ""


#: Takes what tells, in any thread, how far an attempt is.
Watch = Callable[[Callable[[], Progress]], None]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """From the child: the attempt's output is complete on disk."""

    result: TaskResult


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """From the child: the attempt ended without output."""

    failure: Failure


FromChild = Progress | Done | Failed
