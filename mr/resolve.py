"""Turns a request into what is run: flags > the job file's JOB > settings. Pure."""

import codecs
from pathlib import PurePosixPath
from typing import Any

import msgspec

from mr.errors import BadJob, BadSetting
from mr.protocol.ids import JobId
from mr.protocol.jobs import Buffers, CodeManifest, JobRequest, JobSpec
from mr.protocol.option_values import requirement
from mr.protocol.options import GivenOptions, Option, ResolvedOptions, option_table
from mr.request_summary import request_summary
from mr.settings import PARSERS, Settings


def resolve_request(request: JobRequest, manifest: CodeManifest, settings: Settings) -> ResolvedOptions:
    """Fill in the options of a request. Raises BadJob for what is impossible, naming it."""
    if both := sorted({*(request.params or {})} & {*(request.secret_params or {})}):
        raise BadJob(f"{', '.join(both)}: given as params and as secret_params; keep one")
    return resolve_options(request, manifest, settings)


def resolve_options(given: GivenOptions, manifest: CodeManifest, settings: Settings) -> ResolvedOptions:
    """Fill in every option: the given ones, else the job file's, else the defaults.

    Raises BadJob for one that is impossible, naming it.
    """
    defaults = default_options(settings, name=PurePosixPath(manifest.entry).stem)
    values = {option.name: _resolved(option, given, manifest.options, defaults) for option in option_table()}
    values["encoding"] = _encoding(values["encoding"])
    values["reduces"] = _reduces(values["reduces"], manifest)
    return ResolvedOptions(**values)


def default_options(settings: Settings, **changes: Any) -> ResolvedOptions:
    """The options of a job that gives only `changes`."""
    values = {
        option.name: getattr(settings, option.setting) if option.setting else option.default
        for option in option_table()
    }
    return ResolvedOptions(**values | changes)


def _resolved(option: Option, given: GivenOptions, declared: GivenOptions, defaults: ResolvedOptions) -> Any:
    value, in_file, default = (getattr(source, option.name) for source in (given, declared, defaults))
    if isinstance(default, dict):
        return {**default, **(in_file or {}), **(value or {})}
    if value is None:
        value = in_file
    return default if value is None else resolve_option(option, value)


def resolve_option(option: Option, value: Any) -> Any:
    """The value in the option's unit. Raises BadJob for one that is out of its bounds."""
    try:
        parsed = PARSERS[option.unit](value) if option.unit else value
        return msgspec.convert(parsed, option.type)
    except BadSetting as error:
        raise BadJob(f"{option.name} {value!r}: {error}") from error
    except msgspec.ValidationError as error:
        words = requirement(f"{error} - at `$.{option.name}`")[1]
        raise BadJob(f"{option.name} {value!r}: {words}") from error


def resolve_spec(
    request: JobRequest,
    manifest: CodeManifest,
    options: ResolvedOptions,
    settings: Settings,
    *,
    job_id: JobId,
    splits_count: int,
    token: str,
    now: float,
    sender: str = "",
) -> JobSpec:
    """Fix a job for good, once its input is split into `splits_count` map tasks.

    `now` in seconds since the epoch. The number of reduces never depends on the workers at hand:
    the same request on the same data gives the same parts anywhere.
    """
    reduces = options.reduces
    if reduces is None:
        reduces = max(1, min(settings.default_reduces, splits_count))
    return JobSpec(
        job_id=job_id,
        code=manifest,
        inputs=tuple(request.inputs),
        output=request.output,
        maps=splits_count,
        reduces=reduces,
        options=options,
        buffers=buffers_of(settings),
        token=token,
        submitted_at=now,
        secret_params=request.secret_params or {},
        request=request_summary(request),
        sender=sender,
    )


def buffers_of(settings: Settings) -> Buffers:
    """What a job takes from its coordinator's settings, so that it is the same for all workers."""
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


def _reduces(wanted: int | None, manifest: CodeManifest) -> int | None:
    """0 for a job without `reduce_fn`. Raises BadJob when it asks for reduces."""
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
