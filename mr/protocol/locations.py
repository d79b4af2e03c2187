"""Where the committed map outputs of a job lie, packed: a reducer reads 10,000 of them cheaply. Pure.

What the outputs in one directory share (worker, incarnation, address, host) is stored once, under its own
digest. Each output adds its map's index, its attempt number and its file name, about 60 bytes. The job is not
stored: the key names it.
"""

import hashlib
from collections.abc import Iterable

import msgspec

from mr.errors import BadMessage
from mr.protocol.bounds import Attempt, Index
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskKind, WorkerId, task_id, task_index
from mr.protocol.records import MapOutput, TaskResult

#: Bytes of the digest by which a location names its place.
_DIGEST_BYTES = 8
#: First character of a place's field in the hash of locations; no task id begins with it.
_PLACE_MARK = "@"
#: msgpack's mark of an array whose length follows in four bytes.
_ARRAY = b"\xdd"


class Place(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """What all outputs in one directory of one incarnation of a worker have in common."""

    digest: bytes
    worker: WorkerId
    incarnation: Incarnation
    #: `host:port` of the worker's shuffle server; empty in the embedded mode.
    address: str
    host: str
    #: Ends with a slash.
    directory: str


class Location(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One output. The script `map_outputs` counts the values that begin with this tag."""

    index: Index
    attempt: Attempt
    #: Digest of its Place.
    place: bytes
    #: The file's name in the place's directory.
    name: str


class PackedOutputs(msgspec.Struct, frozen=True):
    """The committed map outputs of a job, passed on to a reducer's process without being decoded."""

    count: int = 0
    #: A msgpack array of Place and Location, in any order.
    packed: bytes = _ARRAY + bytes(4)

    def unpack(self, job: JobId) -> list[MapOutput]:
        """The outputs, of `job`, in order of map task. Raises BadMessage when another version wrote them."""
        entries = unpack(self.packed, list[Place | Location])
        places = {entry.digest: entry for entry in entries if isinstance(entry, Place)}
        located = sorted((e for e in entries if isinstance(e, Location)), key=lambda entry: entry.index)
        try:
            return [_output(job, entry, places[entry.place]) for entry in located]
        except KeyError as error:
            raise BadMessage("a stored Location names a Place that is not stored") from error


def _output(job: JobId, location: Location, place: Place) -> MapOutput:
    return MapOutput(
        attempt=AttemptId(job, task_id(TaskKind.MAP, location.index), location.attempt),
        worker=place.worker,
        incarnation=place.incarnation,
        address=place.address,
        host=place.host,
        path=place.directory + location.name,
    )


def location_fields(output: MapOutput) -> dict[str, bytes]:
    """The fields that an output has in the hash of locations: its place, then its location."""
    name = output.path.rpartition("/")[2]
    facts = (output.worker, output.incarnation, output.address, output.host, output.path.removesuffix(name))
    digest = hashlib.blake2b(pack(facts), digest_size=_DIGEST_BYTES).digest()
    location = Location(task_index(output.attempt.task), output.attempt.number, digest, name)
    return {
        f"{_PLACE_MARK}{digest.hex()}": pack(Place(digest, *facts)),
        str(output.attempt.task): pack(location),
    }


def result_locations(result: TaskResult) -> dict[str, bytes]:
    """The fields that a committed result adds: none for an output part."""
    return location_fields(result.output) if isinstance(result.output, MapOutput) else {}


def join_fields(fields: Iterable[tuple[str, bytes]]) -> PackedOutputs:
    """Put the fields of a hash of locations together, as the script `map_outputs` does."""
    found = list(fields)
    count = sum(not field.startswith(_PLACE_MARK) for field, _ in found)
    return PackedOutputs(count, _ARRAY + len(found).to_bytes(4, "big") + b"".join(v for _, v in found))


def pack_outputs(outputs: Iterable[MapOutput]) -> PackedOutputs:
    """Pack outputs as the store would."""
    fields: dict[str, bytes] = {}
    for output in outputs:
        fields.update(location_fields(output))
    return join_fields(fields.items())
