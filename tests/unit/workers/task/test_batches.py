"""Results of `map_batch`: chunks of tables, scalars of NumPy, nothing."""

import textwrap
from pathlib import Path

import pytest

from mr.protocol.formats import OUTPUT_FORMATS
from mr.workers.task import batches
from tests.support.attempts import Workbench

LINES = "first\nsecond\nthird\n"  # at bytes 0, 6 and 13


@pytest.mark.parametrize("output_format", [*OUTPUT_FORMATS])
@pytest.mark.parametrize("empty", ["pa.table({'key': [], 'value': []})", "batch.slice(0, 0)", "None", "[]"])
def test_map_batch_that_gives_no_rows(tmp_path: Path, output_format: str, empty: str) -> None:
    source = f"import pyarrow as pa\ndef map_batch(batch):\n    return {empty}\n"
    bench = Workbench(tmp_path, source, reduces=0, output_format=output_format)
    (result,) = bench.run([bench.write_input("in.txt", LINES)])
    assert result.stats.records_out == 0


@pytest.mark.parametrize("reduces", [0, 1])
def test_no_chunk_of_a_table_is_lost(tmp_path: Path, reduces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of over 2 GiB of strings stays in several chunks, also when Arrow is told to combine them."""
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 20)
    source = """
        import pyarrow as pa
        def map_batch(batch):
            keys = pa.chunked_array([[1, 2], [3]])
            return pa.table({"key": keys, "value": pa.chunked_array([["a" * 50], ["b", "c"]])})
        def reduce_fn(key, values):
            for value in values:
                yield key, value
    """
    bench = Workbench(tmp_path, textwrap.dedent(source), reduces=reduces)
    bench.run([bench.write_input("in.txt", "one line\n")])
    assert bench.lines() == ["1\t" + "a" * 50, "2\tb", "3\tc"]


@pytest.mark.parametrize("output_format", [*OUTPUT_FORMATS])
@pytest.mark.parametrize(
    "scalar",
    ["float32(0.1)", "float64(1e16)", "int8(-3)", "uint64(7)", "bool_(True)", "str_('ä')", "bytes_(b'b')"],
)
@pytest.mark.parametrize("reduces", [0, 1])
def test_scalars_of_numpy_are_pythons_values_in_every_format(
    tmp_path: Path, output_format: str, scalar: str, reduces: int
) -> None:
    parts = []
    for name, item in {"numpy": f"numpy.{scalar}", "python": f"numpy.{scalar}.item()"}.items():
        source = f"""
            import numpy
            def map_fn(key, line):
                yield {item}, {item}
            def reduce_fn(key, values):
                for value in values:
                    yield {item}, {item}
        """
        source = textwrap.dedent(source)
        bench = Workbench(tmp_path / name, source, reduces=reduces, output_format=output_format)
        bench.run([bench.write_input("in.txt", LINES)])
        parts.append(bench.parts())
    assert parts[0] == parts[1]
