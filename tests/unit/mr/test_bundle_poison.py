"""A bundle made to do harm is refused: where it is built, taken in and unpacked."""

import tracemalloc
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mr import bundle
from mr.bundle import build_bundle, check_bundle, content_id, unpack_bundle
from mr.errors import BadJob, BadMessage
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import CodeId
from mr.protocol.jobs import JobSpec
from mr.workers.usercode.loader import import_job_file
from tests.support.specs import make_manifest, make_spec
from tests.support.zips import POISON, bomb, with_job

MIB = 1024 * 1024
GOOD = with_job(("lib/helper.py", b"x = 1\n" * 50, 0o100644))


@pytest.fixture(autouse=True)
def _quiet_zipfile() -> None:
    warnings.filterwarnings("ignore", "Duplicate name", UserWarning)


@pytest.mark.parametrize("name", POISON)
def test_poison_is_refused_before_anything_is_unpacked(name: str, tmp_path: Path) -> None:
    data = POISON[name]()
    with pytest.raises(BadJob):
        check_bundle(data, content_id(data), "job.py")
    if name != "another entry":
        with pytest.raises(BadJob):
            unpack_bundle(data, tmp_path / "code")
    assert not (tmp_path / "code").exists() or name == "another entry"
    assert not list(tmp_path.glob("**/evil.py"))


def test_other_bytes_than_the_ids_are_refused() -> None:
    check_bundle(GOOD, content_id(GOOD), "job.py")
    with pytest.raises(BadJob, match="other bytes"):
        check_bundle(GOOD, CodeId("sha256:" + "0" * 64), "job.py")


def test_unpacking_takes_little_memory(tmp_path: Path) -> None:
    data = bomb(64 * MIB)
    tracemalloc.start()
    try:
        unpack_bundle(data, tmp_path / "code")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "code" / "zeros").stat().st_size == 64 * MIB
    assert peak < 8 * MIB


def test_what_no_worker_would_unpack_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.py").write_text("def map_fn(k, v): ...")
    (tmp_path / "data").write_bytes(bytes(1000))
    monkeypatch.setattr(bundle, "MAX_UNPACKED_BYTES", 500)
    with pytest.raises(BadJob, match="unpacks to 1021 bytes, over 500"):
        build_bundle(tmp_path / "job.py", [tmp_path / "data"])


@pytest.mark.parametrize("entry", ["/etc/job.py", "../job.py", "a/job.py", "job", "", "job.py\n", "a\0.py"])
def test_an_entry_names_nothing_but_a_file_of_the_bundle(entry: str, tmp_path: Path) -> None:
    manifest = make_manifest(entry=entry)
    with pytest.raises(BadMessage, match="entry"):
        unpack(pack(make_spec(code=manifest)), JobSpec)
    with pytest.raises(BadJob, match="is not in the bundle"):
        check_bundle(GOOD, content_id(GOOD), entry)


def test_a_job_file_beside_its_bundle_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    outside = tmp_path / "evil.py"
    outside.write_text("raise SystemExit('imported')")
    (tmp_path / "code" / "link.py").symlink_to(outside)
    for entry in ("../evil.py", str(outside), "link.py"):
        with pytest.raises(BadJob, match="is not in the bundle"):
            import_job_file(tmp_path / "code", entry)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), cut=st.integers(0, len(GOOD)))
def test_a_damaged_bundle_is_bad_or_as_good_as_before(at: int, value: int, cut: int) -> None:
    """Whatever byte is wrong, and wherever it ends: an answer, never another error."""
    for data in (GOOD[:at] + bytes([value]) + GOOD[at + 1 :], GOOD[:cut]):
        try:
            check_bundle(data, content_id(data), "job.py")
        except BadJob:
            continue
