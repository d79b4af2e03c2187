"""Everything a job file may declare, embedded: what it is given, and what comes out."""

import bz2
import gzip
import json
import lzma
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as parquet
import pytest
import zstandard

from tests.e2e.examples import EXAMPLES
from tests.e2e.references import part_files, same_parts
from tests.support.commands import Commands, write_job

WORDS = EXAMPLES / "wordcount" / "job.py"


def lines(output: Path) -> list[str]:
    """All lines of the parts, in order."""
    return [line for part in part_files(output) for line in part.read_text().splitlines()]


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """Two thousand lines `name number`."""
    chance = random.Random(3)
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"n{chance.randrange(40)} {chance.randrange(-50, 50)}\n" for _ in range(2000)))
    return path


def grouped(numbers: Path) -> dict[str, list[int]]:
    """The numbers of each name, in input order."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for line in numbers.read_text().splitlines():
        name, number = line.split()
        groups[name].append(int(number))
    return groups


SPLIT = ("def map_fn(offset, line):", "    name, number = line.split()", "    yield name, int(number)")

AGGREGATIONS = {
    "sum": sum,
    "count": len,
    "min": min,
    "max": max,
    "mean": lambda values: sum(values) / len(values),
    "collect": list,
    "count_distinct": lambda values: len(set(values)),
}


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_built_in_reducers(mr: Commands, tmp_path: Path, numbers: Path, name: str) -> None:
    job = write_job(tmp_path / "job.py", "import mr", *SPLIT, f"reduce_fn = mr.agg.{name}")
    output = tmp_path / "output"
    mr.succeed("run", job, numbers, "-o", output, "-m", 4, "-r", 2, env=small_spills(mr))
    expected = [f"{key}\t{AGGREGATIONS[name](values)}" for key, values in grouped(numbers).items()]
    assert sorted(lines(output)) == sorted(expected)


def small_spills(mr: Commands) -> dict[str, str]:
    """Bounds so small that everything spills, merges and streams."""
    return mr.environment | {
        "MR_SPILL_ROWS": "50",
        "MR_SPILL_BYTES": "1KiB",
        "MR_GROUP_BYTES": "1KiB",
        "MR_CHUNK_ROWS": "7",
        "MR_READ_BYTES": "1KiB",
    }


def test_slots_and_memory_bounds_do_not_change_a_byte(mr: Commands, tmp_path: Path, numbers: Path) -> None:
    job = write_job(
        tmp_path / "job.py",
        *SPLIT,
        "def reduce_fn(name, values):",
        "    total = 0.0",
        "    for value in values:",
        "        total = total / 3 + value",
        "    yield name, total",
    )
    flags = ("-m", 5, "-r", 3)
    mr.succeed("run", job, numbers, "-o", tmp_path / "two", *flags, "-j", 2)
    mr.succeed("run", job, numbers, "-o", tmp_path / "one", *flags, "-j", 1)
    mr.succeed("run", job, numbers, "-o", tmp_path / "small", *flags, env=small_spills(mr))
    same_parts(tmp_path / "two", tmp_path / "one")
    same_parts(tmp_path / "two", tmp_path / "small")
    totals = {}
    for name, values in grouped(numbers).items():
        totals[name] = 0.0
        for value in values:
            totals[name] = totals[name] / 3 + value
    assert sorted(lines(tmp_path / "two")) == sorted(f"{name}\t{total}" for name, total in totals.items())


def test_hooks_counters_and_parameters(mr: Commands, tmp_path: Path, numbers: Path) -> None:
    job = write_job(
        tmp_path / "job.py",
        "import mr",
        "seen = None",
        "JOB = mr.Job(name='hooks', maps=3, reduces=2, params={'floor': '0', 'word': 'total'})",
        "def map_init():",
        "    global seen",
        "    seen = 0",
        "def map_fn(offset, line):",
        "    global seen",
        "    seen += 1",
        "    mr.counter('lines').add(1)",
        "    if int(line.split()[1]) >= int(mr.param('floor')):",
        "        yield line.split()[0], 1",
        "def map_final():",
        "    yield mr.param('word'), seen",
        "def reduce_fn(key, values):",
        "    yield key, sum(values)",
        "def reduce_final():",
        "    mr.counter('reduces').add(1)",
    )
    output = tmp_path / "output"
    mr.succeed("run", job, numbers, "-o", output, "--param", "floor=10")
    kept = {name: sum(v >= 10 for v in values) for name, values in grouped(numbers).items()}
    expected = {f"{name}\t{count}" for name, count in kept.items() if count} | {"total\t2000"}
    assert sorted(lines(output)) == sorted(expected)
    manifest = json.loads((output / "_SUCCESS").read_text())
    assert manifest["counters"] == {"lines": 2000, "reduces": 2}
    assert manifest["name"] == "hooks"
    assert manifest["rows"] == len(expected)
    assert [Path(p["path"]).name for p in manifest["parts"]] == ["part-00000", "part-00001"]


def test_partition_fn_decides_the_part(mr: Commands, tmp_path: Path, numbers: Path) -> None:
    job = write_job(
        tmp_path / "job.py",
        *SPLIT,
        "def partition_fn(name, partitions):",
        "    return int(name[1:]) % partitions",
        "def reduce_fn(name, values):",
        "    yield name, len(list(values))",
    )
    output = tmp_path / "output"
    mr.succeed("run", job, numbers, "-o", output, "-m", 3, "-r", 4)
    expected = grouped(numbers)
    for number, part in enumerate(part_files(output)):
        names = [line.split("\t")[0] for line in part.read_text().splitlines()]
        assert names == sorted(name for name in expected if int(name[1:]) % 4 == number)


#: One key of each kind and some more, in the order in which a part holds them.
KEYS: list[Any] = [
    *(None, False, True),
    *(-(2**70), -1, 0, 1, 2**70, -1.5, 0.0, 1.0),
    *("", "a", "\u00e9", "\U00010348", b"", b"a"),
    *((), (1, "b"), ("a",)),
]


def test_keys_of_every_kind_in_their_order(mr: Commands, tmp_path: Path, numbers: Path) -> None:
    job = write_job(
        tmp_path / "job.py",
        f"KEYS = {KEYS!r}",
        "def map_fn(offset, line):",
        "    yield KEYS[offset % len(KEYS)], {'value': (line, None)}",
        "def reduce_fn(key, values):",
        "    yield repr(key), sum(1 for value in values if value['value'][1] is None)",
    )
    output = tmp_path / "output"
    mr.succeed("run", job, numbers, "-o", output, "-m", 3, "-r", 1, env=small_spills(mr))
    offset, counts = 0, Counter[int]()
    for line in numbers.read_bytes().splitlines(keepends=True):
        counts[offset % len(KEYS)] += 1
        offset += len(line)
    assert lines(output) == [f"{key!r}\t{counts[index]}" for index, key in enumerate(KEYS) if counts[index]]


def test_standard_input(mr: Commands, tmp_path: Path) -> None:
    source = tmp_path / "words.txt"
    source.write_text("to be or not to be\n" * 1000)
    output = tmp_path / "output"
    with source.open("rb") as stream:
        mr.succeed("run", WORDS, "-", "-o", output, "-r", 1, stdin=stream)
    assert lines(output) == ["be\t2000", "not\t1000", "or\t1000", "to\t2000"]


def test_compressed_inputs(mr: Commands, tmp_path: Path) -> None:
    content = b"one two\nthree\n" * 500
    source = tmp_path / "source"
    source.mkdir()
    for name, pack in {
        "a.gz": gzip.compress,
        "b.bz2": bz2.compress,
        "c.xz": lzma.compress,
        "d.zst": zstandard.compress,
        "e.txt": bytes,
    }.items():
        (source / name).write_bytes(pack(content))
    (source / "members.gz").write_bytes(gzip.compress(content) + gzip.compress(content))
    output = tmp_path / "output"
    mr.succeed("run", WORDS, source, "-o", output, "-r", 1)
    assert lines(output) == ["one\t3500", "three\t3500", "two\t3500"]


def test_output_formats(mr: Commands, tmp_path: Path) -> None:
    source = tmp_path / "words.txt"
    source.write_text("b a, b\n")
    for name in ("jsonl", "csv", "parquet", "avro"):
        mr.succeed("run", WORDS, source, "-o", tmp_path / name, "-r", 1, "--output-format", name)
    (jsonl,) = part_files(tmp_path / "jsonl")
    assert [json.loads(line) for line in jsonl.read_text().splitlines()] == [
        {"key": "a,", "value": 1},
        {"key": "b", "value": 2},
    ]
    (csv,) = part_files(tmp_path / "csv")
    assert csv.read_text() == 'key,value\n"a,",1\nb,2\n'
    (table,) = part_files(tmp_path / "parquet")
    assert parquet.read_table(table).to_pydict() == {"key": ["a,", "b"], "value": [1, 2]}
    (container,) = part_files(tmp_path / "avro")
    with container.open("rb") as file:
        assert list(fastavro.reader(file)) == [{"key": "a,", "value": 1}, {"key": "b", "value": 2}]


def test_avro_input(mr: Commands, tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "Sale",
        "fields": [{"name": "shop", "type": "string"}, {"name": "amount", "type": "long"}],
    }
    sales = [{"shop": f"s{number % 7}", "amount": number} for number in range(3000)]
    source = tmp_path / "sales.avro"
    with source.open("wb") as file:
        fastavro.writer(file, schema, sales, codec="deflate", sync_interval=1000)
    job = write_job(
        tmp_path / "job.py",
        "def map_fn(index, sale):",
        "    assert sale['amount'] == index",
        "    yield sale['shop'], sale['amount']",
        "def reduce_fn(shop, amounts):",
        "    yield shop, sum(amounts)",
    )
    mr.succeed("run", job, source, "-o", tmp_path / "out", "-m", 5, "-r", 1, "--input-format", "avro")
    totals = Counter[str]()
    for sale in sales:
        totals[str(sale["shop"])] += int(str(sale["amount"]))
    assert lines(tmp_path / "out") == [f"{shop}\t{total}" for shop, total in sorted(totals.items())]
    source.write_bytes(source.read_bytes()[:-5])
    failed = mr.run("run", job, source, "-o", tmp_path / "again", "--input-format", "avro")
    assert failed.returncode == 1
    assert "sales.avro cannot be read as Avro at byte " in failed.stderr.decode()


def test_surrogate_escapes_come_out_as_the_bytes_that_went_in(mr: Commands, tmp_path: Path) -> None:
    source = tmp_path / "latin.txt"
    source.write_bytes(b"caf\xe9 \xff\xfe caf\xe9\n")
    output = tmp_path / "output"
    mr.succeed("run", WORDS, source, "-o", output, "-r", 1, "--encoding-errors", "surrogateescape")
    (part,) = part_files(output)
    assert sorted(part.read_bytes().splitlines()) == sorted([b"caf\xe9\t2", b"\xff\xfe\t1"])


def test_no_records_at_all(mr: Commands, tmp_path: Path) -> None:
    source = tmp_path / "empty.txt"
    source.touch()
    output = tmp_path / "output"
    mr.succeed("run", WORDS, source, "-o", output, "-r", 2)
    assert [part.read_bytes() for part in part_files(output)] == [b"", b""]
    assert json.loads((output / "_SUCCESS").read_text())["rows"] == 0


def test_what_a_job_prints_is_shown_on_stderr_behind_its_task(
    mr: Commands, tmp_path: Path, numbers: Path
) -> None:
    source = (
        "def map_init():",
        "    print('\\x1b[31mbegin')",
        *SPLIT,
        "def reduce_fn(name, values):",
        "    if name == 'n1':",
        "        print('one has', len(list(values)))",
    )
    job = write_job(tmp_path / "job.py", *source)
    done = mr.succeed("run", job, numbers, "-o", tmp_path / "out", "-m", 2, "-r", 1, "--quiet")
    told = sorted(done.stderr.decode().splitlines())
    assert told == [
        "map-00000 | \\u001b[31mbegin",
        "map-00001 | \\u001b[31mbegin",
        f"reduce-00000 | one has {len(grouped(numbers)['n1'])}",
    ]
    assert done.stdout == b""


def test_a_failure_on_standard_input_names_it_as_its_user_did(mr: Commands, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job.py", "def map_fn(offset, line):", "    1 / 0")
    flags = ("-o", tmp_path / "out", "--max-attempts", 1)
    with job.open() as text:
        done = mr.run("run", job, "-", *flags, stdin=text)
    assert done.returncode == 1
    told = done.stderr.decode()
    assert "record     -:0" in told and "mr run job.py - -o reproduce-map-00000" in told


def test_standard_input_may_be_read_whatever_the_roots_are(mr: Commands, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    job = write_job(tmp_path / "job.py", "def map_fn(offset, line):", "    yield offset, line")
    bounded = mr.environment | {"MR_INPUT_ROOTS": str(tmp_path / "in")}
    refused = mr.run("run", job, job, "-o", tmp_path / "no", env=bounded)
    assert refused.returncode == 2 and b"outside of input_roots" in refused.stderr
    with job.open() as text:
        done = mr.run("run", job, "-", "-o", tmp_path / "out", env=bounded, stdin=text)
    assert done.returncode == 0, done.stderr
    assert len(lines(tmp_path / "out")) == 2
