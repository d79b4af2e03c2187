"""Job files are loaded as modules of their own and refused with one line that says what to correct."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mr.errors import BadJob
from mr.workers.usercode import functions
from mr.workers.usercode.functions import UserCode, as_iterable, load
from mr.workers.usercode.loader import BundleFinder, module_name

MAP = "def map_fn(key, value):\n    yield value, 1\n"
REDUCE = "def reduce_fn(key, values):\n    yield key, sum(values)\n"


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    """Take the modules that a test loaded out of this process again."""
    finders, modules = list(sys.meta_path), set(sys.modules)
    yield
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        if any(
            name == stem or name.startswith("job_") for stem in ("wordcount", "helpers", "package", "job")
        ):
            del sys.modules[name]


def loaded(directory: Path, source: str, entry: str = "wordcount.py") -> UserCode:
    """Write a job file and load it."""
    directory.mkdir(exist_ok=True)
    (directory / entry).write_text(source)
    return load(directory, entry)


def refusal(directory: Path, source: str) -> str:
    """Load a job file that must be refused; give the one line."""
    with pytest.raises(BadJob) as caught:
        loaded(directory, source)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_functions_found(tmp_path: Path) -> None:
    code = loaded(tmp_path, MAP + REDUCE + "combine_fn = reduce_fn\ndef map_init(): return None\n")
    assert tuple(code.functions) == ("map_fn", "reduce_fn", "combine_fn", "map_init")
    assert code.get("partition_fn") is None
    assert list(code.get("reduce_fn")("a", iter([1, 2]))) == [("a", 3)]


def test_module_is_named_after_the_file_so_that_its_classes_pickle(tmp_path: Path) -> None:
    code = loaded(
        tmp_path,
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n" + MAP,
    )
    assert code.module.__name__ == "wordcount"
    point = code.module.Point(3)
    assert pickle.loads(pickle.dumps(point)) == point


@pytest.mark.parametrize("entry", ["json.py", "workers.py", "mr.py", "pytest.py", "random.py"])
def test_job_file_named_as_another_module_shadows_nothing(tmp_path: Path, entry: str) -> None:
    stem = entry.removesuffix(".py")
    __import__(stem)
    before = sys.modules[stem]
    code = loaded(tmp_path, MAP, entry)
    assert code.module.__name__ == module_name(entry) == f"job_{stem}"
    assert sys.modules[stem] is before


def test_file_name_that_is_no_identifier(tmp_path: Path) -> None:
    assert loaded(tmp_path, MAP, "word-count.v2.py").module.__name__ == "word-count_v2"
    assert list(load(tmp_path, "word-count.v2.py").get("map_fn")(0, "a")) == [("a", 1)]


def test_modules_beside_the_job_file_belong_to_it_alone(tmp_path: Path) -> None:
    for name, word in (("one", "first"), ("two", "second")):
        directory = tmp_path / name
        (directory / "package").mkdir(parents=True)
        (directory / "helpers.py").write_text(f"WORD = {word!r}\n")
        (directory / "package" / "inner.py").write_text(f"WORD = {word!r}\n")
        code = loaded(
            directory,
            "import helpers\nfrom package import inner\n"
            "def map_fn(key, value):\n    yield helpers.WORD, inner.WORD\n",
        )
        assert list(code.get("map_fn")(0, "")) == [(word, word)]
    assert sum(isinstance(finder, BundleFinder) for finder in sys.meta_path) == 1


def test_bundled_module_never_takes_the_name_of_a_standard_one(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('shadowed')\n")
    code = loaded(tmp_path, "import queue\n" + MAP + "found = queue.Queue\n")
    assert code.module.found is not None


def test_nothing_is_written_beside_the_code(tmp_path: Path) -> None:
    loaded(tmp_path, MAP)
    assert [path.name for path in tmp_path.iterdir()] == ["wordcount.py"]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("def map_fn(key, value:\n", ("wordcount.py, line 1", "SyntaxError", "never closed")),
        ("x = 1\n", ("has no map_fn", "map_fn(key, value)")),
        ("def mapper_fn(k, v): ...\n", ("has no map_fn", "mapper_fn", "rename it to map_fn")),
        ("def map_func(k, v): ...\n", ("has no map_fn", "map_func", "rename it to map_fn")),
        ("def map_fm(k, v): ...\n", ("has no map_fn", "map_fm", "rename it to map_fn")),
        (MAP + "def reducer(k, v): ...\n", ("has reducer but no reduce_fn", "_reducer")),
        (MAP + REDUCE + "def combiner(k, v): ...\n", ("has combiner but no combine_fn",)),
        (MAP + REDUCE + "def partition_func(k, n): ...\n", ("partition_func", "partition_fn")),
        (MAP + REDUCE + "def map_finall(): ...\n", ("map_finall", "map_final")),
        ("map_fn = 3\n", ("map_fn is of type int", "map_fn(key, value)")),
        ("def map_fn(line): ...\n", ("map_fn must take 2 parameters", "map_fn(key, value)")),
        ("def map_fn(a, b, c): ...\n", ("map_fn must take 2 parameters", "'c'")),
        ("def map_batch(a, b): ...\n", ("map_batch must take 1 parameter:",)),
        (MAP + "def map_init(x): ...\n", ("map_init must take no parameters",)),
        (MAP + "def map_init():\n    yield 1\n", ("map_init yields",)),
        (MAP + REDUCE + "def partition_fn(k, n):\n    yield 1\n", ("partition_fn yields",)),
        ("async def map_fn(k, v): ...\n", ("map_fn is async",)),
        (MAP + "def map_batch(b): ...\n", ("both map_fn and map_batch",)),
        (MAP + "def combine_fn(k, v): ...\n", ("combine_fn but no reduce_fn",)),
        (MAP + "def reduce_final(): ...\n", ("reduce_final but no reduce_fn",)),
        (MAP + "JOB = {'reduces': 2}\n", ("JOB is of type dict", "mr.Job")),
        ("import mr\n" + MAP + "job = mr.Job()\n", ("is called job", "must be called JOB")),
        ("import mr\n" + MAP + "JOB = mr.Job(reduces=2)\n", ("no reduce_fn", "reduces=2")),
        ("import mr\n" + MAP + "JOB = mr.Job(reduce=2)\n", ("line 4", "'reduce'", "did you mean reduces?")),
        ("import mr\n" + MAP + "JOB = mr.Job(maps='x')\n", ("line 4", "maps", "'x'", "a whole number")),
        ("import mr\n" + MAP + "JOB = mr.Job(params={'a': 1})\n", ("params", "text")),
        (
            "import mr\n" + MAP + "reduce_fn = mr.agg.top_k\n",
            ("reduce_fn is mr.agg.top_k", "call it: mr.agg.top_k(...)"),
        ),
        (
            "import mr\n" + MAP + "reduce_fn = mr.agg.top_k(0)\n",
            ("wordcount.py, line", "mr.agg.top_k(0): k must be"),
        ),
        ("import mr\n" + MAP + REDUCE + "combine_fn = mr.agg.top_k(3)\n", ("mr.agg.top_k(3)", "mr.agg.sum")),
        (
            "import mr\n" + MAP + "reduce_fn = mr.agg.top_k(3)\ncombine_fn = mr.agg.top_k(2)\n",
            ("mr.agg.top_k(3) combines by itself",),
        ),
        ("import mr\nmap_fn = mr.agg.sum\n", ("map_fn is mr.agg.sum", "only be reduce_fn")),
        (
            "import mr\n" + MAP + "reduce_fn = mr.agg.mean\ndef combine_fn(k, v): ...\n",
            ("combines by itself",),
        ),
        ("import mr\n" + MAP + REDUCE + "combine_fn = mr.agg.mean\n", ("mr.agg.mean", "mr.agg.sum")),
        (MAP + "\n1 / 0\n", ("wordcount.py, line 4: ZeroDivisionError",)),
        ("import sys\nsys.exit(0)\n", ("line 2", "SystemExit", "__main__")),
        ("import no_such_module\n" + MAP, ("line 1", "no_such_module", "--include no_such_module.py")),
        ("x = 'a\0b'\n", ("wordcount.py", "null bytes")),
    ],
)
def test_refusals(tmp_path: Path, source: str, parts: tuple[str, ...]) -> None:
    text = refusal(tmp_path, source)
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    "source",
    [
        MAP + "from functools import reduce\n",
        MAP + REDUCE + "def map_file(path): ...\ndef reduce_all(x): ...\n",
        MAP + "def _reducer(k, v): ...\n",
        "class Mapper:\n    def __call__(self, key, value):\n        return []\nmap_fn = Mapper()\n",
        "def map_fn(*arguments): ...\n",
        "def map_fn(key, value, extra=3): ...\n",
        "import functools\nmap_fn = functools.partial(lambda a, k, v: [(k, v)], 1)\n",
        "map_fn = zip\n",
        "import mr\n" + MAP + "reduce_fn = combine_fn = mr.agg.sum\n",
        "import mr\n" + MAP + "reduce_fn = mr.agg.top_k(3)\ncombine_fn = mr.agg.top_k(3)\n",
        "import mr\n" + MAP + REDUCE + "combine_fn = mr.agg.sum\n",
        "import mr\n" + MAP + "JOB = mr.Job(reduces=0, split_size='4MiB', task_timeout='10m')\n",
    ],
)
def test_accepted(tmp_path: Path, source: str) -> None:
    assert loaded(tmp_path, source).get("map_fn") is not None


def test_error_in_a_bundled_module_names_that_module(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("\n\nx = [][1]\n")
    assert refusal(tmp_path, "import helpers\n" + MAP).startswith("helpers.py, line 3: IndexError")
    (tmp_path / "helpers.py").write_text("def f(:\n")
    assert refusal(tmp_path, "import helpers\n" + MAP).startswith("helpers.py, line 1: SyntaxError")


def test_failed_import_leaves_no_module(tmp_path: Path) -> None:
    refusal(tmp_path, MAP + "1 / 0\n")
    assert "wordcount" not in sys.modules


def test_keyboard_interrupt_is_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        loaded(tmp_path, "raise KeyboardInterrupt\n")


def test_missing_entry(tmp_path: Path) -> None:
    with pytest.raises(BadJob, match=r"gone\.py is not in the bundle"):
        load(tmp_path, "gone.py")


def test_as_iterable_keeps_generators_and_mends_the_rest() -> None:
    def generator(key: int, value: int) -> Iterator[int]:
        yield key

    def nothing(key: int, value: int) -> None:
        return None

    def stops(key: int, value: int) -> int:
        return next(iter(()))

    assert as_iterable(generator) is generator
    assert list(as_iterable(nothing)(1, 2)) == []
    assert as_iterable(lambda key, value: [key])(1, 2) == [1]
    with pytest.raises(RuntimeError, match="StopIteration"):
        as_iterable(stops)(1, 2)


def test_names_of_functions_are_those_the_manifest_may_hold() -> None:
    assert set(functions.FUNCTIONS) >= {"map_fn", "map_batch", "reduce_fn", "combine_fn", "partition_fn"}


# --- mr.param, mr.counter, mr.input_path
