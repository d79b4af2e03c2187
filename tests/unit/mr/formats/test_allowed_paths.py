"""Where requests may read and write, once links are resolved."""

from pathlib import Path

import pytest

from mr.coordinator.intake import plan_job
from mr.errors import BadInput, BadJob
from mr.formats.allowed_paths import AllowedPaths
from mr.protocol.failures import FailureKind
from mr.protocol.ids import JobId
from mr.protocol.jobs import JobRequest
from mr.settings import Settings
from tests.support.attempts import Workbench
from tests.support.specs import make_manifest

MANIFEST = make_manifest()
MAP = "def map_fn(key, line):\n    yield line, 1\n"


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """`in` with a file and links out of it, `secret` beside it, `out` for outputs."""
    for name in ("in", "secret", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "a.txt").write_text("a\n")
    (tmp_path / "secret" / "key").write_text("s\n")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret" / "key")
    (tmp_path / "in" / "dir").symlink_to(tmp_path / "secret")
    (tmp_path / "out" / "away").symlink_to(tmp_path / "secret")
    return tmp_path


def settings(room: Path) -> Settings:
    return Settings(input_roots=(str(room / "in"),), output_roots=(str(room / "out"),))


def plan(room: Path, inputs: list[str], output: str = "out/x", options: Settings | None = None) -> None:
    request = JobRequest(
        version=1,
        job=MANIFEST.code_id,
        inputs=[text if "://" in text else str(room / text) for text in inputs],
        output=output if "://" in output else str(room / output),
    )
    plan_job(request, MANIFEST, options or settings(room), JobId("j"), 0.0)


def test_inside_the_roots_a_job_is_planned(room: Path) -> None:
    plan(room, ["in/a.txt", "in/*.txt", f"file://{room}/in/a.txt"])


@pytest.mark.parametrize(
    "name",
    [
        "secret/key",
        "secret/*",
        "in/../secret/key",
        "in/link",
        "in/l*",
        "in",
        "in/dir/key",
        "in/dir/*",
        "in/*/../../secret/key",
    ],
)
def test_an_input_outside_the_roots_is_refused(room: Path, name: str) -> None:
    with pytest.raises(BadInput, match="outside of input_roots"):
        plan(room, [name])
    assert not list((room / "out").glob("x*"))


@pytest.mark.parametrize("name", ["secret/x", "out/../x", "out/away/x", "memory://out"])
def test_an_output_outside_the_roots_is_refused(room: Path, name: str) -> None:
    with pytest.raises(BadJob, match="outside of output_roots"):
        plan(room, ["in/a.txt"], name)
    assert not (room / "secret" / "x").exists()


def test_a_root_may_itself_be_a_link(room: Path) -> None:
    (room / "door").symlink_to(room / "in")
    options = Settings(input_roots=(str(room / "door"),))
    plan(room, ["in/a.txt", "door/a.txt"], options=options)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://host/etc/passwd",
        "simplecache::s3://bucket/x",
        "zip://x::/etc/shadow.zip",
        "zip://x::file:///etc/shadow.zip",
        "s3://bucket/x::ssh://host/y",
    ],
)
def test_a_scheme_that_is_not_allowed_is_refused_before_anything_is_opened(room: Path, url: str) -> None:
    with pytest.raises(BadInput, match="url_schemes"):
        plan(room, [url], options=Settings())
    with pytest.raises(BadJob, match="url_schemes"):
        plan(room, ["in/a.txt"], url, options=Settings())


def test_roots_may_be_urls() -> None:
    places = AllowedPaths(Settings(input_roots=("s3://bucket/data/",)))
    places.check_pattern("s3://bucket/data")
    places.check_inputs(["s3://bucket/data/x"])
    for outside in ("s3://bucket/database", "s3://other/x", "s3://bucket/data/../x", "/data/x"):
        with pytest.raises(BadInput, match="outside of input_roots"):
            places.check_pattern(outside)


def test_a_worker_checks_again_by_its_own_settings(room: Path) -> None:
    own = {"input_roots": (str(room / "in"),), "output_roots": (str(room / "out"),)}
    bench = Workbench(room / "bench", MAP, settings=own, reduces=0)
    (split,) = bench.plan([str(room / "secret" / "key")])
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.INPUT_UNREADABLE
    assert "worker w1" in failure.message and "outside of input_roots" in failure.message
    (split,) = bench.plan([str(room / "in" / "a.txt")])
    failure = bench.map_failure(split)
    assert failure.kind is FailureKind.OUTPUT_UNWRITABLE
    assert "outside of output_roots" in failure.message
