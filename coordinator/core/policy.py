"""The numbers behind decisions: delays, window sizes, bounds. Pure."""

import math

import xxhash

from mr.protocol.ids import JobId, TaskId
from mr.settings import Settings

#: Messages of a priority level that may be out before the first heartbeat shows how many slots there are.
MINIMUM_WINDOW = 4
#: Causes kept in a job's record; attempts with further causes are only counted.
MAX_FAILURE_GROUPS = 10
#: Task ids kept with each cause.
MAX_GROUP_TASKS = 10
#: Counters of a job, those whose names sort first: tasks that each count under names of their own must not
#: make a record that grows with the tasks.
MAX_JOB_COUNTERS = 1000
#: Least charge for a task when jobs share slots: about what passes between two tasks of a slot.
MINIMUM_COST_SECONDS = 0.1
#: ... and at most, and the least weight: whatever is reported or asked for, virtual time stays finite.
MAXIMUM_COST_SECONDS = 1e6
MINIMUM_WEIGHT = 0.001
#: A worker whose last heartbeat is older than this many of them may be dead, though its lease runs on.
MISSED_BEATS = 1.5
#: Jobs remembered against one worker.
MAX_BLAMES = 64
#: Doublings after which the delay of a retry grows no more, whatever `retry_max_seconds` says.
MAX_DOUBLINGS = 30
#: After this many times `republish_seconds` a message is taken for lost even while others are queued.
PATIENCE = 20
#: A lease not renewed for this many times `lease_seconds` is taken for dead, whatever its worker says.
LEASE_PATIENCE = 2
#: A worker's process is asked for once in this many `heartbeat_seconds`: a death is noticed within that time,
#: at the price of one small message.
PROBE_BEATS = 0.5
#: In a large cluster less often, so that the broker is not kept busy by it.
MAX_PROBES_PER_SECOND = 500
#: A worker not heard of for this many `heartbeat_seconds` goes first.
LATE_BEATS = 1.25
#: After this many `heartbeat_seconds` of silence a refused port proves a death also where it never answered.
SILENT_BEATS = 3.0
#: Dead workers are forgotten after this many times `lease_seconds`.
FORGET_LEASES = 360
#: Attempts that may have been granted without our knowledge when an emptied store is written again.
ATTEMPT_GAP = 16


def chance(seed: int, *parts: object) -> float:
    """Draw a number in [0, 1) that depends on nothing but the arguments."""
    text = "\0".join(map(str, parts)).encode()
    return (xxhash.xxh3_64_intdigest(text, seed) >> 11) / (1 << 53)


def retry_delay_seconds(settings: Settings, seed: int, job: JobId, task: TaskId, tries: int) -> float:
    """Wait before the next attempt, after `tries` (from 1): doubling, capped, less up to a half by chance."""
    doublings = min(max(tries, 1) - 1, MAX_DOUBLINGS)
    full = min(settings.retry_base_seconds * 2.0**doublings, settings.retry_max_seconds)
    return full * (0.5 + 0.5 * chance(seed, job, task, tries))


def window_limit(settings: Settings, slots: int) -> int:
    """How many tasks of a priority level and above may be published and unfinished, given the live slots."""
    return max(MINIMUM_WINDOW, math.ceil(settings.window_factor * slots))


def straggler_seconds(
    settings: Settings, median_seconds: float, median_bytes: int, input_bytes: int
) -> float:
    """How long an attempt may run before it is a straggler; more input than the median's excuses it.

    `straggler_min_seconds` on top: what starting takes varies by as much, however short the tasks are.
    """
    scale = max(1.0, input_bytes / max(1, median_bytes))
    return settings.straggler_min_seconds + settings.straggler_factor * median_seconds * scale


def most_finished(settings: Settings, finished: int, total: int) -> bool:
    """Whether so many of a phase's tasks have finished that the others can be held to their time."""
    return finished > 0 and total - finished <= max(1.0, (1.0 - settings.straggler_share) * total)


def backup_patience_seconds(settings: Settings) -> float:
    """Wait before a backup that nobody is seen to run is published again.

    Its message may have been handed to the worker that runs the task, which drops it.
    """
    return 2.0 * settings.heartbeat_seconds + settings.tick_seconds


def aged_limit(slots: int) -> int:
    """How many tasks published by ageing may be out at a time: half of the slots."""
    return max(1, slots // 2)
