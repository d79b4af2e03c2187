"""A worker's directories: whose they are, and that nothing stays behind."""

import errno
import os
from pathlib import Path

import pytest

from mr.protocol.codec import pack
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.records import MapOutput
from mr.workers.daemon.spool import Spool, SpoolUnusable
from tests.support.specs import make_manifest

JOB, TASK = JobId("job-1"), TaskId("map-00000")
CODE = make_manifest()


def make(root: Path, worker: str = "w1", incarnation: str = "i1") -> Spool:
    return Spool(root, WorkerId(worker), Incarnation(incarnation))


def leave_dead(root: Path, worker: str, incarnation: str) -> Path:
    """Make what a killed worker leaves: files, and a lock file that nobody holds."""
    directory = root / worker / incarnation
    (directory / "jobs" / "job-9" / "outputs").mkdir(parents=True)
    (directory / ".mrmq-life").touch()
    (directory / "jobs" / "job-9" / "outputs" / "x").write_text("x")
    return directory


def test_a_closed_spool_leaves_nothing_of_its_worker(tmp_path: Path) -> None:
    spool = make(tmp_path / "spool")
    spool.make_attempt(AttemptId(JOB, TASK, 1)).joinpath("x").write_text("x")
    spool.close()
    spool.close()
    assert [path.name for path in (tmp_path / "spool").iterdir()] == [".lock"]


def test_a_start_clears_dead_lives_of_any_worker_and_no_live_one(tmp_path: Path) -> None:
    live = make(tmp_path, "w1", "live")
    kept = live.make_attempt(AttemptId(JOB, TASK, 1))
    for worker, incarnation in (("w1", "old"), ("w2", "old"), ("w3", "new")):
        leave_dead(tmp_path, worker, incarnation)
    spool = make(tmp_path, "w3", "fresh")
    assert spool.cleared == ("w1/old", "w2/old", "w3/new")
    spool.clear_dead()
    assert kept.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "w1", "w3"]
    spool.close()
    live.close()


def test_a_directory_without_the_mark_of_a_worker_is_never_deleted(tmp_path: Path) -> None:
    stranger = leave_dead(tmp_path, "some", "thing")
    (stranger / ".mrmq-life").unlink()
    spool = make(tmp_path)
    assert spool.cleared == ()
    spool.clear_dead()
    assert (stranger / "jobs" / "job-9" / "outputs" / "x").exists()
    spool.close()


def test_other_files_below_the_root_are_not_touched(tmp_path: Path) -> None:
    stranger = tmp_path / "home" / "user"
    stranger.mkdir(parents=True)
    (stranger / "thesis").write_text("x")
    make(tmp_path).close()
    assert (stranger / "thesis").exists()


def test_an_attempt_begins_empty_and_ends_without_its_files(tmp_path: Path) -> None:
    spool = make(tmp_path)
    first = spool.make_attempt(AttemptId(JOB, TASK, 1))
    (first / "rest").write_text("x")
    assert list(spool.make_attempt(AttemptId(JOB, TASK, 1)).iterdir()) == []
    spool.drop_attempt(AttemptId(JOB, TASK, 1))
    assert not first.exists()
    spool.close()


def test_an_output_is_kept_with_its_index_until_it_is_dropped(tmp_path: Path) -> None:
    spool = make(tmp_path)
    made = spool.make_attempt(AttemptId(JOB, TASK, 2)) / "segments"
    made.write_bytes(b"data")
    path = spool.keep_output(AttemptId(JOB, TASK, 2), made, b"index")
    spool.drop_attempt(AttemptId(JOB, TASK, 2))
    assert path == spool.output_path(AttemptId(JOB, TASK, 2))
    assert path.read_bytes() == b"data"
    assert path.with_suffix(".index").read_bytes() == b"index"
    spool.drop_output(path)
    assert list(path.parent.iterdir()) == []
    spool.close()


def finish_output(spool: Spool, attempt: int) -> MapOutput:
    """Make and keep a map output, its place noted in its index."""
    made = spool.make_attempt(AttemptId(JOB, TASK, attempt)) / "segments"
    made.write_bytes(b"data")
    where = (WorkerId("w1"), Incarnation(spool.directory.name), "here:1", "host")
    output = MapOutput(
        AttemptId(JOB, TASK, attempt), *where, str(spool.output_path(AttemptId(JOB, TASK, attempt)))
    )
    spool.keep_output(AttemptId(JOB, TASK, attempt), made, pack(output))
    return output


