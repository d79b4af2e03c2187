"""Identifiers, each a type of its own, so that a job id never stands where a worker id belongs."""

import re
from enum import StrEnum
from typing import NewType

#: One job. Chosen by the sender or made by the client; letters, digits, `.`, `_`, `-`; at most 64.
JobId = NewType("JobId", str)
#: One task of a job: `map-00012` or `reduce-00003`. Sorts by kind, then by index.
TaskId = NewType("TaskId", str)
#: One worker daemon, stable over its restarts when the operator names it.
WorkerId = NewType("WorkerId", str)
#: One life of a worker daemon: made at random at its start.
Incarnation = NewType("Incarnation", str)
#: A code bundle by content: `sha256:<64 hex digits>`.
CodeId = NewType("CodeId", str)

# `$` alone would let a line end follow.
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)"
CODE_ID_PATTERN = r"^sha256:[0-9a-f]{64}$(?!\n)"


class TaskKind(StrEnum):
    """The two kinds of task a job is made of."""

    MAP = "map"
    REDUCE = "reduce"


def task_id(kind: TaskKind, index: int) -> TaskId:
    """Name the task `index` (from 0) of `kind`; also the number of its split or partition."""
    return TaskId(f"{kind}-{index:05d}")


def task_kind(task: TaskId) -> TaskKind:
    """Tell the kind of a task from its id. Raises ValueError for what is not a task id."""
    return TaskKind(task.partition("-")[0])


def task_index(task: TaskId) -> int:
    """Tell the split number (map) or partition number (reduce) of a task from its id."""
    return int(task.partition("-")[2])


def is_id(text: str) -> bool:
    """Say whether `text` may serve as a job id, a worker id or a registered name."""
    return re.match(ID_PATTERN, text) is not None
