"""One line and one module make a format; nothing else in the product names one."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from mr.coordinator.intake import plan_job
from mr.errors import BadInput, BadJob
from mr.formats.registry import input_module, output_module
from mr.protocol.failures import FailureKind
from mr.protocol.formats import INPUT_FORMATS, OUTPUT_FORMATS, InputFormatName, OutputFormatName
from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, JobRequest
from mr.protocol.options import JobOptions
from mr.settings import Settings
from tests.support.attempts import Workbench

ROOT = Path(__file__).parents[4]


def test_the_types_of_the_options_list_the_formats() -> None:
    assert get_args(InputFormatName) == tuple(INPUT_FORMATS)
    assert get_args(OutputFormatName) == tuple(OUTPUT_FORMATS)


@pytest.mark.parametrize("name", INPUT_FORMATS)
def test_every_input_format_has_its_module(name: str) -> None:
    module = input_module(name)
    assert callable(module.read) and callable(module.read_batches)


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_every_output_format_has_its_module(name: str) -> None:
    assert callable(output_module(name).Writer)


def test_output_formats_differ_by_their_suffixes() -> None:
    """`mr results` recognises a part by its suffix, and shows what is not text by its input format."""
    suffixes = [format.suffix for format in OUTPUT_FORMATS.values()]
    assert len(set(suffixes)) == len(suffixes)
    assert {name for name, format in OUTPUT_FORMATS.items() if not format.lines} <= set(INPUT_FORMATS)


def test_the_command_line_imports_no_format() -> None:
    code = (
        "import sys, mr.cli\n"
        "try: mr.cli.main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'pyarrow', 'fastavro', 'numpy', 'fsspec'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.strip() == "[]"


WHAT = r"csv needs the package no_such_package, which is not installed: pip install 'mrmq\[csv\]'"


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Format `csv` needs a package that is not installed, on the sides that the parameter names."""
    tables: dict[str, dict[str, Any]] = {"input": INPUT_FORMATS, "output": OUTPUT_FORMATS}
    for side in request.param:
        lacking = replace(tables[side]["csv"], package="no_such_package")
        monkeypatch.setitem(tables[side], "csv", lacking)


@pytest.mark.parametrize("missing", [["input"], ["output"]], indirect=True)
@pytest.mark.usefixtures("missing")
def test_a_job_whose_format_lacks_its_package_is_refused(tmp_path: Path) -> None:
    manifest = CodeManifest("sha256:" + "a" * 64, "job.py", ("map_fn",), None, None, JobOptions())
    (tmp_path / "in").touch()
    request = JobRequest(
        version=1,
        job=manifest.code_id,
        inputs=[str(tmp_path / "in")],
        output=str(tmp_path / "out"),
        input_format="csv",
        output_format="csv",
    )
    with pytest.raises((BadInput, BadJob), match=f"^the (in|out)put format {WHAT}$"):
        plan_job(request, manifest, Settings(), JobId("j"), 0.0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("missing", "kind"),
    [(["input"], FailureKind.INPUT_UNREADABLE), (["output"], FailureKind.OUTPUT_UNWRITABLE)],
    indirect=["missing"],
)
@pytest.mark.usefixtures("missing")
def test_a_worker_without_the_package_says_so(tmp_path: Path, kind: FailureKind) -> None:
    bench = Workbench(
        tmp_path,
        "def map_fn(key, row):\n    yield key, row\n",
        reduces=0,
        input_format="csv",
        output_format="csv",
    )
    (tmp_path / "in.csv").write_text("a\n1\n")
    (split,) = bench.plan([str(tmp_path / "in.csv")])
    failure = bench.map_failure(split)
    assert failure.kind is kind
    assert re.fullmatch(rf"worker w1: the (in|out)put format {WHAT}", failure.message)
