"""Targets that read files: inputs of every format, bundles, segment files, manifests, mr.toml."""

import bz2
import gzip
import io
import json
import lzma
import math
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, cast

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mr.bundle import check_bundle, content_id, unpack_bundle
from mr.cli.results import _print_content
from mr.cli.settings import setting_rows
from mr.errors import BadInput, BadJob, BadSetting, MrError, SegmentCorrupt
from mr.formats.output.directory import SUCCESS, read_manifest
from mr.protocol.codec import as_json
from mr.protocol.ids import JobId, TaskId
from mr.protocol.records import Manifest, ManifestPart
from mr.settings import Settings, load_settings
from mr.workers.shuffle.columns import key_column, key_list, value_column
from mr.workers.shuffle.combine import value_lists
from mr.workers.shuffle.rows import Rows
from mr.workers.shuffle.segment import SegmentWriter, pieces, read_segment, verify_segment
from mr.workers.shuffle.segment_index import find_segment, write_index
from mr.workers.shuffle.sort import sort_rows
from mr.workers.shuffle.transfer.wire import length_table, read_length_table
from tests.fuzz.harness import Case
from tests.fuzz.values import ABSURD, HUGE, damaged, message, poisoned
from tests.support.reading import batch_records, planned_records, whole
from tests.support.zips import POISON, with_job


class FileTarget:
    """A target that puts input into a directory of its own."""

    name = ""
    case_seconds = 10.0

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mr-fuzz-"))

    async def close(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def draw(self, rng: random.Random) -> Case:
        """Make a case."""
        raise NotImplementedError

    async def check(self, case: Case) -> None:
        """Feed each part."""
        for kind, data in case:
            self.feed(kind, data)

    def feed(self, kind: str, data: bytes) -> None:
        """Feed one part."""
        raise NotImplementedError


def _avro(codec: str) -> bytes:
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}],
    }
    target = io.BytesIO()
    rows = [{"a": n, "b": f"text {n}"} for n in range(60)]
    fastavro.writer(target, schema, rows, codec=codec, sync_interval=200)
    return target.getvalue()


def _parquet() -> bytes:
    target = io.BytesIO()
    rows = {"a": list(range(60)), "b": [f"text {n}" for n in range(60)], "c": [[n] for n in range(60)]}
    pq.write_table(pa.table(rows), target, row_group_size=20)
    return target.getvalue()


TEXT = "".join(f"line {n} é\n" for n in range(40)).encode()
CSV = b"a,b\n" + b"".join(b'%d,"x ""%d"" \n y"\n' % (n, n) for n in range(30))
JSONL = b"".join(b'{"a": %d, "b": [1, {"c": null}]}\n' % n for n in range(30))
#: Small enough that records lie across what is read at a time.
READ_BYTES = 500
#: By suffix: the format and a valid file.
INPUTS: dict[str, tuple[str, bytes]] = {
    "txt": ("text", TEXT),
    "csv": ("csv", CSV),
    "jsonl": ("jsonl", JSONL),
    "bin": ("binary", TEXT),
    "parquet": ("parquet", _parquet()),
    "avro": ("avro", _avro("null")),
    "deflate.avro": ("avro", _avro("deflate")),
    "txt.gz": ("text", gzip.compress(TEXT, mtime=0)),
    "jsonl.bz2": ("jsonl", bz2.compress(JSONL)),
    "csv.xz": ("csv", lzma.compress(CSV)),
    "txt.zst": ("text", zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)),
}
#: Where damage anywhere is either seen or without effect, as the file carries checksums of all its data.
CHECKED = ("txt.gz", "jsonl.bz2", "csv.xz", "txt.zst")
#: Lines of text, csv and jsonl that a writer might have meant.
_LINES = (
    b"\n",
    b"\r\n",
    b'"',
    b",",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"1e999",
    b"[" * 3000,
    b"\xef\xbb\xbf",
)


