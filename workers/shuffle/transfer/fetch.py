"""Fetches a reducer's inputs: the segments of one partition out of all committed map outputs.

On the same host the file is opened where it lies. From every other worker, ONE request brings all its
segments as one stream into one file of the attempt's directory; memory in flight is
`fetch_bytes` a worker. Every segment's checksum is checked before any of them is used.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mr.errors import SegmentCorrupt, ShuffleError
from mr.protocol.failures import Loss, LostInput
from mr.protocol.ids import task_sort_key
from mr.protocol.records import MapOutput
from mr.workers.messages import RunTask
from mr.workers.shuffle.segment_index import SegmentRef, find_segment
from mr.workers.shuffle.transfer.host_fetch import Fetched, HostFetch, ShuffleSource

#: Workers fetched from at once.
MAX_HOSTS = 8


class InputLost(ShuffleError):
    """Map outputs cannot be fetched from where they should be. The reduce will be run again."""

    def __init__(self, lost: Sequence[LostInput], message: str | None = None) -> None:
        super().__init__(message)
        #: Empty if the only trouble is that a worker is busy.
        self.lost = tuple(lost)


#: Called with each further number of bytes that are known to be the attempt's input, and with 0 now and then.
OnInput = Callable[[int], None]


def open_sources(
    run_task: RunTask, partition: int, on_input: OnInput = lambda more: None
) -> list[ShuffleSource]:
    """Open or fetch this partition of all map outputs, in map order, without empty segments.

    `on_input` is called by one thread at a time. Raises InputLost, naming every output that could not be
    fetched, OSError when the attempt's own directory cannot be written, and BadMessage.
    """
    outputs = run_task.map_outputs.unpack(run_task.attempt.job)
    sources: dict[str, ShuffleSource] = {}
    remote: dict[str, list[MapOutput]] = {}
    for output in outputs:
        segment = _local_segment(run_task, output, partition)
        if segment is not None:
            sources[output.attempt.task] = ShuffleSource(output, segment, fetched=False)
        else:
            remote.setdefault(output.address, []).append(output)
    on_input(sum(source.bytes for source in sources.values()))
    reasons: set[str] = set()
    lost: list[tuple[MapOutput, Loss]] = []
    for fetched in _fetch_all(run_task, partition, remote, on_input):
        sources.update({source.output.attempt.task: source for source in fetched.sources})
        lost.extend(fetched.lost)
        reasons.update([fetched.reason] if fetched.reason else [])
    if reasons:
        raise lost_inputs(lost, "; ".join(sorted(reasons)))
    return [source for output in outputs if (source := sources[output.attempt.task]).bytes]


def lost_inputs(outputs: Iterable[tuple[MapOutput, Loss]], reason: str) -> InputLost:
    """The exception that names these map outputs as lost, and what was found in their place."""
    lost = [
        LostInput(output.attempt.task, output.attempt.number, output.worker, output.incarnation, found)
        for output, found in sorted(outputs, key=lambda item: task_sort_key(item[0].attempt.task))
    ]
    if not lost:
        return InputLost((), f"map outputs cannot be had yet: {reason}")
    names = ", ".join(item.task_id for item in lost[:5]) + (" ..." if len(lost) > 5 else "")
    return InputLost(lost, f"{len(lost)} map outputs are lost ({names}): {reason}")


def _local_segment(run_task: RunTask, output: MapOutput, partition: int) -> SegmentRef | None:
    """The segment where the mapper wrote it, if that is on this host and can be read."""
    if output.address and not (
        run_task.settings.shuffle_local_reads and output.host == run_task.identity.host
    ):
        return None
    try:
        return find_segment(Path(output.path), partition)
    except (
        OSError,
        SegmentCorrupt,
    ):  # gone, damaged or unreadable: the worker may still serve it
        return None


def _fetch_all(
    run_task: RunTask, partition: int, remote: dict[str, list[MapOutput]], on_input: OnInput
) -> list[Fetched]:
    """Fetch from several workers at once: what came, what did not, and why."""
    if not remote:
        return []
    lock, doomed = threading.Lock(), threading.Event()

    def tell(more: int) -> None:
        with lock:
            on_input(more)

    jobs = [
        HostFetch(run_task, partition, outputs, Path(run_task.work_dir) / f"fetched-{number}", tell, doomed)
        for number, (_, outputs) in enumerate(sorted(remote.items()))
    ]
    with ThreadPoolExecutor(min(MAX_HOSTS, len(jobs))) as pool:
        return list(pool.map(HostFetch.run, jobs))
