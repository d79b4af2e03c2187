"""One validated table of settings. Flags > `MR_*` environment > `mr.toml` > defaults.

The field `lease_seconds` is the variable `MR_LEASE_SECONDS` and the key `lease_seconds` in mr.toml.
Sizes take `64MiB`, times take `10s`, where a field's name ends in `_bytes` or `_seconds`.
"""

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from mr.error_text import bounded
from mr.errors import BadSetting
from mr.protocol.bounds import MAX_BYTES, MAX_SECONDS

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
#: Numbers that may be 0 (no limit, no wait, or the least possible). Others must be more.
_MAY_BE_ZERO = frozenset(
    (
        "republish_seconds",
        "retry_base_seconds",
        "retry_max_seconds",
        "reconnect_seconds",
        "history_seconds",
        "resume_seconds",
        "drain_seconds",
        "fetch_patience_seconds",
        "max_uncounted_attempts",
        "max_jobs_per_sender",
        "straggler_share",
        "straggler_min_seconds",
        "exclude_seconds",
        "spool_reserve_bytes",
        "task_timeout_seconds",
        "task_memory_bytes",
        "spill_rows",
        "spill_bytes",
        "group_bytes",
        "log_bytes",
        "log_total_bytes",
    )
)
#: Code is kept for at least a day, also where no history is kept.
_MIN_CODE_SECONDS = 86400.0
_TIME_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(text: str | int) -> int:
    """Read `64MiB`, `10M`, `4096` as bytes (units are powers of 1024). Raises BadSetting."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", str(text).lower())
    if match is None:
        raise BadSetting(f"{text!r} is not a size; write a number of bytes or one such as 64MiB")
    size = float(match[1]) * _SIZE_UNITS[match[2]]
    if size > MAX_BYTES:
        raise BadSetting(f"{bounded(str(text), 40)} is too large; a size is at most 8192 TiB")
    if size != int(size) and not match[2]:
        raise BadSetting(f"{text!r} is no whole number of bytes; write one, or a unit such as in 1.5MiB")
    return int(size)


def parse_seconds(text: str | float) -> float:
    """Read `90`, `90s`, `10m`, `2h` as seconds. Raises BadSetting."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*", str(text).lower())
    if match is None:
        raise BadSetting(f"{text!r} is not a duration; write a number of seconds or one such as 10m")
    seconds = float(match[1]) * _TIME_UNITS[match[2]]
    if seconds > MAX_SECONDS:
        raise BadSetting(f"{bounded(str(text), 40)} is too long; a duration is at most {MAX_SECONDS:g} s")
    return seconds


