"""Map attempts that may skip bad records, all runs of one in this process."""

import asyncio
from pathlib import Path

from mr.protocol.failures import Failure
from mr.protocol.ids import TaskKind, task_id
from mr.protocol.jobs import Split
from mr.protocol.records import TaskResult
from mr.workers.daemon.record_search import RecordSearch
from mr.workers.messages import RunTask
from mr.workers.process.executor import Outcome
from mr.workers.task.entry import run_attempt
from mr.workers.usercode.failures import TaskError
from tests.support.attempts import Workbench


def search_map(bench: Workbench, split: Split) -> TaskResult | Failure:
    """Run a map attempt to its end, as the daemon does."""

    async def run(run_task: RunTask) -> Outcome:
        try:
            return Outcome(result=run_attempt(run_task, bench.watch))
        except TaskError as error:
            return Outcome(failure=error.failure)

    run_task = bench.run_task(task_id(TaskKind.MAP, split.index), split)
    outcome = asyncio.run(RecordSearch(run_task, split, run).outcome())
    found = outcome.result or outcome.failure
    assert found is not None
    return found


def listed(bench: Workbench) -> list[Path]:
    """The lists of bad records that attempts wrote."""
    return sorted((bench.output / "_temporary" / "job-1").glob("bad-records-*"))
