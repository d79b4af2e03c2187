"""The executor with real child processes: answers, crashes, limits, cancellation, reuse."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mr.protocol.failures import FailureKind
from mr.protocol.ids import AttemptId, JobId, TaskId
from mr.settings import KIB, MIB, Settings
from mr.workers.messages import RunTask
from mr.workers.process.executor import REPORTS_MISSED, Executor, Outcome
from mr.workers.process.progress_reporter import PROGRESS_SECONDS
from mr.workers.process.template_client import TemplateDied
from tests.support.run_tasks import make_run_task
from tests.support.specs import make_spec
from tests.support.waiting import appear, eventually, gone

ENTRY = "tests.support.entries:run"
SETTINGS = Settings(log_bytes=4 * KIB)

MakeRunTask = Callable[..., RunTask]


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    pool = Executor(slots=2, settings=SETTINGS, entry=ENTRY, preload=())
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def run_task(tmp_path: Path) -> MakeRunTask:
    attempts = iter(range(1, 1000))

    def make(do: str, job: str = "job-1", params: dict[str, str] | None = None, **spec: Any) -> RunTask:
        full = {"do": do, "mark": str(tmp_path), **(params or {})}
        made = make_run_task(tmp_path, make_spec(job, params=full, **spec), attempt=next(attempts))
        Path(made.code_dir).mkdir(exist_ok=True)
        return made

    return make


def pid_in(outcome: Outcome) -> int:
    assert outcome.result is not None, outcome
    return outcome.result.stats.records_in


async def test_an_attempt_is_answered_with_the_result(executor: Executor, run_task: MakeRunTask) -> None:
    outcome = await executor.run(run_task("nothing"))
    assert outcome.result is not None and outcome.failure is None and not outcome.stopped
    assert pid_in(outcome) != os.getpid()
    assert outcome.printed == ""
    assert executor.running() == ()


async def test_a_set_of_strings_is_walked_alike_in_every_pool(
    executor: Executor, run_task: MakeRunTask
) -> None:
    first = await executor.run(run_task("print_a_set"))
    other = Executor(slots=1, settings=SETTINGS, entry=ENTRY, preload=())
    await other.start()
    try:
        second = await other.run(run_task("print_a_set"))
    finally:
        await other.close()
    assert first.printed == second.printed != ""


async def test_one_job_reuses_its_child_and_another_job_gets_a_fresh_one(
    executor: Executor, run_task: MakeRunTask
) -> None:
    first = await executor.run(run_task("nothing"))
    second = await executor.run(run_task("nothing"))
    other = await executor.run(run_task("nothing", job="job-2"))
    assert pid_in(first) == pid_in(second) != pid_in(other)


async def test_a_child_of_another_job_makes_room_when_all_slots_are_taken(
    executor: Executor, run_task: MakeRunTask
) -> None:
    pids = [pid_in(await executor.run(run_task("nothing", job=f"job-{n}"))) for n in range(3)]
    await executor.wait_retired()
    assert not psutil.pid_exists(pids[0])
    assert all(psutil.pid_exists(pid) for pid in pids[1:])


async def test_forgetting_a_job_ends_its_idle_children(executor: Executor, run_task: MakeRunTask) -> None:
    pid = pid_in(await executor.run(run_task("nothing")))
    executor.forget_job(JobId("job-1"))
    await executor.wait_retired()
    assert not psutil.pid_exists(pid)


async def test_a_failed_attempt_is_not_followed_by_another_in_the_same_process(
    executor: Executor, run_task: MakeRunTask
) -> None:
    before = pid_in(await executor.run(run_task("nothing")))
    failed = await executor.run(run_task("raise"))
    after = pid_in(await executor.run(run_task("nothing")))
    assert failed.failure is not None
    assert before != after


async def test_a_failure_carries_its_record_and_the_last_output(
    executor: Executor, run_task: MakeRunTask
) -> None:
    failure = (await executor.run(run_task("raise"))).failure
    assert failure is not None
    assert (failure.kind, failure.function, failure.record) == (FailureKind.USER_ERROR, "map_fn", "file:7")
    assert failure.output_tail == "something was wrong"
    assert failure.wall_seconds > 0


async def test_a_segmentation_fault_is_a_failure_with_its_signal_and_where_python_stood(
    executor: Executor, run_task: MakeRunTask
) -> None:
    outcome = await executor.run(run_task("segfault"))
    failure = outcome.failure
    assert failure is not None
    assert (failure.kind, failure.signal) == (FailureKind.KILLED, signal.SIGSEGV)
    assert "SIGSEGV" in failure.message
    assert "before the crash" in failure.output_tail
    assert "in _segfault" in outcome.printed
    assert failure.record == "in:0-10"
    assert failure.reproduce.startswith("mr run job.py in -o ")


async def test_a_kill_from_outside_points_at_the_memory_of_the_host(
    executor: Executor, run_task: MakeRunTask
) -> None:
    failure = (await executor.run(run_task("die_by_signal", params={"signal": "SIGKILL"}))).failure
    assert failure is not None
    assert failure.signal == signal.SIGKILL
    assert "out of memory" in failure.message


@pytest.mark.parametrize(
    ("do", "kind", "words"),
    [
        ("exit_at_once", FailureKind.KILLED, "status 3"),
        ("sys_exit", FailureKind.USER_ERROR, "sys.exit('enough')"),
        ("interrupt", FailureKind.USER_ERROR, "the job raised KeyboardInterrupt"),
        ("hang_up", FailureKind.KILLED, "closed its connection"),
        ("defect", FailureKind.INFRASTRUCTURE, "RuntimeError: a defect of the engine"),
        ("fill_disk", FailureKind.INFRASTRUCTURE, "No space left on device"),
    ],
)
async def test_other_ends_are_failures_that_say_what_happened(
    executor: Executor, run_task: MakeRunTask, do: str, kind: FailureKind, words: str
) -> None:
    failure = (await executor.run(run_task(do))).failure
    assert failure is not None
    assert failure.kind is kind
    assert words in failure.message


async def test_streams_that_user_code_closed_cost_no_result(
    executor: Executor, run_task: MakeRunTask
) -> None:
    outcome = await executor.run(run_task("ruin_streams"))
    assert outcome.failure is None
    assert outcome.result is not None


async def test_a_fork_that_user_code_lets_run_on_gives_no_answer(
    executor: Executor, run_task: MakeRunTask
) -> None:
    first = await executor.run(run_task("fork"))
    second = await executor.run(run_task("nothing", params={"huge": "1"}))
    assert first.result is not None
    assert second.failure is not None  # its own answer, not the one left over from the fork


async def test_a_failure_with_half_characters_is_told_with_them_spelt_out(
    executor: Executor, run_task: MakeRunTask
) -> None:
    failure = (await executor.run(run_task("raise_half_character"))).failure
    assert failure is not None
    assert (failure.kind, failure.message) == (FailureKind.USER_ERROR, "no \\ud800")
    assert failure.record == "file:7 \\udcff"


async def test_a_result_that_no_message_can_hold_is_a_failure_that_says_so(
    executor: Executor, run_task: MakeRunTask
) -> None:
    failure = (await executor.run(run_task("nothing", params={"huge": "1"}))).failure
    assert failure is not None
    assert "look at the names and values of its counters" in failure.message


async def test_much_output_neither_blocks_nor_is_kept(executor: Executor, run_task: MakeRunTask) -> None:
    outcome = await executor.run(run_task("print_much", params={"blocks": "400"}))
    assert outcome.result is not None
    assert len(outcome.printed) < SETTINGS.log_bytes + 100
    assert outcome.printed.startswith("the first line\n")
    assert outcome.printed.endswith("the last line\n")
    assert "bytes left out" in outcome.printed


async def test_one_attempt_does_not_get_the_output_of_another(
    executor: Executor, run_task: MakeRunTask
) -> None:
    await executor.run(run_task("print_much", params={"blocks": "1"}))
    assert (await executor.run(run_task("nothing"))).printed == ""


async def test_standard_input_is_empty(executor: Executor, run_task: MakeRunTask) -> None:
    assert (await executor.run(run_task("read_stdin"))).printed == "''\n"


async def test_an_attempt_over_its_time_limit_is_killed(executor: Executor, run_task: MakeRunTask) -> None:
    outcome = await executor.run(run_task("hang", task_timeout=0.3))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.signal) == (FailureKind.TIMED_OUT, signal.SIGKILL)
    assert outcome.failure.message.startswith("time limit: the task ran longer than 0.3 s")
    assert outcome.failure.record == "in:0-10"
    assert 0.3 <= outcome.failure.stalled_seconds <= outcome.failure.wall_seconds


async def test_a_record_that_hangs_is_named_if_it_is_known(executor: Executor, run_task: MakeRunTask) -> None:
    limit_seconds = PROGRESS_SECONDS * (REPORTS_MISSED + 2)
    told, deaf = await asyncio.gather(
        *(
            executor.run(run_task("hang_in_a_record", params=params, task_timeout=limit_seconds))
            for params in ({}, {"deaf": "yes"})
        )
    )
    assert told.failure is not None and deaf.failure is not None
    assert (told.failure.record, deaf.failure.record) == ("file:7", "in:0-10")
    assert "map-00000" in told.failure.reproduce
    assert told.failure.stalled_seconds > REPORTS_MISSED * PROGRESS_SECONDS


async def test_progress_is_told_also_after_user_code_has_forked(
    executor: Executor, run_task: MakeRunTask, tmp_path: Path
) -> None:
    """Python 3.12 and newer warn of a fork beside another thread, which is an error here."""
    wanted = run_task("fork_strictly")
    running = asyncio.create_task(executor.run(wanted))
    await appear(tmp_path / f"map-00000.{wanted.attempt.number}")
    await eventually(lambda: any(task.records == 7 for task in executor.running()))
    (task,) = executor.running()
    assert (task.progress, task.phase) == (0.5, "map")
    assert 0 <= task.stalled_seconds <= task.elapsed_seconds
    assert task.record == ""
    executor.stop(wanted.attempt)
    assert (await running).stopped


async def test_an_attempt_over_its_memory_limit_is_killed(executor: Executor, run_task: MakeRunTask) -> None:
    outcome = await executor.run(run_task("allocate", task_memory=200 * MIB))
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.KILLED
    assert outcome.failure.message.startswith("memory limit: the task used more than its 200 MiB")


async def test_a_stop_kills_the_child_and_what_it_started(
    executor: Executor, run_task: MakeRunTask, tmp_path: Path
) -> None:
    wanted = run_task("hang_with_grandchild")
    run = asyncio.create_task(executor.run(wanted))
    child = int(await appear(tmp_path / f"map-00000.{wanted.attempt.number}"))
    grandchild = int(await appear(tmp_path / "grandchild"))
    executor.stop(AttemptId(JobId("job-1"), TaskId("map-00000"), wanted.attempt.number + 1))
    assert [task.attempt for task in executor.running()] == [wanted.attempt.number]
    executor.stop(wanted.attempt)
    assert (await run).stopped
    await gone(child)
    await gone(grandchild)


async def test_running_attempts_are_described(
    executor: Executor, run_task: MakeRunTask, tmp_path: Path
) -> None:
    wanted = run_task("hang")
    run = asyncio.create_task(executor.run(wanted))
    await appear(tmp_path / f"map-00000.{wanted.attempt.number}")
    (described,) = executor.running()
    assert (described.job_id, described.task_id, described.attempt) == wanted.attempt
    assert described.memory_bytes > 0
    executor.stop(wanted.attempt)
    await run


async def test_the_cpu_time_of_children_is_known_also_when_they_have_ended(
    executor: Executor, run_task: MakeRunTask
) -> None:
    await executor.run(run_task("burn"))
    assert executor.own_cpu_seconds() >= 0.2
    executor.forget_job(JobId("job-1"))
    await executor.wait_retired()
    assert executor.own_cpu_seconds() >= 0.2


async def test_a_closed_executor_starts_nothing(run_task: MakeRunTask) -> None:
    pool = Executor(slots=1, settings=SETTINGS, entry=ENTRY, preload=())
    await pool.start()
    await pool.close()
    failure = (await pool.run(run_task("nothing"))).failure
    assert failure is not None
    assert failure.kind is FailureKind.INFRASTRUCTURE


async def test_a_killed_template_fails_its_attempts_and_is_replaced(
    executor: Executor, run_task: MakeRunTask, tmp_path: Path
) -> None:
    wanted = run_task("hang")
    run = asyncio.create_task(executor.run(wanted))
    child = int(await appear(tmp_path / f"map-00000.{wanted.attempt.number}"))
    psutil.Process(child).parent().kill()
    failure = (await run).failure
    assert failure is not None
    assert failure.kind is FailureKind.INFRASTRUCTURE
    await gone(child)
    assert (await executor.run(run_task("nothing"))).result is not None


async def test_a_template_that_cannot_import_is_an_error_at_start() -> None:
    pool = Executor(slots=1, settings=SETTINGS, entry=ENTRY, preload=("no_such_module_anywhere",))
    with pytest.raises(TemplateDied, match="could not start"):
        await pool.start()


_DAEMON = """
import asyncio, sys
from pathlib import Path
from mr.settings import Settings
from tests.support.run_tasks import make_run_task
from tests.support.specs import make_spec
from mr.workers.process.executor import Executor

async def main(directory):
    executor = Executor(slots=1, settings=Settings(), entry="tests.support.entries:run", preload=())
    await executor.start()
    spec = make_spec(params={"do": "hang_with_grandchild", "mark": str(directory)})
    await executor.run(make_run_task(directory, spec))

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_no_process_outlives_a_daemon_that_is_killed(tmp_path: Path) -> None:
    # The script has no `if __name__` guard: a child must not run it again.
    root = Path(__file__).parents[4]
    script = tmp_path / "daemon.py"
    script.write_text(_DAEMON)
    daemon = subprocess.Popen(  # noqa: ASYNC220 - starts at once
        [sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    child = int(await appear(tmp_path / "map-00000.1"))
    grandchild = int(await appear(tmp_path / "grandchild"))
    template = psutil.Process(child).ppid()
    daemon.kill()
    await asyncio.to_thread(daemon.wait)
    for pid in (child, grandchild, template):
        await gone(pid)
