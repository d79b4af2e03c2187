"""Real jobs on tiny data, with their reference, and the shared file system they write to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from mr.protocol.ids import JobId, TaskId, TaskKind, task_index, task_kind
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.records import Manifest, PartOutput
from tests.support.specs import make_spec, make_splits

WORDS = ("ash", "birch", "cedar", "elm", "fir", "larch", "oak", "pine", "rowan", "yew")

Part = dict[str, int] | tuple[str, ...]


@dataclass
class SimulatedJob:
    """A job's spec, its input and what is wrong with its code."""

    spec: JobSpec
    splits: tuple[Split, ...]
    words: list[tuple[str, ...]]
    #: How many attempts of a task raise before one does not.
    flaky: dict[TaskId, int] = field(default_factory=dict)
    #: A task of which every attempt raises.
    doomed: TaskId | None = None
    #: Attempts of each task that raised.
    raised: Counter[TaskId] = field(default_factory=Counter)
    cancelled: bool = False

    def map(self, index: int) -> list[Counter[str]]:
        """Run a map: counts of the split's words, by partition."""
        partitions: list[Counter[str]] = [Counter() for _ in range(self.spec.reduces)]
        for word in self.words[index]:
            partitions[partition(word, self.spec.reduces)][word] += 1
        return partitions

    def reference(self) -> list[Part]:
        """What the output parts must hold."""
        if self.spec.reduces == 0:
            return [tuple(words) for words in self.words]
        total = Counter(word for words in self.words for word in words)
        return [
            {word: n for word, n in sorted(total.items()) if partition(word, self.spec.reduces) == index}
            for index in range(self.spec.reduces)
        ]

    def raises(self, task: TaskId) -> bool:
        """Whether the user's code raises in the attempt that now ends."""
        if task == self.doomed or self.raised[task] < self.flaky.get(task, 0):
            self.raised[task] += 1
            return True
        return False


def partition(word: str, partitions: int) -> int:
    """A fixed function of the word's bytes."""
    return crc32(word.encode()) % partitions


def make_job(chance: Random, number: int, submitted_at: float) -> SimulatedJob:
    """Draw a job: one to nine maps, no to four reduces, a little flaky, sometimes doomed."""
    maps, reduces = chance.randint(1, 9), chance.choice((0, 1, 1, 2, 3, 4))
    words = [tuple(chance.choices(WORDS, k=chance.randint(0, 12))) for _ in range(maps)]
    spec = make_spec(
        f"job-{number}",
        maps,
        reduces,
        output=f"/out/{number}",
        priority=chance.choice((0, 2, 2, 4)),
        weight=chance.choice((1.0, 1.0, 3.0)),
        max_attempts=chance.randint(2, 5),
        task_memory=1,
        submitted_at=submitted_at,
    )
    job = SimulatedJob(spec, make_splits(maps), words)
    names = [TaskId(f"map-{i:05d}") for i in range(maps)] + [
        TaskId(f"reduce-{i:05d}") for i in range(reduces)
    ]
    for name in names:
        if chance.random() < 0.15:
            job.flaky[name] = chance.randint(1, spec.options.max_attempts - 1)
    if chance.random() < 0.1:
        job.doomed = chance.choice(names)
    return job


def part_key(output: PartOutput) -> str:
    """Under which name an attempt's part lies until it is published."""
    return f"{output.attempt.task}/{output.attempt.number}/{output.incarnation}"


class FileSystem:
    """The file system that workers and coordinator share: where the output parts are."""

    def __init__(self) -> None:
        #: By job and the name that the attempt gave its part.
        self.temporary: dict[tuple[JobId, str], Part] = {}
        self.final: dict[JobId, dict[int, Part]] = {}
        self.success: dict[JobId, Manifest] = {}
        #: Jobs whose `_temporary` directory exists: made at acceptance, removed as the last thing.
        self.prepared: set[JobId] = set()

    def publish(self, job: JobId, output: PartOutput) -> None:
        """Rename a committed attempt's part to its final name; nothing when that was done."""
        part = self.temporary.pop((job, part_key(output)), None)
        if part is not None:
            self.final.setdefault(job, {})[task_index(output.attempt.task)] = part

    def finish(self, parts: Sequence[PartOutput], manifest: Manifest) -> None:
        """Publish what is missing, write `_SUCCESS`, remove temporary parts."""
        for part in parts:
            self.publish(manifest.job_id, part)
        self.success[manifest.job_id] = manifest
        self.clear_temporary(manifest.job_id)

    def abandon(self, job: JobId) -> None:
        """Remove everything of a job that has not completed."""
        if job in self.success:
            return
        self.final.pop(job, None)
        self.clear_temporary(job)

    def clear_temporary(self, job: JobId) -> None:
        """Remove the temporary directory."""
        self.prepared.discard(job)
        for key in [key for key in self.temporary if key[0] == job]:
            del self.temporary[key]


def is_output(job: SimulatedJob, task: TaskId) -> bool:
    """Whether a task writes an output part."""
    return task_kind(task) is TaskKind.REDUCE or job.spec.reduces == 0


@dataclass
class Faults:
    """How unreliable the cluster of this seed is: probabilities a second, or an attempt."""

    crash: float
    blip: float
    disconnect: float
    slow: float
    infrastructure: float
    unreachable: float
