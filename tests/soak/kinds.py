"""The kinds of jobs that the soak runs: a table. Each has the bytes and counters of its embedded run."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mr.bundle import Bundle
from mr.cli.prepare import prepare_code
from mr.protocol.jobs import CodeManifest
from mr.settings import Settings
from tests.support.commands import Commands

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
JOBS = Path(__file__).with_name("jobs")


@dataclass(frozen=True)
class Kind:
    """One row of the table."""

    name: str
    #: Of this many draws among the sum of all weights.
    weight: int
    file: Path
    #: An input directory that `write_inputs` makes, or one of the repository.
    source: str | Path
    options: Mapping[str, Any]
    params: Mapping[str, str] = field(default_factory=dict)
    #: Longest sleep, in seconds, that a job's tasks are asked for; 0 = its file knows no `pause`.
    most_pause: float = 0.0
    #: Whether its file takes a `mark`, where one attempt stops for long.
    marked: bool = False
    #: Whether it fails by its own fault.
    fails: bool = False


LICENCES = EXAMPLES / "data" / "licences"
ALL = (
    Kind("wordcount", 3, EXAMPLES / "wordcount/job.py", LICENCES, {"maps": 8, "reduces": 3}),
    Kind("wordcount-agg", 2, EXAMPLES / "wordcount/job_agg.py", LICENCES, {"maps": 5, "reduces": 2}),
    Kind("wordcount-batch", 2, EXAMPLES / "wordcount/job_batch.py", LICENCES, {"maps": 5, "reduces": 2}),
    Kind("index", 2, EXAMPLES / "inverted_index/job.py", LICENCES, {"maps": 6, "reduces": 4}),
    Kind("join", 2, EXAMPLES / "join/job.py", EXAMPLES / "join/data", {"maps": 3, "reduces": 2}),
    Kind(
        *("grep", 2, EXAMPLES / "grep/job.py", LICENCES),
        {"maps": 6, "reduces": 0},
        params={"pattern": "(?i)licen[cs]e"},
    ),
    Kind(
        *("ordered", 5, JOBS / "ordered.py", "words"),
        {"maps": 8, "reduces": 4, "output_format": "jsonl"},
        most_pause=0.8,
    ),
    Kind("scattered", 3, JOBS / "scattered.py", "scraps", {"maps": 60, "reduces": 3}, most_pause=0.05),
    Kind(
        *("columns", 4, JOBS / "columns.py", "tables"),
        {"reduces": 3, "split_size": "20KiB", "input_format": "parquet", "output_format": "parquet"},
        most_pause=0.6,
    ),
    Kind(
        *("upper", 3, JOBS / "upper.py", "objects"),
        {"maps": 6, "input_format": "jsonl", "output_format": "jsonl"},
        most_pause=1.0,
    ),
    Kind("spilling", 2, JOBS / "spilling.py", "words", {"maps": 4, "reduces": 3}),
    Kind(
        *("straggling", 2, JOBS / "straggling.py", "words"),
        {"maps": 8, "reduces": 2},
        most_pause=0.3,
        marked=True,
    ),
    Kind("failing", 1, JOBS / "failing.py", "words", {"maps": 4, "reduces": 2}, fails=True),
)


@dataclass(frozen=True)
class Result:
    """What a completed job left: its parts, and the counters of its `_SUCCESS`."""

    parts: Mapping[str, bytes]
    rows: int
    counters: Mapping[str, int]

    @classmethod
    def read(cls, output: Path) -> "Result":
        """Read an output directory. Raises FileNotFoundError when it has no `_SUCCESS`."""
        manifest = json.loads((output / "_SUCCESS").read_text())
        parts = {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}
        return cls(parts, manifest["rows"], manifest["counters"])


@dataclass(frozen=True)
class Prepared:
    """A kind ready to be submitted, with what its jobs must give."""

    kind: Kind
    source: Path
    bundle: Bundle
    manifest: CodeManifest
    #: None for a kind that fails.
    expected: Result | None


def prepare(kind: Kind, inputs: Path, outputs: Path, commands: Commands, settings: Settings) -> Prepared:
    """Bundle a kind's code and run it embedded."""
    source = inputs / kind.source
    bundle, manifest = prepare_code(kind.file, (), settings, kind.params)
    if kind.fails:
        return Prepared(kind, source, bundle, manifest, None)
    flags: list[object] = []
    for name, value in kind.options.items():
        flags += [f"--{name.replace('_', '-')}", value]
    for name, value in kind.params.items():
        flags += ["--param", f"{name}={value}"]
    commands.succeed("run", kind.file, source, "-o", outputs / kind.name, "-q", *flags)
    return Prepared(kind, source, bundle, manifest, Result.read(outputs / kind.name))


def write_inputs(directory: Path) -> None:
    """Write words, scraps, tables and objects: the same on every run."""
    chance = random.Random(7)
    for name in ("words", "scraps", "tables", "objects"):
        (directory / name).mkdir(parents=True)
    for number in range(6):
        lines = (
            f"word{chance.randrange(300)} {chance.random():.12f} {chance.getrandbits(60):015x}\n"
            for _ in range(4000)
        )
        (directory / "words" / f"{number}.txt").write_text("".join(lines))
    for number in range(60):
        words = (f"w{chance.randrange(200)}" for _ in range(40))
        (directory / "scraps" / f"{number:02}.txt").write_text("\n".join(words))
    for number in range(4):
        rows = [{"place": f"p{chance.randrange(100)}", "amount": chance.random()} for _ in range(5000)]
        table = pa.Table.from_pylist(rows)
        pq.write_table(table, directory / "tables" / f"{number}.parquet", row_group_size=1000)
        objects = (json.dumps({**row, "name": f"name {index}"}) for index, row in enumerate(rows[:3000]))
        (directory / "objects" / f"{number}.jsonl").write_text("\n".join(objects) + "\n")
