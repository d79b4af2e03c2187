"""How an attempt's failure is told: what to free, what to run again, each cause once."""

import errno
import shlex
from pathlib import Path

import pytest

from mr.error_text import safe_repr
from mr.workers.messages import RunTask
from mr.workers.usercode.failures import infrastructure_failure, refused
from tests.support.run_tasks import make_run_task
from tests.support.specs import make_spec


def order_of(tmp_path: Path, task: str, attempt: int = 1) -> RunTask:
    run_task = make_run_task(tmp_path, make_spec(output="/data/out"), task, attempt)
    Path(run_task.code_dir).mkdir(exist_ok=True)
    return run_task


@pytest.mark.parametrize(("task", "told"), [("map-00000", False), ("reduce-00000", True)])
def test_a_full_disk_is_told_with_every_place_the_task_writes_to(
    tmp_path: Path, task: str, told: bool
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    message = infrastructure_failure(order_of(tmp_path, task), error).message
    assert str(tmp_path) in message
    assert ("/data/out" in message) is told


def test_a_full_disk_is_one_cause_however_many_attempts_it_struck(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    run_tasks = [
        order_of(tmp_path, "map-00000"),
        order_of(tmp_path, "map-00000", 2),
        order_of(tmp_path, "map-00001"),
    ]
    assert len({infrastructure_failure(run_task, error).signature for run_task in run_tasks}) == 1


def test_a_wrong_partition_is_reproduced_with_as_many_partitions(tmp_path: Path) -> None:
    run_task = order_of(tmp_path, "map-00000")
    assert shlex.split(refused(run_task, "partition_fn", "no").failure.reproduce)[-2:] == ["--reduces", "2"]
    assert "--reduces" not in refused(run_task, "map_fn", "no").failure.reproduce


def test_objects_that_show_their_address_are_shown_alike() -> None:
    shown = {safe_repr(object()), safe_repr([object()])[1:-1], safe_repr(object())}
    assert shown == {"<object object at 0x...>"}
