"""What a job is: the request that asks for it, and the spec that is run."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mr.protocol.aggregation import AggregationSpec
from mr.protocol.bounds import MAX_INT64, MAX_SPLITS, Index, Natural, Real
from mr.protocol.ids import CODE_ID_PATTERN, ID_PATTERN, CodeId, JobId, TaskKind
from mr.protocol.options import Duration, GivenOptions, JobOptions, OptionalCount, ResolvedOptions, Size

REQUEST_VERSION = 1

ENTRY_PATTERN = r"^[^/\x00]+\.py$(?!\n)"

#: A path or URL: no NUL, which no system call takes.
Place = Annotated[str, Meta(pattern=r"^[^\x00]+$")]


class JobRequest(
    JobOptions[None, Size, Duration],
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    kw_only=True,
):
    """A request on `mr.jobs`, from the CLI or from any other system. Names code, never carries any."""

    #: Version of the request's shape.
    version: Literal[1]
    #: A name given to `mr register`, or `sha256:...` of a stored bundle.
    job: Annotated[str, Meta(max_length=100)]
    #: Paths, directories, globs or fsspec URLs, as the workers see them.
    inputs: Annotated[list[Place], Meta(min_length=1, max_length=10_000)]
    #: Path or URL of the output directory, which must be empty or absent.
    output: Place
    #: Parameters that no status, event or log shows; read by the job like those of `params`.
    secret_params: dict[str, str] | None = None
    #: Whether the inputs are output directories of completed jobs, whose bad records alone are to be run.
    retry_bad: bool | None = None
    #: Chosen by the sender: the same id twice is one job; with another request it is refused.
    job_id: Annotated[str, Meta(pattern=ID_PATTERN)] | None = None


class CancelRequest(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True
):
    """A request on `mr.jobs` to stop a job: AMQP property `type` = `cancel`."""

    version: Literal[1]
    job_id: Annotated[str, Meta(pattern=ID_PATTERN)]
    #: Whether what has committed is kept for a `resume`, as after a failure.
    keep: bool = False


class ResumeRequest(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True
):
    """A request on `mr.jobs` to let a failed or cancelled job go on: AMQP property `type` = `resume`."""

    version: Literal[1]
    job_id: Annotated[str, Meta(pattern=ID_PATTERN)]
    #: Repaired code, as in a job request; the job's own when it is left out.
    job: Annotated[str, Meta(max_length=100)] | None = None
    #: How often the job had been resumed when this was written (`resumed` of its record): a request that is
    #: delivered again then resumes nothing again.
    resumed: Natural | None = None


class RequestReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a request, sent as JSON to `reply_to` with its `correlation_id`."""

    #: Whether the job was accepted.
    accepted: bool
    #: Id of the job.
    job_id: str | None = None
    #: Whether this id had been accepted before: nothing was started twice.
    duplicate: bool = False
    #: Why it was refused.
    reason: str | None = None
    #: What the sender should know of an accepted request: what a resumed job runs again, what gave way.
    note: str | None = None
    #: Only in the answer to a `ping`: the identity of the coordinator's store.
    store: str | None = None


class CodeManifest(msgspec.Struct, frozen=True):
    """What the inspection of a job file found; stored beside the bundle and in every spec."""

    code_id: Annotated[str, Meta(pattern=CODE_ID_PATTERN)]
    #: File name of the job file inside the bundle: no path, so that it names nothing outside.
    entry: Annotated[str, Meta(pattern=ENTRY_PATTERN, max_length=255)]
    #: Names of the user functions present: `map_fn` or `map_batch`, `reduce_fn`, `combine_fn` ...
    functions: tuple[str, ...]
    #: Which built-in of `mr.agg` the `reduce_fn` is; None for a function of the user's.
    reduce_agg: AggregationSpec | None
    #: The same for `combine_fn`.
    combine_agg: AggregationSpec | None
    #: From the job file's `JOB = mr.Job(...)`.
    options: GivenOptions
    #: Function of the map side -> digest of its source; empty for code of an older version.
    map_side: dict[str, str] = {}


class FileRange(msgspec.Struct, frozen=True, array_like=True):
    """Bytes [start, start + length) of one file; length -1 = the whole file as one stream."""

    path: str
    start: Natural
    length: Annotated[int, Meta(ge=-1, le=MAX_INT64)]
    #: Size of the file in bytes when the splits were planned.
    file_bytes: Natural
    #: Positions (see BadRecord) of the only records to map; empty: all that begin in the range.
    only: tuple[Natural, ...] = ()

    @property
    def covered_bytes(self) -> int:
        """Bytes of the stored file that it covers."""
        return self.file_bytes if self.length < 0 else self.length


class Split(msgspec.Struct, frozen=True, array_like=True):
    """The input of one map task: one range of one file, or several small files."""

    index: Index
    ranges: tuple[FileRange, ...]

    @property
    def input_bytes(self) -> int:
        """Bytes this split covers (of the stored file, so compressed where the file is)."""
        return sum(r.covered_bytes for r in self.ranges)


class Buffers(msgspec.Struct, frozen=True, array_like=True):
    """Where tasks cut their data: the settings of these names.

    Part of the job, because a worker with others of its own would add up floats in another order than the
    next worker, and give `map_batch` other batches.
    """

    chunk_rows: Natural
    read_bytes: Natural
    spill_rows: Natural
    spill_bytes: Natural
    group_bytes: Natural


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is run: every option resolved, nothing left to defaults. Only a resume changes it."""

    job_id: JobId
    code: CodeManifest
    inputs: tuple[str, ...]
    output: str
    maps: Annotated[int, Meta(ge=1, le=MAX_SPLITS)]
    reduces: OptionalCount
    #: What was asked for; of `maps` and `reduces`, the two above are what came of it.
    options: ResolvedOptions
    buffers: Buffers
    #: Secret of this job's shuffle: a reducer shows it to the mapper's host.
    token: str
    #: Seconds since the epoch, by the coordinator's clock.
    submitted_at: Real
    #: Parameters that are shown nowhere.
    secret_params: dict[str, str] = {}
    #: What was asked for: see JobRecord.
    request: dict[str, str] = {}
    #: Who asked, as the broker vouches for it: the AMQP property `user_id`; empty where it was not set.
    sender: str = ""
    #: How often the job was resumed. Attempts claimed before the last time count for nothing.
    resumed: Natural = 0

    @property
    def code_id(self) -> CodeId:
        """Content hash of the job's bundle."""
        return CodeId(self.code.code_id)

    @property
    def output_kind(self) -> TaskKind:
        """The kind of task that writes the output parts: maps in a map-only job."""
        return TaskKind.MAP if self.reduces == 0 else TaskKind.REDUCE

    @property
    def parts(self) -> int:
        """Number of output files."""
        return self.maps if self.reduces == 0 else self.reduces