class InputFiles(FileTarget):
    """Damaged input is refused with its file's name, or read, alike however it is split."""

    name = "inputs"

    def __init__(self) -> None:
        super().__init__()
        self._valid = {kind: self._read(kind, data) for kind, (_, data) in INPUTS.items()}

    def draw(self, rng: random.Random) -> Case:
        """One damaged file."""
        kind = rng.choice(list(INPUTS))
        input_format, data = INPUTS[kind]
        if input_format == "jsonl" and "." not in kind and rng.random() < 0.5:
            lines = data.splitlines()
            lines[rng.randrange(len(lines))] = message(rng, json.loads(lines[0]), "application/json")
            return [(kind, b"\n".join(lines))]
        if kind in ("txt", "csv", "jsonl") and rng.random() < 0.5:
            at = rng.randrange(len(data))
            return [(kind, data[:at] + rng.choice(_LINES) * rng.choice((1, 1, 5)) + data[at:])]
        return [(kind, damaged(rng, data))]

    def _read(self, kind: str, data: bytes) -> Any:
        """The records; None when the file is refused."""
        path = self.directory / f"in.{kind}"
        path.write_bytes(data)
        input_format = INPUTS[kind][0]
        try:
            records = planned_records([str(path)], input_format, split_bytes=1 << 30, read_bytes=READ_BYTES)
        except BadInput as error:
            assert path.name in str(error), f"the file is not named: {error}"
            records = None
        # Where a split begins inside of the file, damage before it is another task's to see.
        try:
            split = planned_records([str(path)], input_format, split_bytes=97, read_bytes=READ_BYTES)
        except BadInput:
            split = None
        if records is not None or input_format not in ("parquet", "avro"):
            assert _same(split, records), f"split {split!r:.300}, as a whole {records!r:.300}"
        try:
            batches = batch_records(whole(path), input_format, read_bytes=READ_BYTES) if data else records
        except BadInput:
            batches = None
        # Arrow's types are stricter than Python's: what a batch cannot hold is refused there.
        assert batches is None or (records is not None and len(batches) == len(records))
        return records

    def feed(self, kind: str, data: bytes) -> None:
        """Read it in every way."""
        records = self._read(kind, data)
        if kind in CHECKED and records is not None and len(data) <= len(INPUTS[kind][1]):
            valid = self._valid[kind]
            assert records == [] or _same(records, valid), f"damage was not seen: {records!r:.300}"
        if kind.endswith("avro") and data[:4] != b"Obj\x01" and data:
            assert records is None, "a file with another mark at its beginning was read as Avro"


def _same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # NaN is not equal to itself


class Bundles(FileTarget):
    """A damaged bundle is refused, and nothing of one lands outside of its directory."""

    name = "bundles"

    def __init__(self) -> None:
        super().__init__()
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)

    def draw(self, rng: random.Random) -> Case:
        """A bundle with a bad member, or a damaged one."""
        if rng.random() < 0.3:
            name = rng.choice([name for name in POISON if name not in ("bomb", "many")])
            return [("zip", damaged(rng, POISON[name]()))]
        names = [value for value in ABSURD if isinstance(value, str)]
        member = (rng.choice(names), b"x = 1\n", rng.choice((0o100644, 0o120777, 0o20666, 0, 0o177777)))
        data = with_job(*([member] if rng.random() < 0.5 else []), ("lib/a.py", b"y = 2\n" * 40, 0o100644))
        return [("zip", damaged(rng, data) if rng.random() < 0.7 else data)]

    def feed(self, kind: str, data: bytes) -> None:
        """Check and unpack it."""
        target = self.directory / "place" / "code"
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        try:
            check_bundle(data, content_id(data), "job.py")
        except BadJob:
            bad = True
        else:
            bad = False
        try:
            unpack_bundle(data, target)
        except BadJob:
            assert not target.exists()
        assert not (bad and target.exists() and (target / "job.py").is_file()), (
            "unpacked, though it is refused"
        )
        assert [path.name for path in target.parent.iterdir()] in ([], ["code"])
        assert [path.name for path in self.directory.iterdir()] == ["place"]


