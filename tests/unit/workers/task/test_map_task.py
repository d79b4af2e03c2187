"""Map attempts: pairs out of user functions of every shape, and what an attempt reports."""

import gc
import textwrap
from pathlib import Path
from typing import Any

import pytest

import mr
from mr.protocol.records import MapOutput, PartOutput
from mr.settings import Settings
from mr.workers.shuffle.segment_index import find_segment
from tests.support.attempts import Workbench

LINES = "first\nsecond\nthird\n"  # at bytes 0, 6 and 13


def run_map(directory: Path, source: str, text: str = LINES, **changes: Any) -> list[str]:
    """Run a map-only job over one file; returns its output lines."""
    bench = Workbench(directory, textwrap.dedent(source), reduces=0, **changes)
    bench.run([bench.write_input("in.txt", text)])
    return bench.lines()


# --- shapes of map functions


@pytest.mark.parametrize(
    "source",
    [
        "def map_fn(key, line):\n    yield key, line\n",
        "def map_fn(key, line):\n    return [(key, line)]\n",
        "def map_fn(key, line):\n    return ((key, line),)\n",
        "def map_fn(key, line):\n    return iter([[key, line]])\n",
        "def map_fn(key, line):\n    return {key: line}.items()\n",
        "map_fn = lambda key, line: zip([key], [line])\n",
        "class Mapper:\n    def __call__(self, key, line):\n        yield key, line\nmap_fn = Mapper()\n",
        "from collections import namedtuple\nPair = namedtuple('Pair', 'a b')\n"
        "def map_fn(key, line):\n    yield Pair(key, line)\n",
    ],
)
def test_shapes(tmp_path: Path, source: str) -> None:
    assert run_map(tmp_path, source) == ["0\tfirst", "6\tsecond", "13\tthird"]


def test_none_and_nothing_are_no_pairs(tmp_path: Path) -> None:
    assert run_map(tmp_path, "def map_fn(key, line):\n    return [(line, 1)] if key else None\n") == [
        "second\t1",
        "third\t1",
    ]


def test_many_pairs_of_one_record_come_in_batches(tmp_path: Path) -> None:
    source = "def map_fn(key, line):\n    for number in range(10_000):\n        yield number, line\n"
    lines = run_map(tmp_path, source, "a\n", settings={"chunk_rows": 1000})
    assert lines == [f"{number}\ta" for number in range(10_000)]


def test_map_batch(tmp_path: Path) -> None:
    source = """
        import pyarrow as pa, pyarrow.compute as pc
        def map_batch(batch):
            upper = pc.utf8_upper(batch.column("value"))
            one = pa.RecordBatch.from_arrays([batch.column("key"), upper], names=["key", "value"])
            yield one
            yield pa.Table.from_batches([one.slice(0, 1)])
            yield pa.table({"key": pa.chunked_array([[1], [2]]), "value": pa.chunked_array([["x"], ["y"]])})
            yield one.slice(0, 0)
    """
    assert run_map(tmp_path, source) == ["0\tFIRST", "6\tSECOND", "13\tTHIRD", "0\tFIRST", "1\tx", "2\ty"]


def test_map_batch_that_gives_nothing(tmp_path: Path) -> None:
    assert run_map(tmp_path, "def map_batch(batch):\n    return None\n") == []


def test_hooks_run_once_and_the_last_may_give_pairs(tmp_path: Path) -> None:
    source = """
        import mr
        def map_init():
            global total
            total = int(mr.param("start"))
        def map_fn(key, line):
            global total
            total += len(line)
            mr.counter("lines").add()
        def map_final():
            yield "total", total
    """
    bench = Workbench(tmp_path, textwrap.dedent(source), reduces=0, params={"start": "100"})
    splits = bench.plan([bench.write_input("a.txt", LINES), bench.write_input("b.txt", LINES)])
    results = [bench.map(split) for split in splits] + [bench.map(splits[0])]
    for result in results:
        assert isinstance(result.output, PartOutput)
        expected = "total\t116\n" if len(splits) == 2 else "total\t132\n"
        assert bench.part_text(result.output) == expected
        assert result.stats.counters == {"lines": 3 if len(splits) == 2 else 6}


def test_final_hook_without_pairs(tmp_path: Path) -> None:
    assert run_map(
        tmp_path, "def map_fn(k, v):\n    yield k, v\ndef map_final():\n    print('done')\n", "a\n"
    )


def test_input_path_is_that_of_the_record(tmp_path: Path) -> None:
    source = (
        "import mr\nfrom pathlib import Path\ndef map_fn(k, v):\n    yield Path(mr.input_path()).name, v\n"
    )
    bench = Workbench(tmp_path, source, reduces=0)
    bench.run([bench.write_input(f"{name}.txt", f"{name}1\n{name}2\n") for name in "ab"])
    assert bench.lines() == ["a.txt\ta1", "a.txt\ta2", "b.txt\tb1", "b.txt\tb2"]


