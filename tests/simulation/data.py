"""Jobs on tiny data: their requests, their input, what is wrong with their code, and their reference."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from mr.protocol.ids import JobId, TaskId, TaskKind, task_id
from mr.protocol.jobs import JobRequest
from tests.simulation.files import SimulatedFileSystem
from tests.support.specs import CODE_ID

WORDS = ("ash", "birch", "cedar", "elm", "fir", "larch", "oak", "pine", "rowan", "yew")
_SPLIT_BYTES = 10


@dataclass
class SimulatedJob:
    """One job, as its owner asks for it."""

    request: JobRequest
    words: list[tuple[str, ...]]
    reduces: int
    max_attempts: int
    #: How many attempts of a task raise before one does not.
    flaky: dict[TaskId, int] = field(default_factory=dict)
    #: A task of which every attempt raises.
    doomed: TaskId | None = None
    #: Attempts of each task that raised.
    raised: Counter[TaskId] = field(default_factory=Counter)
    #: Attempts of each task that began.
    begun: Counter[TaskId] = field(default_factory=Counter)
    cancelled: bool = False

    @property
    def id(self) -> JobId:
        """Chosen by the owner."""
        assert self.request.job_id is not None
        return JobId(self.request.job_id)

    @property
    def output(self) -> str:
        """The output directory, inside the simulated file system."""
        return self.request.output.removeprefix("sim://")

    @property
    def parts(self) -> int:
        """How many output parts it has."""
        return self.reduces or len(self.words)

    def map(self, index: int) -> list[bytes]:
        """Run a map: the counts of the split's words, by partition."""
        counts: list[Counter[str]] = [Counter() for _ in range(self.reduces)]
        for word in self.words[index]:
            counts[partition(word, self.reduces)][word] += 1
        return [as_part(count.items()) for count in counts]

    def reference(self) -> list[bytes]:
        """The bytes of the output parts."""
        if self.reduces == 0:
            return [as_part((word, 1) for word in words) for words in self.words]
        total = Counter(word for words in self.words for word in words)
        return [
            as_part((word, n) for word, n in total.items() if partition(word, self.reduces) == index)
            for index in range(self.reduces)
        ]

    def raises(self, task: TaskId) -> bool:
        """Whether the user's code raises in the attempt that now ends."""
        if task == self.doomed or self.raised[task] < self.flaky.get(task, 0):
            self.raised[task] += 1
            return True
        return False


def as_part(counts: Iterable[tuple[str, int]]) -> bytes:
    """The bytes of some words and their counts."""
    return json.dumps(sorted(counts)).encode()


def merged(segments: Iterable[bytes]) -> bytes:
    """Run a reduce: the sum of some counts."""
    total: Counter[str] = Counter()
    for segment in segments:
        for word, count in json.loads(segment):
            total[word] += count
    return as_part(total.items())


def partition(word: str, partitions: int) -> int:
    """A fixed function of the word's bytes."""
    return crc32(word.encode()) % partitions


def make_job(chance: Random, number: int, large: bool) -> SimulatedJob:
    """Draw a job: a few maps, no to four reduces, a little flaky, sometimes doomed."""
    maps, reduces = chance.randint(1, 12 if large else 4), chance.choice((0, 1, 1, 2, 3))
    words = [tuple(chance.choices(WORDS, k=chance.randint(0, 8))) for _ in range(maps)]
    max_attempts = chance.randint(2, 5)
    SimulatedFileSystem.files[f"/in/{number}"] = b"." * (_SPLIT_BYTES * maps)
    request = JobRequest(
        version=1,
        job=CODE_ID,
        job_id=f"job-{number}",
        inputs=[f"sim:///in/{number}"],
        output=f"sim:///out/{number}",
        maps=maps,
        reduces=reduces,
        priority=chance.choice((0, 2, 2, 4)),
        weight=chance.choice((1.0, 1.0, 3.0)),
        max_attempts=max_attempts,
    )
    job = SimulatedJob(request, words, reduces, max_attempts)
    names = [task_id(TaskKind.MAP, i) for i in range(maps)]
    names += [task_id(TaskKind.REDUCE, i) for i in range(reduces)]
    for name in names:
        if chance.random() < 0.12:
            job.flaky[name] = chance.randint(1, max_attempts - 1)
    if chance.random() < 0.1:
        job.doomed = chance.choice(names)
    return job