def test_outputs_that_are_kept_are_found_and_taken_by_the_next_life_alone(tmp_path: Path) -> None:
    first = make(tmp_path, "w1", "first")
    output = finish_output(first, 3)
    first.code_dir(JOB, CODE).mkdir()
    first.close(keep_outputs=True)
    second, third = make(tmp_path, "w2", "second"), make(tmp_path, "w3", "third")
    assert third.left_outputs() == {}
    ((left,),) = second.left_outputs().values()
    assert (left.output, left.incarnation) == (output, "first")
    taken = second.take(left)
    assert second.take(left) is None
    second.clear_dead()
    assert taken is not None and taken.read_bytes() == b"data"
    second.close()
    third.close()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_an_attempt_of_the_number_of_an_adopted_one_has_a_file_of_its_own(tmp_path: Path) -> None:
    """A store that came back older gives a number again; who adopts twice still knows whose it was."""
    first = make(tmp_path, "w1", "first")
    finish_output(first, 3)
    first.close(keep_outputs=True)
    for name in ("second", "third"):
        spool = make(tmp_path, "w1", name)
        (left,) = spool.left_outputs()[JOB]
        taken = spool.take(left)
        assert left.maker == "first" and taken is not None
        own = finish_output(spool, 3)
        spool.drop_output(Path(own.path))
        assert taken.read_bytes() == b"data" and taken.with_suffix(".index").exists()
        spool.clear_dead()
        spool.close(keep_outputs=True)


def test_a_closed_spool_keeps_outputs_only_and_makes_nothing(tmp_path: Path) -> None:
    spool = make(tmp_path)
    finish_output(spool, 1)
    spool.make_attempt(AttemptId(JOB, TASK, 2))
    spool.code_dir(JOB, CODE).mkdir()
    spool.close(keep_outputs=True)
    assert [path.name for path in (spool.directory / "jobs" / JOB).iterdir()] == ["outputs"]
    with pytest.raises(OSError, match="stopping"):
        spool.make_attempt(AttemptId(JOB, TASK, 3))
    with pytest.raises(OSError, match="stopping"):
        spool.disk_usage()


@pytest.mark.parametrize(
    ("code", "is_full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, False)]
)
def test_a_disk_that_takes_nothing_has_nothing_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_full: bool
) -> None:
    """Whatever it says itself: a quota may be used up, or all inodes."""
    spool = make(tmp_path)
    assert spool.disk_usage().free > 0
    assert list(spool.directory.rglob("*.probe")) == []

    def refuse(path: Path, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as harm:
        harm.setattr(Path, "write_bytes", refuse)
        if is_full:
            assert spool.disk_usage().free == 0
        else:
            with pytest.raises(OSError, match="Read-only"):
                spool.disk_usage()
    spool.close()


def test_a_dropped_job_is_gone(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.make_attempt(AttemptId(JOB, TASK, 1))
    spool.make_attempt(AttemptId(JobId("job-2"), TASK, 1))
    assert spool.jobs() == ("job-1", "job-2")
    spool.drop_job(JOB)
    assert spool.jobs() == ("job-2",)
    spool.close()


@pytest.mark.parametrize("worker", ["..", "a/b", "", ".hidden"])
def test_a_worker_id_cannot_leave_the_spool(tmp_path: Path, worker: str) -> None:
    with pytest.raises(SpoolUnusable, match="cannot be a worker id"):
        make(tmp_path, worker)


def test_a_job_id_cannot_leave_the_spool(tmp_path: Path) -> None:
    spool = make(tmp_path)
    with pytest.raises(SpoolUnusable, match="not a job id"):
        spool.drop_job(JobId("../../other"))
    spool.close()


def test_a_spool_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnusable, match=r"the spool .*file cannot be used"):
        make(tmp_path / "file")


def test_of_a_job_whose_outputs_are_kept_only_these_stay(tmp_path: Path) -> None:
    spool = make(tmp_path)
    output = finish_output(spool, 1)
    spool.make_attempt(AttemptId(JOB, TASK, 2))
    spool.code_dir(JOB, CODE).mkdir()
    spool.drop_job(JOB, keep_outputs=True)
    assert [path.name for path in (spool.directory / "jobs" / JOB).iterdir()] == ["outputs"]
    assert Path(output.path).exists()
    other = JobId("job-2")
    spool.make_attempt(AttemptId(other, TASK, 1))
    spool.drop_job(other, keep_outputs=True)
    assert spool.jobs() == (JOB,)
    spool.close()
