"""The numbers behind decisions: delays, window sizes, bounds. Pure."""

import math

import xxhash

from mr.protocol.ids import JobId, TaskId
from mr.settings import Settings

#: Tasks of a priority level that may be published before a heartbeat shows how many slots there are.
MINIMUM_WINDOW = 4
#: Causes kept in a job's record; attempts with further causes are only counted.
MAX_FAILURE_GROUPS = 10
#: Task ids kept with each cause.
MAX_GROUP_TASKS = 10
#: Counters kept of a job, those whose names sort first. The record must not grow with the tasks if each
#: counts under names of its own.
MAX_JOB_COUNTERS = 1000
#: Least charge for a task when jobs share slots: about the time between two tasks in a slot.
MINIMUM_COST_SECONDS = 0.1
#: Greatest charge and least weight: they keep virtual time finite, whatever is reported or requested.
MAXIMUM_COST_SECONDS = 1e6
MINIMUM_WEIGHT = 0.001
#: A worker whose last heartbeat is older than this many `heartbeat_seconds` may be dead.
MISSED_BEATS = 1.5
#: Jobs remembered of which a worker failed tasks.
MAX_BLAMES = 64
#: Doublings after which the delay of a retry stays the same, whatever `retry_max_seconds` says.
MAX_DOUBLINGS = 30
#: After this many times `republish_seconds` a message is assumed lost even if the queue is not empty.
PATIENCE = 20
#: A lease not renewed for this many times `lease_seconds` is assumed dead, even if its worker beats.
LEASE_PATIENCE = 2
#: A worker is probed once in this many `heartbeat_seconds`, by one small message.
PROBE_BEATS = 0.5
#: In a large cluster each worker is probed less often, to spare the broker.
MAX_PROBES_PER_SECOND = 500
#: Workers silent for this many `heartbeat_seconds` are probed first.
LATE_BEATS = 1.25
#: After this many `heartbeat_seconds` of silence a refused port proves a death even if it never answered.
SILENT_BEATS = 3.0
#: Dead workers are forgotten after this many times `lease_seconds`.
FORGET_LEASES = 360
#: Attempts that a store may have granted unseen before it lost data and was rewritten.
ATTEMPT_GAP = 16


def chance(seed: int, *parts: object) -> float:
    """A number in [0, 1) that depends only on the arguments."""
    text = "\0".join(map(str, parts)).encode()
    return (xxhash.xxh3_64_intdigest(text, seed) >> 11) / (1 << 53)


def retry_delay_seconds(settings: Settings, seed: int, job: JobId, task: TaskId, tries: int) -> float:
    """The wait after `tries` attempts (from 1): doubled each time, capped, less up to half at random."""
    doublings = min(max(tries, 1) - 1, MAX_DOUBLINGS)
    full = min(settings.retry_base_seconds * 2.0**doublings, settings.retry_max_seconds)
    return full * (0.5 + 0.5 * chance(seed, job, task, tries))


def window_limit(settings: Settings, slots: int) -> int:
    """How many tasks of a priority level and above may be published and unfinished, given the slots."""
    return max(MINIMUM_WINDOW, math.ceil(settings.window_factor * slots))


def straggler_seconds(
    settings: Settings, median_seconds: float, median_bytes: int, input_bytes: int
) -> float:
    """How long an attempt may run before it is a straggler; longer if it has more input than the median task.

    `straggler_min_seconds` is added because start-up time varies by that much, however short the tasks are.
    """
    scale = max(1.0, input_bytes / max(1, median_bytes))
    return settings.straggler_min_seconds + settings.straggler_factor * median_seconds * scale


def most_finished(settings: Settings, finished: int, total: int) -> bool:
    """Whether enough tasks of a phase have finished to judge the others by their time."""
    return finished > 0 and total - finished <= max(1.0, (1.0 - settings.straggler_share) * total)


def backup_patience_seconds(settings: Settings) -> float:
    """The wait before a backup that no worker shows as running is published again.

    Its message may have gone to the worker that runs the task already, which drops it.
    """
    return 2.0 * settings.heartbeat_seconds + settings.tick_seconds


def aged_limit(slots: int) -> int:
    """How many tasks published by ageing may be unfinished at a time: half of the slots."""
    return max(1, slots // 2)
