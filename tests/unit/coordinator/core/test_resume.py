"""What a job that ended runs again when it is resumed."""

from typing import Any

import msgspec
import pytest

from mr.coordinator.core.resume import plan_resume
from mr.errors import BadJob, IllegalTransition
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.claims import Claim
from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.jobs import CodeManifest
from mr.protocol.records import (
    JobState,
    MapOutput,
    PartOutput,
    RestoredJob,
    TaskRecord,
    TaskResult,
    TaskState,
    TaskStats,
    Transition,
)
from tests.support.job_records import job_record
from tests.support.specs import make_manifest, make_spec, make_splits

MAP_0, MAP_1, REDUCE_0, REDUCE_1 = map(TaskId, ("map-00000", "map-00001", "reduce-00000", "reduce-00001"))
CODE, OTHER = "sha256:" + "1" * 64, "sha256:" + "9" * 64
SIDE = {"map_fn": "a", "partition_fn": "b"}


def code(
    code_id: str = "sha256:" + "1" * 64, side: dict[str, str] | None = None, **given: Any
) -> CodeManifest:
    return msgspec.structs.replace(make_manifest(code_id, **given), map_side=SIDE if side is None else side)


def result(task: TaskId, attempt: int) -> TaskResult:
    where: tuple[Any, ...] = (AttemptId(JobId("job-1"), task, attempt), WorkerId("w"), Incarnation("i"))
    if task.startswith("map"):
        return TaskResult(MapOutput(*where, "", "", ""), TaskStats())
    return TaskResult(PartOutput(*where, 1, 1, ""), TaskStats())


def ended(before: JobState = JobState.REDUCING, **options: Any) -> RestoredJob:
    """Both maps and a reduce are committed; the other reduce failed for good at its 4th attempt."""
    states = (JobState.SUBMITTED, JobState.MAPPING, before, JobState.FAILED)
    history = tuple(Transition(state, float(at), "because") for at, state in enumerate(dict.fromkeys(states)))
    return RestoredJob(
        record=job_record("job-1", JobState.FAILED, history=history, cause="because", kept=True),
        spec=make_spec(code=code(), **options),
        splits=make_splits(),
        tasks={
            MAP_0: TaskRecord(task_id=MAP_0, state=TaskState.COMMITTED, attempt=2, failures=1, failed=(1,)),
            MAP_1: TaskRecord(task_id=MAP_1, state=TaskState.COMMITTED, attempt=1),
            REDUCE_0: TaskRecord(task_id=REDUCE_0, state=TaskState.COMMITTED, attempt=1),
            REDUCE_1: TaskRecord(task_id=REDUCE_1, state=TaskState.FAILED, attempt=4, failures=4),
        },
        claims={MAP_0: Claim(2, 0, 2), MAP_1: Claim(1, 0, 1), REDUCE_0: Claim(1, 0, 1), REDUCE_1: Claim(5)},
        results={MAP_0: result(MAP_0, 2), MAP_1: result(MAP_1, 1), REDUCE_0: result(REDUCE_0, 1)},
    )


def test_the_same_code_goes_on_from_all_that_committed() -> None:
    resumption = plan_resume(ended(), code(), (), 9.0)
    job = resumption.job
    assert resumption.kept == {MAP_0, MAP_1, REDUCE_0}
    assert resumption.note == "2 of 2 maps and 1 of 2 reduces are kept"
    assert (job.record.state, job.record.cause, job.record.kept, job.record.resumed) == (
        "MAPPING",
        "",
        False,
        1,
    )
    assert job.record.history[-1] == Transition(JobState.MAPPING, 9.0, "resumed by its owner")
    assert job.spec.resumed == 1
    failed = job.tasks[REDUCE_1]
    assert (failed.state, failed.attempt, failed.failures) == (TaskState.WAITING, 5, 0)
    assert (job.tasks[MAP_0].failures, job.tasks[MAP_0].failed) == (0, ())


def test_a_part_that_is_gone_is_made_again() -> None:
    assert plan_resume(ended(), code(), [REDUCE_0], 9.0).kept == {MAP_0, MAP_1}


def test_repaired_reduces_keep_the_maps() -> None:
    resumption = plan_resume(ended(), code(OTHER), (), 9.0)
    assert resumption.kept == {MAP_0, MAP_1}
    assert resumption.job.spec.code_id == OTHER
    assert resumption.job.tasks[REDUCE_0].state is TaskState.WAITING


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (code(OTHER, {**SIDE, "map_fn": "c"}), "map_fn"),
        (code(OTHER, {"map_fn": "a"}), "partition_fn"),
        (code(OTHER, {**SIDE, "combine_fn": "c"}), "combine_fn"),
        (code(OTHER, combine_agg=AggregationSpec("sum")), "combine_fn"),
        (code(OTHER, reduce_agg=AggregationSpec("sum")), "reduce_fn"),
    ],
)
def test_code_that_changes_what_maps_make_runs_everything_again(changed: CodeManifest, named: str) -> None:
    resumption = plan_resume(ended(), changed, (), 9.0)
    assert not resumption.kept
    assert resumption.note.startswith("everything runs again") and named in resumption.note


def test_no_phase_mixes_two_codes() -> None:
    resumption = plan_resume(ended(JobState.MAPPING), code(OTHER), (), 9.0)
    assert not resumption.kept and "map phase" in resumption.note


def test_what_a_claim_does_not_confirm_is_not_kept() -> None:
    job = ended()
    job = msgspec.structs.replace(job, claims={**job.claims, MAP_0: Claim(3, 0, 3), MAP_1: Claim(1, 1)})
    assert plan_resume(job, code(), (), 9.0).kept == {REDUCE_0}


def test_options_that_leave_the_tasks_as_they_are_may_change() -> None:
    options = plan_resume(ended(), code(OTHER, task_memory="2GiB", max_attempts=9), (), 9.0).job.spec.options
    assert (options.task_memory, options.max_attempts) == (2 << 30, 9)
    given = ended(request={"max_attempts": "4"}, max_attempts=4)
    assert plan_resume(given, code(OTHER, max_attempts=9), (), 9.0).job.spec.options.max_attempts == 4


def test_options_that_shape_the_tasks_may_not_change() -> None:
    assert plan_resume(ended(), code(OTHER, reduces=2), (), 9.0).kept, "it is what the job has"
    with pytest.raises(BadJob, match="changes reduces, split_size"):
        plan_resume(ended(), code(OTHER, reduces=3, split_size="1MiB"), (), 9.0)
    with pytest.raises(BadJob, match="no reduce_fn"):
        plan_resume(ended(), code(OTHER, functions=("map_fn",)), (), 9.0)


def test_a_job_that_runs_or_completed_is_not_resumed() -> None:
    for state in (JobState.REDUCING, JobState.COMPLETED):
        job = ended()
        record = msgspec.structs.replace(job.record, state=state)
        with pytest.raises(IllegalTransition):
            plan_resume(msgspec.structs.replace(job, record=record), code(), (), 9.0)
