"""The bad records of completed jobs as splits: what `mr retry-bad` runs."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec

from mr.errors import BadInput
from mr.formats import storage
from mr.formats.input.bad_records import modified
from mr.formats.input.compression import readable
from mr.formats.input.splits import is_splittable
from mr.formats.output.directory import SUCCESS, read_manifest
from mr.protocol.bad_records import BadRecord
from mr.protocol.codec import UNDECODABLE
from mr.protocol.formats import INPUT_FORMATS
from mr.protocol.ids import task_index
from mr.protocol.jobs import FileRange, Split
from mr.protocol.part_names import BAD_RECORDS, final_bad_records
from mr.protocol.records import Manifest

#: Ranges of one split, unless the number of maps is given: each is opened and read for itself.
_RANGES = 256


def plan_bad_records(
    outputs: Sequence[str], *, input_format: str, maps: int | None, encoding: str
) -> tuple[Split, ...]:
    """Make splits of the bad records that are listed in output directories, in the order of the lists.

    Raises BadInput where there are none, where the inputs have changed since, and for another input format.
    """
    ranges: list[FileRange] = []
    for output in outputs:
        manifest = _manifest(output)
        was = manifest.read_as.get("input_format", input_format)
        if was != input_format:
            raise BadInput(
                f"{output} was made with --input-format {was}; its bad records are run with the same"
            )
        records = _unchanged(output, _records(output, manifest))
        for path, found in groupby(records, lambda record: record.path):
            ranges += _ranges(path, list(found), input_format, encoding)
    size = _RANGES if maps is None else -(-len(ranges) // maps)
    groups = [tuple(ranges[start : start + size]) for start in range(0, len(ranges), size)]
    return tuple(Split(index, group) for index, group in enumerate(groups))


def _manifest(output: str) -> Manifest:
    manifest = read_manifest(output)
    if manifest is None:
        raise BadInput(f"{output} holds no {SUCCESS}: only a completed job has a list of its bad records")
    if not manifest.bad_records:
        raise BadInput(f"the job that wrote {output} skipped no bad record: there is nothing to run again")
    return manifest


def _records(output: str, manifest: Manifest) -> Iterator[BadRecord]:
    for listed in manifest.bad_records:
        path = final_bad_records(output, task_index(listed.task_id))
        with readable(path):
            data = storage.read_file(path)
        if data is None or len(data) != listed.bytes:
            raise BadInput(f"{path} is gone or was changed; restore {storage.join(output, BAD_RECORDS)}")
        try:
            yield from (msgspec.json.decode(line, type=BadRecord) for line in data.splitlines())
        except UNDECODABLE as error:
            raise BadInput(f"{path} is not a list of bad records: {error}") from error


def _unchanged(output: str, records: Iterator[BadRecord]) -> Iterator[BadRecord]:
    """Pass records on. Raises BadInput when their file is not the one that was read."""
    now: dict[str, tuple[int | None, float]] = {}
    for record in records:
        path = record.path
        if path not in now:
            with readable(path):
                now[path] = (storage.file_size(path), modified(path))
        size, changed = now[path]
        if size is None:
            raise BadInput(f"{path} is gone: the bad records of {output} cannot be read again")
        if size != record.file_bytes or (record.modified and changed != record.modified):
            raise BadInput(
                f"{path} has changed since {output} was written, so its bad records may lie elsewhere now; "
                "run the job over the whole file"
            )
        yield record


def _ranges(path: str, records: list[BadRecord], input_format: str, encoding: str) -> list[FileRange]:
    """The ranges to read for some records of one file: its lines where they can be found, else all of it."""
    size = records[0].file_bytes
    positions = [record.position for record in records]
    if not is_splittable(path, input_format, encoding):
        return [FileRange(path, 0, -1, size, tuple(positions))]
    if INPUT_FORMATS[input_format].splittable == "lines":
        return [FileRange(path, position, 1, size, (position,)) for position in positions]
    return [FileRange(path, 0, size, size, tuple(positions))]
