"""The output directory: who owns it, when parts get their names, what stays after success and failure."""

import contextlib
import errno
import os
from pathlib import Path

import fsspec
import msgspec
import pytest
import xxhash

from mr.errors import BadInput, BadJob, OutputExists
from mr.formats import storage
from mr.formats.output import directory
from mr.formats.output.part_writer import PartWriter
from mr.protocol import part_names
from mr.protocol.bad_records import BadRecordsFile
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.part_names import temporary_bad_records
from mr.protocol.records import Manifest, ManifestPart, PartOutput

JOB = JobId("job-1")
OTHER = JobId("job-2")
LIFE = Incarnation("life-1")


@pytest.fixture(params=["local", "file", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An output that does not exist, two directories deep."""
    if request.param == "memory":
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
        return "memory://deep/out"
    path = tmp_path / "deep" / "out"
    return path.as_uri() if request.param == "file" else str(path)


def listing(output: str) -> list[str]:
    filesystem, root = fsspec.core.url_to_fs(output)
    return sorted(path.removeprefix(root).lstrip("/") for path in filesystem.find(root))


def put(output: str, name: str) -> None:
    filesystem, root = fsspec.core.url_to_fs(output)
    filesystem.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(f"{root}/{name}", b"mine")


def exists(path: str) -> bool:
    filesystem, root = fsspec.core.url_to_fs(path)
    return bool(filesystem.exists(root))


def make_part(output: str, index: int, attempt: int = 1, job_id: JobId = JOB) -> PartOutput:
    temporary = part_names.temporary_part(output, job_id, index, attempt, LIFE, "csv")
    writer = PartWriter(temporary, "csv")
    writer.write_pairs([index], [index])
    summary = writer.close()
    return PartOutput(
        AttemptId(job_id, TaskId(f"reduce-{index:05d}"), attempt),
        WorkerId("w1"),
        LIFE,
        summary.rows,
        summary.bytes,
        summary.checksum,
    )


def publish(output: str, part: PartOutput) -> None:
    directory.publish_part(output, JOB, part, "csv")


def finish(output: str, *parts: PartOutput) -> Manifest:
    listed = tuple(
        ManifestPart(
            part.attempt.task, part.attempt.number, f"{output}/p", part.rows, part.bytes, part.checksum
        )
        for part in parts
    )
    manifest = Manifest(
        1, JOB, "a job", 12.5, len(parts), sum(part.bytes for part in parts), listed, {"n": 1}
    )
    directory.finish_output(output, JOB, parts, "csv", manifest)
    return manifest


def test_a_job_from_preparation_to_success(output: str) -> None:
    directory.prepare_output(output, JOB)
    parts = [make_part(output, 0), make_part(output, 1, attempt=3)]
    assert listing(output) == [
        "_temporary/job-1/_owner",
        "_temporary/job-1/part-00000-attempt-1-life-1.csv",
        "_temporary/job-1/part-00001-attempt-3-life-1.csv",
    ]
    publish(output, parts[0])
    assert directory.read_manifest(output) is None
    make_part(output, 1, attempt=2)
    manifest = finish(output, *parts)
    assert listing(output) == ["_SUCCESS", "part-00000.csv", "part-00001.csv"]
    assert directory.read_manifest(output) == manifest


def test_every_step_may_be_repeated(output: str) -> None:
    directory.prepare_output(output, JOB)
    directory.prepare_output(output, JOB)
    part = make_part(output, 0)
    publish(output, part)
    directory.prepare_output(output, JOB)
    publish(output, part)
    finish(output, part)
    finish(output, part)
    assert listing(output) == ["_SUCCESS", "part-00000.csv"]


def test_a_job_without_parts_succeeds(output: str) -> None:
    directory.prepare_output(output, JOB)
    finish(output)
    assert listing(output) == ["_SUCCESS"]


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_file(f"{tmp_path}/_SUCCESS", b"{}")
    assert listing(str(tmp_path)) == []


@pytest.mark.parametrize("name", ["part-00000", "_SUCCESS", ".hidden", "sub/x"])
def test_an_output_that_holds_anything_is_refused_and_left_alone(output: str, name: str) -> None:
    put(output, name)
    with pytest.raises(OutputExists, match=f"deep/out is not empty .{name.split('/')[0]}.; choose another"):
        directory.prepare_output(output, JOB)
    directory.abandon_output(output, JOB)
    assert listing(output) == [name]


def test_an_empty_directory_is_taken_and_stays_after_failure(tmp_path: Path) -> None:
    directory.prepare_output(str(tmp_path), JOB)
    make_part(str(tmp_path), 0)
    directory.abandon_output(str(tmp_path), JOB)
    assert list(tmp_path.iterdir()) == []


def test_another_running_job_is_named(output: str) -> None:
    directory.prepare_output(output, OTHER)
    with pytest.raises(OutputExists, match=r"the job job-2 is writing to .*deep/out; choose another"):
        directory.prepare_output(output, JOB)
    directory.abandon_output(output, JOB)
    assert listing(output) == ["_temporary/job-2/_owner"]


def test_two_jobs_at_once_never_both_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = str(tmp_path / "out")
    write_file = storage.write_file

    def overtaken(path: str, data: bytes) -> None:
        monkeypatch.undo()
        write_file(path, data)
        with pytest.raises(OutputExists):
            directory.prepare_output(output, OTHER)
        put(output, "_temporary/job-2/_owner")

    monkeypatch.setattr(directory.storage, "write_file", overtaken)
    with pytest.raises(OutputExists, match="the job job-2"):
        directory.prepare_output(output, JOB)
    assert listing(output) == ["_temporary/job-2/_owner"]


def test_a_file_in_the_place_of_the_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputExists, match="out is a file; name a directory"):
        directory.prepare_output(str(tmp_path / "out"), JOB)
    with pytest.raises(BadJob, match="cannot be made: Not a directory"):
        directory.prepare_output(str(tmp_path / "out" / "below"), JOB)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/proc/mr-output", "cannot be made: No such file or directory"),
        ("nosuch://x/y", "Protocol not known: nosuch"),
        ("null\0", "cannot be made"),
    ],
)
def test_an_output_that_cannot_be_made_is_refused(name: str, message: str) -> None:
    with pytest.raises(BadJob, match=message):
        directory.prepare_output(name, JOB)


class TestAbandon:
    def test_it_removes_all_that_was_made(self, output: str) -> None:
        directory.prepare_output(output, JOB)
        part = make_part(output, 0)
        publish(output, part)
        make_part(output, 1)
        directory.abandon_output(output, JOB)
        assert not exists(output)
        assert output.startswith("memory:") or not exists(output.removesuffix("/out"))
        directory.abandon_output(output, JOB)

    def test_it_leaves_what_others_put_there(self, output: str) -> None:
        directory.prepare_output(output, JOB)
        put(output, "notes")
        directory.abandon_output(output, JOB)
        assert listing(output) == ["notes"]

    def test_it_leaves_a_completed_job(self, output: str) -> None:
        directory.prepare_output(output, JOB)
        part = make_part(output, 0)
        finish(output, part)
        directory.abandon_output(output, JOB)
        assert listing(output) == ["_SUCCESS", "part-00000.csv"]


class TestPublish:
    def test_a_part_that_is_gone_is_named(self, output: str) -> None:
        directory.prepare_output(output, JOB)
        part = make_part(output, 0)
        storage.remove_file(part_names.temporary_part(output, JOB, 0, 1, LIFE, "csv"))
        with pytest.raises(FileNotFoundError, match=r"part-00000\.csv of reduce-00000 is gone"):
            publish(output, part)
        with pytest.raises(FileNotFoundError):
            finish(output, part)
        assert directory.read_manifest(output) is None

    def test_a_part_of_another_size_is_named(self, output: str) -> None:
        directory.prepare_output(output, JOB)
        part = msgspec.structs.replace(make_part(output, 0), bytes=5)
        with pytest.raises(FileNotFoundError, match="has 14 bytes instead of 5"):
            publish(output, part)

    def test_another_process_may_be_faster(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        output = str(tmp_path / "out")
        directory.prepare_output(output, JOB)
        part = make_part(output, 0)
        rename = storage.rename

        def overtaken(source: str, target: str) -> None:
            rename(source, target)
            rename(source, target)

        monkeypatch.setattr(directory.storage, "rename", overtaken)
        publish(output, part)
        assert Path(output, "part-00000.csv").stat().st_size == part.bytes

    def test_a_file_of_somebody_else_is_never_replaced_nor_removed(self, output: str) -> None:
        directory.prepare_output(output, JOB)
        part = make_part(output, 0)
        put(output, "part-00000.csv")
        with pytest.raises(FileExistsError, match="exists and is not of this job"):
            publish(output, part)
        with pytest.raises(FileExistsError):
            finish(output, part)
        directory.abandon_output(output, JOB)
        assert listing(output) == ["part-00000.csv"]

    def test_a_part_of_this_job_may_be_published_anew(self, output: str) -> None:
        directory.prepare_output(output, JOB)
        publish(output, make_part(output, 0))
        again = make_part(output, 0, attempt=2)
        publish(output, again)
        finish(output, again)
        assert listing(output) == ["_SUCCESS", "part-00000.csv"]

    def test_other_bytes_of_the_right_size_are_found(self, tmp_path: Path) -> None:
        output = str(tmp_path / "out")
        directory.prepare_output(output, JOB)
        part = make_part(output, 0)
        publish(output, part)
        path = Path(output, "part-00000.csv")
        path.write_bytes(path.read_bytes().replace(b"0", b"1"))
        with pytest.raises(FileNotFoundError, match="has other bytes than were written"):
            finish(output, part)
        assert directory.read_manifest(output) is None

    @pytest.mark.parametrize("name", ["../../x", "a/b", "", ".."])
    def test_no_id_leads_out_of_the_jobs_directory(self, name: str) -> None:
        with pytest.raises(ValueError, match="is not an id"):
            part_names.temporary_part("/out", JOB, 0, 1, Incarnation(name), "csv")
        with pytest.raises(ValueError, match="is not an id"):
            part_names.temporary_part("/out", JobId(name), 0, 1, LIFE, "csv")


class TestManifest:
    @pytest.mark.parametrize("content", [b"", b"{}", b'{"version": "x"}', b'{"counters": {"\xff": 1}}'])
    def test_what_is_no_manifest_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "_SUCCESS").write_bytes(content)
        with pytest.raises(BadInput, match="_SUCCESS is not a manifest of mrmq"):
            directory.read_manifest(str(tmp_path))

    def test_a_place_without_one_has_none(self, tmp_path: Path) -> None:
        assert directory.read_manifest(str(tmp_path / "nothing")) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("out", "{}/out"),
        ("./a/../out/", "{}/out"),
        ("/x//y/", "/x/y"),
        ("s3://bucket/out/", "s3://bucket/out"),
        ("memory://x", "memory://x"),
    ],
)
def test_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute(path) == expected.format(tmp_path)


def test_an_output_that_could_not_be_finished_is_removed(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its parts have their final names by then."""
    directory.prepare_output(output, JOB)
    part = make_part(output, 0)
    write_file = storage.write_file

    def full_disk(path: str, data: bytes) -> None:
        if path.endswith("_SUCCESS"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_file(path, data)

    monkeypatch.setattr(directory.storage, "write_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        finish(output, part)
    monkeypatch.setattr(directory.storage, "write_file", write_file)
    directory.abandon_output(output, JOB)
    assert not storage.list_names(output)


def test_a_part_published_while_the_output_is_removed_does_not_stay(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.prepare_output(output, JOB)
    part = make_part(output, 0)
    list_names, seen = storage.list_names, []

    def publish_meanwhile(path: str) -> list[str] | None:
        names = list_names(path)
        if path == output and not seen and directory.TEMPORARY in (names or []):
            seen.append(path)
            with contextlib.suppress(FileNotFoundError):
                publish(output, part)
        return names

    monkeypatch.setattr(directory.storage, "list_names", publish_meanwhile)
    directory.abandon_output(output, JOB)
    assert not list_names(output)


def make_list(output: str, index: int, attempt: int = 1, data: bytes = b"{}\n") -> BadRecordsFile:
    """A list of bad records as an attempt writes it."""
    path = temporary_bad_records(output, JOB, index, attempt, LIFE)
    storage.write_file(path, data)
    return BadRecordsFile(attempt, LIFE, 1, len(data), xxhash.xxh3_64(data).hexdigest(), "in:0: bad")


def finish_with_lists(output: str, lists: dict[int, BadRecordsFile]) -> None:
    manifest = Manifest(1, JOB, "a job", 12.5, 0, 0, (), {})
    directory.finish_output(output, JOB, (), "csv", manifest, lists)


def test_the_lists_of_the_attempts_that_committed_are_published(output: str) -> None:
    directory.prepare_output(output, JOB)
    make_list(output, 0, attempt=1)
    lists = {0: make_list(output, 0, attempt=2, data=b"{2}\n"), 12: make_list(output, 12)}
    finish_with_lists(output, lists)
    finish_with_lists(output, lists)
    assert listing(output) == [
        "_SUCCESS",
        "_bad_records/map-00000.jsonl",
        "_bad_records/map-00012.jsonl",
    ]
    assert storage.read_file(f"{output}/_bad_records/map-00000.jsonl") == b"{2}\n"


@pytest.mark.parametrize("spoil", [b"", b"{3}\n"])
def test_a_list_with_other_bytes_does_not_count(tmp_path: Path, spoil: bytes) -> None:
    output = str(tmp_path / "out")
    directory.prepare_output(output, JOB)
    lists = {0: make_list(output, 0, data=b"{2}\n")}
    Path(temporary_bad_records(output, JOB, 0, 1, LIFE)).write_bytes(spoil)
    with pytest.raises(FileNotFoundError, match=r"list of bad records .*map-00000.jsonl .*other bytes"):
        finish_with_lists(output, lists)
    directory.abandon_output(output, JOB)
    assert not Path(output).exists()


def test_lists_of_somebody_else_stay(output: str) -> None:
    directory.prepare_output(output, JOB)
    put(output, "_bad_records/map-00000.jsonl")
    with pytest.raises(FileExistsError, match="_bad_records"):
        finish_with_lists(output, {0: make_list(output, 0)})
    directory.abandon_output(output, JOB)
    assert listing(output) == ["_bad_records/map-00000.jsonl"]
