"""The bundle of a job's code: the same files give the same bytes, and it unpacks safely."""

import errno
import io
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mr import bundle
from mr.bundle import build_bundle, content_id, unpack_bundle
from mr.errors import BadJob


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "job.py"
    path.parent.mkdir()
    path.write_text("def map_fn(key, value):\n    yield value, 1\n")
    return path


def names(data: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(data)).namelist()


def test_same_files_give_the_same_id_at_any_time(job_file: Path) -> None:
    first = build_bundle(job_file)
    os.utime(job_file, (1, 1))
    assert build_bundle(job_file) == first
    assert first.code_id == content_id(first.data)
    assert first.entry == "job.py"


def test_other_content_gives_another_id(job_file: Path) -> None:
    first = build_bundle(job_file)
    job_file.write_text(job_file.read_text() + "\n")
    assert build_bundle(job_file).code_id != first.code_id


def test_order_of_includes_does_not_matter(job_file: Path) -> None:
    one, two = job_file.parent / "one.py", job_file.parent / "two.py"
    one.write_text("")
    two.write_text("")
    assert build_bundle(job_file, [one, two]) == build_bundle(job_file, [two, one, one])


def test_included_paths_keep_their_place_below_the_job_file(job_file: Path, tmp_path: Path) -> None:
    package = job_file.parent / "library" / "deep"
    package.mkdir(parents=True)
    (package / "words.txt").write_text("a\n")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_text("")
    outside = tmp_path / "shared"
    outside.mkdir()
    (outside / "helper.py").write_text("")
    made = build_bundle(job_file, [package, outside])
    assert names(made.data) == ["job.py", "library/deep/words.txt", "shared/helper.py"]


def test_whole_directory_of_the_job_file_may_be_included(job_file: Path) -> None:
    (job_file.parent / "helper.py").write_text("")
    assert names(build_bundle(job_file, [job_file.parent]).data) == ["helper.py", "job.py"]


def test_two_files_in_one_place_are_refused(job_file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "job.py"
    other.write_text("")
    with pytest.raises(BadJob, match=r"would both become job\.py"):
        build_bundle(job_file, [other])


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing.py", "does not exist"), ("", "is a directory"), ("notes.txt", "not a Python file")],
)
def test_what_is_no_job_file_is_refused(job_file: Path, name: str, message: str) -> None:
    (job_file.parent / "notes.txt").write_text("")
    with pytest.raises(BadJob, match=message):
        build_bundle(job_file.parent / name)


def test_missing_include_is_refused(job_file: Path) -> None:
    with pytest.raises(BadJob, match=r"--include .* does not exist"):
        build_bundle(job_file, [job_file.parent / "nothing"])


def test_bundle_above_the_limit_is_refused(job_file: Path) -> None:
    with pytest.raises(BadJob, match="max_bundle_bytes"):
        build_bundle(job_file, max_bytes=10)


def test_unpacking_gives_the_files_back(job_file: Path, tmp_path: Path) -> None:
    data = job_file.parent / "data" / "stop.txt"
    data.parent.mkdir()
    data.write_bytes(b"\x00words\r\n")
    made = build_bundle(job_file, [data])
    target = tmp_path / "spool" / "code"
    unpack_bundle(made.data, target)
    assert (target / "job.py").read_bytes() == job_file.read_bytes()
    assert (target / "data" / "stop.txt").read_bytes() == b"\x00words\r\n"
    assert [path.name for path in target.parent.iterdir()] == ["code"]


def test_unpacking_twice_keeps_the_first(job_file: Path, tmp_path: Path) -> None:
    made = build_bundle(job_file)
    target = tmp_path / "code"
    unpack_bundle(made.data, target)
    (target / "mark").write_text("")
    unpack_bundle(made.data, target)
    assert (target / "mark").exists()


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "a/../../evil.py", "folder/"])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, "")
    with pytest.raises(BadJob, match="not a plain file"):
        unpack_bundle(target.getvalue(), tmp_path / "code")
    assert list(tmp_path.iterdir()) == []


def test_damaged_bundle_leaves_nothing(job_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadJob, match="damaged"):
        unpack_bundle(b"not a zip", tmp_path / "spool" / "code")
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("flag_bits", [b"\x01\x00", b"\x20\x00"])
def test_archive_that_cannot_be_read_is_refused(job_file: Path, tmp_path: Path, flag_bits: bytes) -> None:
    data = bytearray(build_bundle(job_file).data)
    entry = data.index(b"PK\x01\x02")
    data[6:8] = data[entry + 8 : entry + 10] = flag_bits  # encrypted; a patch
    with pytest.raises(BadJob, match=r"damaged|not a plain file"):
        unpack_bundle(bytes(data), tmp_path / "code")


def test_bundle_that_swells_is_refused(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MAX_UNPACKED_BYTES", 10)
    with pytest.raises(BadJob, match="unpacks to 43 bytes, over 10"):
        unpack_bundle(build_bundle(job_file).data, tmp_path / "code")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "FIFO"),
        (make_socket, "socket"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: path.symlink_to(path.parent / "absent"), "No such file"),
    ],
)
def test_what_is_no_regular_file_is_refused_by_name(
    job_file: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], reason: str
) -> None:
    package = job_file.parent / "library"
    package.mkdir()
    monkeypatch.chdir(package)  # the path of a socket is limited in length
    make(Path("odd") if make is make_socket else package / "odd")
    with pytest.raises(BadJob, match=reason) as caught:
        build_bundle(job_file, [package])
    assert str(package / "odd") in str(caught.value) and "\n" not in str(caught.value)


def test_a_fifo_is_neither_a_job_file_nor_an_include(job_file: Path) -> None:
    fifo = job_file.parent / "fifo.py"
    os.mkfifo(fifo)
    with pytest.raises(BadJob, match=r"fifo\.py is not a regular file"):
        build_bundle(fifo)
    with pytest.raises(BadJob, match=r"fifo\.py is not a regular file"):
        build_bundle(job_file, [fifo])


def test_a_link_that_leads_back_up_is_left_out(job_file: Path) -> None:
    package = job_file.parent / "library"
    package.mkdir()
    (package / "words.txt").write_text("a\n")
    (package / "up").symlink_to("..")
    assert names(build_bundle(job_file, [package]).data) == ["job.py", "library/words.txt"]


def test_a_folder_that_cannot_be_listed_is_refused_by_name(
    job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = job_file.parent / "library" / "closed"
    closed.mkdir(parents=True)
    listed = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(BadJob, match="closed cannot be read: Permission denied"):
        build_bundle(job_file, [closed.parent])