def test_module_state_lives_between_tasks_of_one_job(tmp_path: Path) -> None:
    source = "import mr\nimport random\nTOKEN = random.random()\ndef map_fn(k, v):\n    yield TOKEN, v\n"
    bench = Workbench(tmp_path, source, reduces=0)
    bench.run([bench.write_input("a.txt", "1\n2\n")], split_bytes=2)
    assert len({line.split("\t")[0] for line in bench.lines()}) == 1


# --- what an attempt reports


def test_stats_and_progress(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "def map_fn(k, v):\n    yield v, 1\n    yield v, 2\n", reduces=0)
    (result,) = bench.run([bench.write_input("in.txt", LINES)])
    stats = result.stats
    assert (stats.records_in, stats.records_out, stats.bytes_in) == (3, 6, len(LINES))
    assert stats.bytes_out == len(bench.parts()["part-00000"])
    assert stats.wall_seconds > 0 and stats.cpu_seconds > 0 and stats.peak_memory_bytes > 1 << 20
    assert (bench.look().share, bench.look().records, bench.look().phase) == (1.0, 3, "write")


def test_progress_inside_a_chunk_is_by_record(tmp_path: Path) -> None:
    source = (
        "from tests.support.attempts import look\n"
        "def map_init():\n    look()\n"
        "def map_fn(k, v):\n    look()\n    yield v, 1\n    look()\n"
        "def map_final():\n    look()\n"
    )
    bench = Workbench(tmp_path, source, reduces=0)
    path = bench.write_input("in.txt", "a\nb\n")
    bench.run([path])
    assert [(seen.phase, seen.share, seen.records, seen.record) for seen in bench.seen] == [
        ("map", 0.0, 0, ""),
        *2 * [("map", 0.0, 0, f"{path}:0")],
        *2 * [("map", 0.5, 1, f"{path}:2")],
        ("map", 1.0, 2, ""),
    ]


def test_the_batch_at_work_is_named(tmp_path: Path) -> None:
    source = "from tests.support.attempts import look\ndef map_batch(batch):\n    look()\n    return batch\n"
    bench = Workbench(tmp_path, source, reduces=0)
    first, second = bench.write_input("1.txt", "a\nb\nc\n"), bench.write_input("2.txt", "d\n")
    bench.run([first, second])
    seen = {(progress.records, progress.record) for progress in bench.seen}
    assert (0, f"{first}:0 (to 4, a batch of 3 records)") in seen
    assert seen & {(0, f"{second}:0"), (3, f"{second}:0")}


def test_segments_of_a_job_with_reducers(tmp_path: Path) -> None:
    source = "def map_fn(k, v):\n    yield v, k\ndef reduce_fn(k, vs):\n    yield k, list(vs)\n"
    bench = Workbench(tmp_path, source, reduces=3, settings={"spill_rows": 2})
    (split,) = bench.plan([bench.write_input("in.txt", LINES * 5)])
    result = bench.map(split)
    assert isinstance(result.output, MapOutput)
    assert (result.output.worker, result.output.host, result.output.attempt.number) == ("w1", "here", 1)
    assert result.stats.records_out == 15
    segments = [find_segment(Path(result.output.path), partition) for partition in range(3)]
    assert result.stats.bytes_out == sum(segment.bytes for segment in segments)


def test_garbage_collector_is_left_as_it_was(tmp_path: Path) -> None:
    before = gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()
    run_map(tmp_path, "def map_fn(k, v):\n    yield v, 1\n")
    assert (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()) == before


# --- batches


def test_counter_outside_a_task_does_nothing() -> None:
    mr.counter("nowhere").add()


def test_the_settings_of_a_worker_do_not_change_how_floats_are_added(tmp_path: Path) -> None:
    source = "import mr\n\ndef map_fn(k, v):\n    yield 'all', float(v)\n\nreduce_fn = mr.agg.sum\n"
    text = "".join(f"{(-1) ** n * 1.1**n}\n" for n in range(300))
    sums = []
    for name, settings in {
        "common": {},
        "own": {"chunk_rows": 7, "spill_rows": 10, "group_bytes": 1, "read_bytes": 100},
    }.items():
        bench = Workbench(tmp_path / name, source)
        bench.settings = Settings(**settings)
        bench.run([bench.write_input("in.txt", text)])
        sums += bench.lines()
    assert sums[0] == sums[1]


def test_buffers_stay_within_the_jobs_memory_limit(tmp_path: Path) -> None:
    source = "def map_fn(k, v):\n    yield v, 1\n\ndef reduce_fn(k, vs):\n    yield k, sum(vs)\n"
    bench = Workbench(tmp_path, source, task_memory=64 << 10)
    path = bench.write_input("in.txt", "".join(f"word{n}\n" for n in range(10_000)))
    (split,) = bench.plan([path])
    assert bench.map(split).stats.spills > 1
