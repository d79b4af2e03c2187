"""The writes that the store acknowledged to a client: so a store that came back older is noticed."""

from collections import OrderedDict

from mr.protocol.ids import JobId

#: Jobs remembered by one client, those written last.
MAX_JOBS = 10_000


class AcknowledgedWrites:
    """The generation of each job after the last write that the store acknowledged to this client."""

    def __init__(self) -> None:
        self._generations: OrderedDict[JobId, int] = OrderedDict()

    def of(self, job: JobId) -> int:
        """The generation that the store must have at least; 0 for a job never written here."""
        return self._generations.get(job, 0)

    def note(self, job: JobId, generation: int) -> None:
        """Note the generation a write led to; answers may overtake each other."""
        self.restart(job, max(generation, self.of(job)))

    def restart(self, job: JobId, generation: int) -> None:
        """Take a job over as the store has it, whatever was known of it before."""
        self._generations[job] = generation
        self._generations.move_to_end(job)
        while len(self._generations) > MAX_JOBS:
            self._generations.popitem(last=False)
