"""Records of jobs, tasks and workers as a store would hold them, for tests of what shows them."""

from typing import Any

from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.records import (
    JobRecord,
    JobState,
    RunningTask,
    TaskRecord,
    TaskState,
    Transition,
    WorkerBeat,
)


def job_record(job_id: str = "words-1", state: JobState = JobState.MAPPING, **fields: Any) -> JobRecord:
    """A job of 4 maps and 2 reduces, submitted at second 1000."""
    history = (Transition(JobState.SUBMITTED, 1000.0, "accepted"), Transition(state, 1001.0, "because"))
    defaults = {"name": "words", "output": "/out", "priority": 2, "maps": 4, "reduces": 2, "history": history}
    return JobRecord(job_id=JobId(job_id), state=state, **{**defaults, **fields})


def task_record(task: str = "map-00000", state: TaskState = TaskState.RUNNING, **fields: Any) -> TaskRecord:
    """One task, at its first attempt."""
    return TaskRecord(task_id=TaskId(task), state=state, **{"attempt": 1, **fields})


def running_task(task: str = "map-00000", job_id: str = "words-1", **fields: Any) -> RunningTask:
    """What a slot does, for 3 seconds now."""
    defaults = {"attempt": 1, "started_at": 1000.0, "elapsed_seconds": 3.0}
    return RunningTask(job_id=JobId(job_id), task_id=TaskId(task), **{**defaults, **fields})


def worker_beat(worker: str = "w1", *running: RunningTask, **fields: Any) -> WorkerBeat:
    """A heartbeat of a worker of two slots."""
    defaults: dict[str, Any] = {
        "incarnation": Incarnation("i1"),
        "host": "h",
        "address": "h:7070",
        "version": "0.1.0",
        "started_at": 1000.0,
        "slots": 2,
        "open_slots": 2,
    }
    return WorkerBeat(worker=WorkerId(worker), running=running, **{**defaults, **fields})
