"""Turns a request into what is run: flags > the job file's JOB > settings. Pure."""

import codecs
from pathlib import PurePosixPath
from typing import Any

import msgspec

from mr.errors import BadJob, BadSetting
from mr.protocol.formats import InputFormatName, OutputFormatName
from mr.protocol.ids import JobId
from mr.protocol.jobs import (
    Buffers,
    CodeManifest,
    EncodingErrors,
    JobOptions,
    JobRequest,
    JobSpec,
)
from mr.request_summary import request_summary
from mr.settings import Settings, parse_bytes, parse_seconds

DEFAULT_PRIORITY = 2
DEFAULT_WEIGHT = 1.0


class ResolvedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Every option of a job, before its input is split."""

    name: str
    #: Wanted number of map tasks; None: `split_bytes` decides.
    maps: int | None
    #: Number of reduce tasks; None: as many as there are maps, up to the setting `default_reduces`.
    reduces: int | None
    split_bytes: int
    input_format: InputFormatName
    output_format: OutputFormatName
    #: As `codecs` names it: `utf-8`, never `UTF8`.
    encoding: str
    encoding_errors: EncodingErrors
    priority: int
    weight: float
    max_attempts: int
    #: 0 = no limit.
    task_timeout_seconds: float
    task_memory_bytes: int
    params: dict[str, str]


def resolve_options(request: JobRequest, manifest: CodeManifest, settings: Settings) -> ResolvedOptions:
    """Fill in every option: the request's, else the job file's, else the settings'.

    Raises BadJob for one that is impossible, naming it.
    """

    if both := sorted({*(request.params or {})} & {*(request.secret_params or {})}):
        raise BadJob(f"{', '.join(both)}: given as params and as secret_params; keep one")

    def pick(name: str, default: Any) -> Any:
        return _pick(name, request, manifest.options, default)

    return ResolvedOptions(
        name=pick("name", PurePosixPath(manifest.entry).stem),
        maps=pick("maps", None),
        reduces=_reduces(pick("reduces", None), manifest),
        split_bytes=_bytes("split_size", pick("split_size", settings.split_bytes)),
        input_format=pick("input_format", "text"),
        output_format=pick("output_format", "text"),
        encoding=_encoding(pick("encoding", "utf-8")),
        encoding_errors=pick("encoding_errors", "strict"),
        priority=pick("priority", DEFAULT_PRIORITY),
        weight=pick("weight", DEFAULT_WEIGHT),
        max_attempts=pick("max_attempts", settings.max_attempts),
        task_timeout_seconds=_seconds("task_timeout", pick("task_timeout", settings.task_timeout_seconds)),
        task_memory_bytes=_bytes("task_memory", pick("task_memory", settings.task_memory_bytes)),
        params={**(manifest.options.params or {}), **(request.params or {})},
    )


def resolve_spec(
    request: JobRequest,
    manifest: CodeManifest,
    settings: Settings,
    *,
    job_id: JobId,
    inputs: tuple[str, ...],
    splits_count: int,
    token: str,
    now: float,
    sender: str = "",
) -> JobSpec:
    """Fix a job for good, once its input is split into `splits_count` map tasks.

    `now` in seconds since the epoch. The number of reduces never depends on the workers at hand:
    the same request on the same data gives the same parts anywhere. Raises BadJob.
    """
    options = resolve_options(request, manifest, settings)
    reduces = options.reduces
    if reduces is None:
        reduces = max(1, min(settings.default_reduces, splits_count))
    return JobSpec(
        job_id=job_id,
        name=options.name,
        code=manifest,
        inputs=inputs,
        output=request.output,
        maps=splits_count,
        reduces=reduces,
        split_bytes=options.split_bytes,
        input_format=options.input_format,
        output_format=options.output_format,
        encoding=options.encoding,
        encoding_errors=options.encoding_errors,
        priority=options.priority,
        weight=options.weight,
        max_attempts=options.max_attempts,
        task_timeout_seconds=options.task_timeout_seconds,
        task_memory_bytes=options.task_memory_bytes,
        buffers=buffers_of(settings),
        params=options.params,
        token=token,
        submitted_at=now,
        secret_params=request.secret_params or {},
        request=request_summary(request),
        sender=sender,
    )


def buffers_of(settings: Settings) -> Buffers:
    """What a job takes from the settings of whoever coordinates it, the same for all of its workers."""
    return Buffers(*(getattr(settings, name) for name in Buffers.__struct_fields__))


def job_json_schema() -> dict[str, Any]:
    """The JSON Schema of a job request on `mr.jobs`, from the model itself."""
    schema = msgspec.json.schema(JobRequest)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:mrmq:job-request:1",
        "title": "mrmq job request",
        **schema,
    }


def _pick(name: str, request: JobRequest, options: JobOptions, default: Any) -> Any:
    for source in (request, options):
        value = getattr(source, name)
        if value is not None:
            return value
    return default


def _reduces(wanted: int | None, manifest: CodeManifest) -> int | None:
    """0 for a job without `reduce_fn`. Raises BadJob when it asks for reduces all the same."""
    if "reduce_fn" in manifest.functions or manifest.reduce_agg:
        return wanted
    if wanted:
        raise BadJob(
            f"{manifest.entry} has no reduce_fn, but {wanted} reduce task(s) are asked for; "
            "write reduce_fn, or ask for 0"
        )
    return 0


def _encoding(name: str) -> str:
    """The encoding's own name. Raises BadJob for one that is unknown or not of text."""
    try:
        "\n".encode(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        raise BadJob(
            f"encoding {name!r} is not one of text; write one such as utf-8, latin-1 or cp1252"
        ) from error


def _bytes(name: str, value: str | int) -> int:
    try:
        size = parse_bytes(value)
    except BadSetting as error:
        raise BadJob(f"{name}: {error}") from error
    if size < 1:
        raise BadJob(f"{name} is {value}; it must be at least one byte")
    return size


def _seconds(name: str, value: str | float) -> float:
    try:
        return parse_seconds(value)
    except BadSetting as error:
        raise BadJob(f"{name}: {error}") from error