class Segments(FileTarget):
    """Damage to a segment file is seen before a byte of it is used."""

    name = "segments"

    def __init__(self) -> None:
        super().__init__()
        target = io.BytesIO()
        sizes = []
        keys: list[list[Any]] = [["a", "b", "a"], [], [1, 2, 3], [(1, "x"), (2, None)]]
        for names in keys:
            sizes.append(self._segment(target, names))
        write_index(target, sizes)
        self._data = target.getvalue()
        self._table = length_table(sizes)
        self._sizes = tuple(sizes)
        self._path = self.directory / "segments"
        self._path.write_bytes(self._data)
        self._valid = [self._rows(partition) for partition in range(len(sizes))]

    @staticmethod
    def _segment(target: io.BytesIO, names: list[Any]) -> int:
        writer = SegmentWriter(target)
        if names:
            view = sort_rows(Rows(key_column(names), {"value": value_column(list(range(len(names))))}))
            for piece in pieces(view, 0, len(view.keys)):
                writer.write(piece)
        return writer.close()

    def _rows(self, partition: int) -> Any:
        place = find_segment(self._path, partition)
        with place.open() as file:
            if place.bytes:
                verify_segment(file, place.bytes)
        return [
            pair
            for rows in read_segment(place)
            for pair in zip(key_list(rows.keys), value_lists(rows), strict=True)
        ]

    def draw(self, rng: random.Random) -> Case:
        """A damaged file, or a damaged table of lengths."""
        kind, data = ("table", self._table) if rng.random() < 0.2 else ("file", self._data)
        return [(kind, damaged(rng, data))]

    def feed(self, kind: str, data: bytes) -> None:
        """Read every partition, and some that are not there."""
        if kind == "table":
            try:
                assert read_length_table(io.BytesIO(data).read, len(self._sizes)) == self._sizes
            except SegmentCorrupt:
                return
            return
        self._path.write_bytes(data)
        for partition in (*range(len(self._sizes)), 7, -1, 2**31):
            try:
                rows = self._rows(partition)
            except (SegmentCorrupt, OSError):
                continue
            assert 0 <= partition < len(self._sizes) and rows == self._valid[partition], rows


class Manifests(FileTarget):
    """A `_SUCCESS` that somebody changed is refused, or `mr results` prints what it says."""

    name = "manifests"

    def draw(self, rng: random.Random) -> Case:
        """A manifest of parts that are there."""
        kind = rng.choice(list(INPUTS))
        path = str(self.directory / f"part-00000.{kind}")
        part = ManifestPart(TaskId("reduce-00000"), 1, path, 3, 30, "0" * 16)
        manifest = Manifest(1, JobId("job-1"), "words", 1000.0, 3, 30, (part,), {"bad": 2})
        data = json.loads(as_json(manifest))
        return [(kind, message(rng, data, "application/json"))]

    def feed(self, kind: str, data: bytes) -> None:
        """Read it and print the parts."""
        (self.directory / f"part-00000.{kind}").write_bytes(INPUTS[kind][1])
        (self.directory / SUCCESS).write_bytes(data)
        try:
            manifest = read_manifest(str(self.directory))
        except BadInput:
            return
        assert manifest is not None
        as_json(manifest)
        with redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")):
            try:
                _print_content(manifest, 5)
            except MrError:
                return


class SettingFiles(FileTarget):
    """A wrong mr.toml or variable is refused in one sentence that names the setting."""

    name = "settings"

    def draw(self, rng: random.Random) -> Case:
        """A file or an environment with every setting in it."""
        valid = json.loads(msgspec.json.encode(Settings()))
        if rng.random() < 0.3:
            text = [value for value in ABSURD if isinstance(value, str)]
            name = rng.choice(list(valid))
            value = rng.choice((*text, "-1", "nan", "inf", "1.5", "0", "true", "1e400", "\ud800"))
            return [("environ", msgspec.json.encode([name]) + b"\n" + value.encode("utf-8", "surrogatepass"))]
        bad = poisoned(rng, valid, (*ABSURD, *HUGE))
        data = _toml(bad if isinstance(bad, dict) else {"x": bad}).encode("utf-8", "surrogatepass")
        return [("toml", damaged(rng, data) if rng.random() < 0.3 else data)]

    def feed(self, kind: str, data: bytes) -> None:
        """Load it."""
        path, environ = self.directory / "mr.toml", {}
        if kind == "environ":
            name, _, value = data.partition(b"\n")
            environ = {f"MR_{json.loads(name)[0].upper()}": value.decode("utf-8", "surrogatepass")}
            path.write_bytes(b"")
        else:
            path.write_bytes(data)
        try:
            settings = load_settings({}, environ, path)
        except BadSetting as error:
            assert str(error)
            return
        for name in Settings.__struct_fields__:
            value = getattr(settings, name)
            if isinstance(value, float):
                assert math.isfinite(value)
        _ = cast(Callable[..., Any], setting_rows)


def _toml(values: Any) -> str:
    lines = [
        f"{json.dumps(name)} = {_toml_value(value)}" for name, value in values.items() if value is not None
    ]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan" if math.isnan(value) else repr(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value if item is not None) + "]"
    if isinstance(value, bytes):
        return json.dumps(value.decode("latin-1"))
    return json.dumps(value)
