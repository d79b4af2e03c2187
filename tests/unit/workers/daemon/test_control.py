"""What a worker does when it is told to."""

from pathlib import Path

from mr.protocol.ids import AttemptId, Incarnation, JobId, TaskId, WorkerId
from mr.protocol.messages import DrainWorker, EndJob, PauseWorker, StopAttempt, TaskCommitted
from mr.protocol.records import Pause
from tests.support.waiting import appear, eventually
from tests.support.worker import WORKER, bench, submit

JOB, MAP = JobId("job-1"), TaskId("map-00000")


async def test_a_paused_worker_takes_nothing_until_the_pause_is_over(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await submit(worker)
        await worker.store.pause_worker(WORKER, Pause(0.5, "it failed tasks of 3 jobs"))
        await worker.tell(PauseWorker(WORKER, 1e9, "whatever"))
        beat = await worker.beat_when(lambda beat: beat.open_slots == 0)
        assert beat.limited_by.endswith("it failed tasks of 3 jobs")
        await worker.publish("job-1", "map-00000")
        assert isinstance(await worker.reports.get(), TaskCommitted)
        assert (await worker.beat_when(lambda beat: beat.open_slots == 2)).limited_by == ""


async def test_a_control_message_that_the_store_does_not_confirm_changes_nothing(tmp_path: Path) -> None:
    """Anybody who reaches the broker can forge one."""
    async with bench(tmp_path) as worker:
        await submit(worker, "wait_for_go")
        await worker.publish("job-1", "map-00000")
        await appear(tmp_path / "map-00000.1")
        await worker.store.drain_worker(WORKER, Incarnation("an earlier life"))
        await worker.store.pause_worker(WorkerId("another"), Pause(3600.0, "another"))
        for forged in (
            EndJob(JOB),
            EndJob(JobId("../..")),
            StopAttempt(AttemptId(JOB, MAP, 2)),
            PauseWorker(WORKER, 1e300, "forged"),
            DrainWorker(WORKER),
            DrainWorker(WorkerId("another")),
        ):
            await worker.tell(forged)
        (control,) = worker.broker._private
        await eventually(lambda: not control.queue.ready and not control._unsettled)
        (tmp_path / "go").touch()
        report = await worker.reports.get()
        assert isinstance(report, TaskCommitted) and report.attempt.number == 1
        assert "job-1/outputs/map-00000-1.segments" in worker.files()
        assert (await worker.beat()).open_slots == 2


async def test_a_pause_of_no_time_lets_a_worker_take_tasks_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        await worker.store.pause_worker(WORKER, Pause(60.0, "cannot reach worker w2"))
        await worker.tell(PauseWorker(WORKER, 60.0, "cannot reach worker w2"))
        assert "cannot reach worker w2" in (await worker.beat_when(lambda b: b.open_slots == 0)).limited_by
        await worker.store.pause_worker(WORKER, Pause(0.0, ""))
        await worker.tell(PauseWorker(WORKER, 0.0, ""))
        await worker.beat_when(lambda b: b.open_slots == 2 and not b.limited_by)