#: Unit -> what reads a value in it.
PARSERS: Mapping[str, Callable[[Any], float]] = MappingProxyType(
    {"bytes": parse_bytes, "seconds": parse_seconds}
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every bound and interval of the engine, by name."""

    #: RabbitMQ: amqp://user:password@host:port/vhost. `broker_url_file` names a file that holds it instead.
    broker_url: str = "amqp://guest:guest@127.0.0.1:5672/%2F"
    #: Redis: redis://[:password@]host:port/db. `redis_url_file` names a file that holds it instead.
    redis_url: str = "redis://127.0.0.1:6379/0"

    # --- times
    #: A worker or attempt that has been silent for this long is taken for dead.
    lease_seconds: float = 10.0
    #: How often a worker sends a heartbeat; a lease must be at least twice as long.
    heartbeat_seconds: float = 2.0
    #: How often the coordinator looks at workers and retries.
    tick_seconds: float = 0.5
    #: A task published this long ago that nobody has claimed, while the queue is empty, is published again.
    republish_seconds: float = 15.0
    #: Delay before the second attempt; doubles with each further one, jittered by half.
    retry_base_seconds: float = 1.0
    #: Longest delay before an attempt.
    retry_max_seconds: float = 60.0
    #: How long a broker or store may be away before an operation gives up.
    reconnect_seconds: float = 60.0
    #: How long the first connection may take before `mr` says that the cluster is unreachable.
    connect_seconds: float = 5.0
    #: How long the record of an ended job stays, and code without a name after its last use.
    history_seconds: float = 7 * 86400.0
    #: How long a failed job, and one cancelled with --keep, can be resumed; 0 = not at all.
    resume_seconds: float = 12 * 3600.0
    #: How long a draining worker finishes its tasks and serves its map outputs.
    drain_seconds: float = 600.0
    #: How long the inspection of a job file may take.
    inspect_seconds: float = 30.0

    # --- scheduling
    #: Tasks published and unfinished, as a multiple of the live slots.
    window_factor: float = 2.0
    #: Lost workers, lost inputs and infrastructure failures a task survives before its job fails.
    max_uncounted_attempts: int = 20
    #: A running attempt that takes this many times the finished median, its input considered, and
    #: `straggler_min_seconds` more, gets a backup ...
    straggler_factor: float = 1.5
    #: What is added to that time, so that very short tasks get no backup.
    straggler_min_seconds: float = 1.0
    #: ... once this share of its phase's tasks has finished, or all but one, and a slot is free.
    straggler_share: float = 0.75
    #: An attempt that has finished no record for this long is shown as stalled, and gets a backup whatever
    #: the others do, once a slot on another worker is free.
    stall_seconds: float = 300.0
    #: A job of which nothing ran for this long, behind jobs of higher priority, has a task run before theirs.
    starvation_seconds: float = 60.0
    #: A worker on which tasks of this many different jobs failed lately takes no tasks for `exclude_seconds`.
    exclude_jobs: int = 3
    #: How long such a worker takes no tasks.
    exclude_seconds: float = 300.0
    #: A host busier than this takes one task fewer at each heartbeat, down to one.
    pressure_cpu_percent: float = 95.0
    #: The same for memory.
    pressure_memory_percent: float = 90.0
    #: A spool with less free disk than this takes no tasks.
    spool_reserve_bytes: int = 256 * MIB

    # --- defaults of jobs
    #: Input of one map task, where the job does not say `split_size`.
    split_bytes: int = 32 * MIB
    #: Most reduce tasks of a job that does not say `reduces`; it never gets more than it has maps.
    default_reduces: int = 8
    #: Attempts of a task that may fail by its own fault before the job fails.
    max_attempts: int = 4
    #: Longest time that one attempt may run; 0 = no limit.
    task_timeout_seconds: float = 0.0
    #: Memory of one task.
    task_memory_bytes: int = 1 * GIB

    # --- data plane
    #: User records consumed into one Arrow chunk.
    chunk_rows: int = 4096
    #: Bytes of input read and decoded at a time.
    read_bytes: int = 4 * MIB
    #: A map's buffer is combined and spilled at this many rows ...
    spill_rows: int = 4_000_000
    #: ... or this many bytes, with what sorting them takes, whichever comes first; counted, never measured.
    spill_bytes: int = 256 * MIB
    #: Bytes a reducer groups in memory, with what it takes to sort them; above it merges sorted runs.
    group_bytes: int = 256 * MIB
    #: Bytes that a reducer reads at a time from a worker that sends map outputs.
    fetch_bytes: int = 1 * MIB
    #: A worker that gives a reducer nothing for this long, in more than one try, cannot be reached.
    fetch_patience_seconds: float = 3.0
    #: Whether a reducer opens segment files of its own host directly.
    shuffle_local_reads: bool = True
    #: Largest code bundle.
    max_bundle_bytes: int = 64 * MIB
    #: Most bytes of an attempt's printed output that are kept: the first half and the last half.
    log_bytes: int = 64 * KIB
    #: Most bytes of printed output that are kept of one job: that of the attempts that ended first.
    log_total_bytes: int = 16 * MIB

    # --- what requests may name
    #: Unfinished jobs of one sender (AMQP `user_id`; all that set none count as one); 0 = no limit.
    max_jobs_per_sender: int = 1000
    #: Where inputs must lie once links are resolved: directories or URLs; empty = anywhere.
    input_roots: tuple[str, ...] = ()
    #: The same for outputs.
    output_roots: tuple[str, ...] = ()
    #: Schemes that inputs and outputs may have as URLs; plain paths and file:// are always allowed.
    url_schemes: tuple[str, ...] = (
        *("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "hdfs", "webhdfs"),
        *("http", "https", "ftp", "sftp", "memory"),
    )

    @property
    def code_seconds(self) -> float:
        """How long code without a name stays after its last use: a request for it may wait in the queue."""
        return max(self.history_seconds, 2 * self.resume_seconds, _MIN_CODE_SECONDS)

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not 0 <= value < math.inf:  # holds for whole numbers of any size, and not for NaN
                raise BadSetting(f"{name} is {value}; it must be a number from 0 on")
            if value > (MAX_SECONDS if name.endswith("_seconds") else MAX_BYTES):
                raise BadSetting(
                    f"{name} is {bounded(str(value), 40)}, beyond any use; write a smaller number"
                )
            if value == 0 and name not in _MAY_BE_ZERO:
                raise BadSetting(f"{name} is 0; it must be greater than 0")
        for name in ("input_roots", "output_roots"):
            for root in getattr(self, name):
                if not root.startswith("/") and "://" not in root:
                    raise BadSetting(f"{name} has {root!r}; write an absolute path or a URL")
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise BadSetting(
                f"heartbeat_seconds is {self.heartbeat_seconds}; it must fit at least twice into "
                f"lease_seconds ({self.lease_seconds})"
            )


def load_settings(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge flags (None values = not given), environment and mr.toml over the defaults.

    `file` None: `mr.toml` in the working directory, if there is one. Variables that name no setting are
    left out: see `unknown_variables`. Raises BadSetting, naming where the wrong value came from.
    """
    environ = os.environ if environ is None else environ
    merged: dict[str, Any] = {}
    for source, values in (
        ("mr.toml", _read_file(file)),
        ("the environment", _read_environ(environ)),
        ("the command line", {k: v for k, v in (flags or {}).items() if v is not None}),
    ):
        for name, value in _with_files_read(values, source).items():
            merged[name] = _convert(name, value, source)
    return Settings(**merged)


def _read_file(file: Path | None) -> dict[str, Any]:
    path = file or Path("mr.toml")
    if file is None and not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadSetting(f"{path} cannot be read: {error}") from error


#: Settings whose value may be kept in a file, so that it does not show in the environment.
_FROM_FILES = {"broker_url_file": "broker_url", "redis_url_file": "redis_url"}
#: Variables that hold or name passwords; user code does not get them.
SECRET_VARIABLES = ("MR_BROKER_URL", "MR_REDIS_URL", "MR_BROKER_URL_FILE", "MR_REDIS_URL_FILE")
#: MR_* variables that are not settings: the job's environment and the tests' servers.
_ENVIRON_OTHER = ("MR_TEST_", "MR_JOB_")
#: What Kubernetes puts into every container for a Service whose name begins with `mr`.
_KUBERNETES = re.compile(
    r"^MR_\w*(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|"
    r"^MR_\w*PORT=\w+://"
)


def _read_environ(environ: Mapping[str, str]) -> dict[str, str]:
    known = {*Settings.__struct_fields__, *_FROM_FILES}
    found = {name[3:].lower(): value for name, value in environ.items() if name.startswith("MR_")}
    return {name: value for name, value in found.items() if name in known}


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """The MR_* variables that set nothing, each with the name of a setting like it, if there is one.

    Other programs may set such variables, so they are no error; but a misspelt one should not pass unseen.
    """
    known = [f"MR_{name.upper()}" for name in (*Settings.__struct_fields__, *_FROM_FILES)]
    unknown = []
    for name in sorted(environ):
        if not name.startswith("MR_") or name in known or name.startswith(_ENVIRON_OTHER):
            continue
        if not _KUBERNETES.match(f"{name}={environ[name]}"):
            near = difflib.get_close_matches(name, known, n=1)
            unknown.append(f"{name} (did you mean {near[0]}?)" if near else name)
    return unknown


def _with_files_read(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Read the files that settings such as `broker_url_file` name. Raises BadSetting."""
    read = dict(values)
    for name, setting in _FROM_FILES.items():
        if name not in read:
            continue
        path = read.pop(name)
        if setting in read:
            raise BadSetting(f"{source} sets both {setting} and {name}; keep one")
        try:
            read[setting] = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError, TypeError) as error:
            raise BadSetting(f"{source} sets {name} to {path!r}, which cannot be read: {error}") from error
    return read


def _convert(name: str, value: Any, source: str) -> Any:
    """Bring one value to its field's type. Raises BadSetting."""
    field = {f.name: f for f in msgspec.structs.fields(Settings)}.get(name)
    if field is None:
        raise BadSetting(f"{source} sets {name!r}, which is not a setting; see `mr settings`")
    try:
        if isinstance(value, str) and (parse := PARSERS.get(name.rpartition("_")[2])):
            return parse(value)
        if isinstance(value, str) and field.type == tuple[str, ...]:
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return msgspec.convert(value, field.type, strict=not isinstance(value, str))
    except (msgspec.ValidationError, BadSetting, UnicodeEncodeError) as error:
        raise BadSetting(f"{source} sets {name} to {value!r}: {error}") from error
