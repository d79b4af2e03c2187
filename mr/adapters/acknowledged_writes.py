"""The writes that a store acknowledged to one client, to notice a store that came back in an older state."""

from collections import OrderedDict

from mr.protocol.ids import JobId

#: Most jobs that one client remembers: the ones written last.
MAX_JOBS = 10_000


class AcknowledgedWrites:
    """The generation of each job after the last write that the store acknowledged to this client."""

    def __init__(self) -> None:
        self._generations: OrderedDict[JobId, int] = OrderedDict()

    def of(self, job: JobId) -> int:
        """The lowest generation that the store may have; 0 for a job that this client never wrote."""
        return self._generations.get(job, 0)

    def note(self, job: JobId, generation: int) -> None:
        """Note the generation that a write led to. Answers may arrive out of order."""
        self.restart(job, max(generation, self.of(job)))

    def restart(self, job: JobId, generation: int) -> None:
        """Accept a job as the store has it, whatever was known of it before."""
        self._generations[job] = generation
        self._generations.move_to_end(job)
        while len(self._generations) > MAX_JOBS:
            self._generations.popitem(last=False)
