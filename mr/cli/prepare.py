"""From a job file and flags to what is submitted: the bundle, its manifest, the request."""

import glob
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from mr.bundle import Bundle, build_bundle, unpack_bundle
from mr.client import new_job_id
from mr.error_text import error_text
from mr.errors import BadInput, BadJob
from mr.protocol.ids import is_id
from mr.protocol.jobs import REQUEST_VERSION, CodeManifest, JobRequest
from mr.protocol.option_values import requirement
from mr.protocol.options import JobOptions
from mr.resolve import resolve_request
from mr.settings import Settings

_SECRET = "--secret-param"
#: Options of a job that a request carries under the names of the flags.
_REQUEST_OPTIONS = tuple(name for name in JobOptions.__struct_fields__ if name != "params")


class Prepared(msgspec.Struct, frozen=True):
    """A job ready to be handed to a coordinator."""

    bundle: Bundle
    manifest: CodeManifest
    request: JobRequest


def prepare_code(
    job_file: Path, includes: Sequence[Path], settings: Settings, params: Mapping[str, str]
) -> tuple[Bundle, CodeManifest]:
    """Bundle a job file and inspect the bundle, as a worker will see it, in a process of its own.

    `params` are what `mr.param` knows meanwhile. Raises BadJob with one line for whatever is wrong with it.
    """
    from mr.workers.usercode.inspect import inspect_in_subprocess

    bundle = build_bundle(job_file, includes, settings.max_bundle_bytes)
    with tempfile.TemporaryDirectory(prefix="mr-inspect-") as directory:
        code_dir = Path(directory, "code")
        unpack_bundle(bundle.data, code_dir)
        manifest = inspect_in_subprocess(
            code_dir, bundle.entry, bundle.code_id, settings.inspect_seconds, params
        )
    return bundle, manifest


def prepare_job(
    job_file: Path, inputs: Sequence[str], flags: Mapping[str, Any], settings: Settings
) -> Prepared:
    """Make the request for a job file; paths in it are absolute. Raises BadJob, BadInput."""
    from mr.formats.storage import absolute

    job_id = flags["job_id"]
    if job_id is not None and not is_id(job_id):
        raise BadJob(f"--job-id {job_id!r}: letters, digits, '.', '_' and '-', at most 64")
    params = parse_params(flags["params"])
    secrets = parse_secrets(flags["secret_params"])
    bundle, manifest = prepare_code(job_file, flags["includes"], settings, {**params, **secrets})
    raw = {
        "version": REQUEST_VERSION,
        "job": bundle.code_id,
        "inputs": [absolute_input(text) for text in inputs],
        "output": absolute(flags["output"]),
        **{name: flags[name] for name in _REQUEST_OPTIONS if flags[name] is not None},
    }
    if flags.get("retry_bad"):
        raw["retry_bad"] = True
    if params:
        raw["params"] = params
    if secrets:
        raw["secret_params"] = secrets
    _check_utf8(raw)
    try:
        request = msgspec.convert(raw, JobRequest)
    except msgspec.ValidationError as error:
        path, words = requirement(str(error))
        raise BadJob(f"{path}: {words}") from error
    options = resolve_request(request, manifest, settings)  # refused here, before anything is stored
    request = msgspec.structs.replace(request, job_id=job_id or new_job_id(options.name))
    return Prepared(bundle, manifest, request)


def _check_utf8(raw: Mapping[str, Any]) -> None:
    """Refuse text that is not UTF-8, such as a file name: no message can hold it."""
    params = raw.get("params", {})
    secrets = raw.get("secret_params", {})
    for name, value in secrets.items():
        if not _is_utf8(name + value):
            raise BadJob(f"the secret parameter {name!a} is not UTF-8; write it in UTF-8")
    open_values = (value for name, value in raw.items() if name != "secret_params")
    for text in (*raw["inputs"], *params, *params.values(), *open_values):
        if not _is_utf8(str(text)):
            raise BadJob(f"{text!r} is not UTF-8; rename the file, or write the value in UTF-8")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_params(texts: Sequence[str]) -> dict[str, str]:
    """Read `K=V` texts; the last of a name wins. Raises click.BadParameter for one without `=`."""
    params = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{text!r} is not of the form K=V", param_hint="--param")
        params[name] = value
    return params


def parse_secrets(texts: Sequence[str]) -> dict[str, str]:
    """Read `K=V`, `K=@FILE` and `K=env:VARIABLE`; a line end at the end of a file is dropped.

    Raises click.BadParameter, which shows no value.
    """
    secrets = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.BadParameter("not of the form K=V, K=@FILE or K=env:VARIABLE", param_hint=_SECRET)
        try:
            if value.startswith("@"):
                value = Path(value[1:]).read_text().removesuffix("\n")
            elif value.startswith("env:"):
                value = os.environ[value[4:]]
        except KeyError as error:
            raise click.BadParameter(f"{name}: there is no variable {error}", param_hint=_SECRET) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = f"{name}: {value[1:]} cannot be read: {error_text(error)}"
            raise click.BadParameter(reason, param_hint=_SECRET) from error
        secrets[name] = value
    return secrets


def absolute_input(text: str) -> str:
    """An input as workers on other hosts see it: a URL unchanged, a path made absolute.

    A pattern stays a pattern; only the working directory before it is escaped.
    """
    from mr.formats.storage import absolute

    if not text:
        raise BadInput("an input is empty; name a file, a directory, a pattern or a URL")
    if "://" in text or Path(text).is_absolute() or Path(text).exists() or not glob.has_magic(text):
        return absolute(text)
    return str(Path(glob.escape(str(Path.cwd())), text))
