"""Identifiers, each of its own type, so that a job id is never passed where a worker id belongs."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple, NewType, TypeVar

from mr.protocol.bounds import Attempt

T = TypeVar("T")

#: One job. Chosen by the sender or made by the client; letters, digits, `.`, `_`, `-`; at most 64.
JobId = NewType("JobId", str)
#: One task of a job: `map-00012` or `reduce-00003`. Sorted with `task_sort_key`: as text, `map-100000`
#: comes before `map-99999`.
TaskId = NewType("TaskId", str)
#: One worker daemon, stable over its restarts when the operator names it.
WorkerId = NewType("WorkerId", str)
#: One process of a worker daemon, from its start to its end: chosen at random at the start.
Incarnation = NewType("Incarnation", str)
#: A code bundle by content: `sha256:<64 hex digits>`.
CodeId = NewType("CodeId", str)

# `$` alone also matches before a final newline.
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)"
TASK_ID_PATTERN = r"^(map|reduce)-[0-9]{5,9}$(?!\n)"
CODE_ID_PATTERN = r"^sha256:[0-9a-f]{64}$(?!\n)"


class TaskKind(StrEnum):
    """The two kinds of task a job is made of."""

    MAP = "map"
    REDUCE = "reduce"


class AttemptId(NamedTuple):
    """One attempt at a task of a job. A list of three on the wire.

    A store that came back older may give a number twice: where two such attempts can meet, the incarnation
    of the worker tells them apart.
    """

    job: JobId
    task: TaskId
    #: Counts from 1.
    number: Attempt

    def __str__(self) -> str:
        return f"{self.job} {self.task} attempt {self.number}"


def task_id(kind: TaskKind, index: int) -> TaskId:
    """Give the id of a task. Its index, from 0, is also the number of its split or partition."""
    return TaskId(f"{kind}-{index:05d}")


def task_ids(maps: int, reduces: int) -> Iterator[tuple[TaskKind, TaskId]]:
    """Kind and id of each task of a job: maps, then reduces, in order of index."""
    for kind, count in ((TaskKind.MAP, maps), (TaskKind.REDUCE, reduces)):
        for index in range(count):
            yield kind, task_id(kind, index)


def task_kind(task: TaskId) -> TaskKind:
    """Give the kind of a task. Raises ValueError for text that is not a task id."""
    return TaskKind(task.partition("-")[0])


def task_index(task: TaskId) -> int:
    """Give the number of a task's split (map) or partition (reduce)."""
    return int(task.partition("-")[2])


def task_sort_key(task: str) -> tuple[str, int, str]:
    """Give the key that sorts task ids by kind, then by index, however many digits it has.

    Text that is not a task id can be sorted, too.
    """
    kind, _, index = task.partition("-")
    digits = index.lstrip("0")
    return kind, len(digits), digits


def in_task_order(found: Mapping[TaskId, T]) -> dict[TaskId, T]:
    """Give the same items, sorted by kind and index of their task."""
    return {task: found[task] for task in sorted(found, key=task_sort_key)}


def is_id(text: str) -> bool:
    """Say whether `text` may serve as a job id, a worker id or a registered name."""
    return re.match(ID_PATTERN, text) is not None


def is_task_id(text: str) -> bool:
    """Say whether `text` has the form of a task id."""
    return re.match(TASK_ID_PATTERN, text) is not None
