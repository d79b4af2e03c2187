"""A simulated worker's disk: the map outputs that it serves, and those that its dead incarnations left."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from mr.adapters.memory.store import MemoryStore
from mr.protocol.ids import Incarnation, JobId, TaskId, WorkerId
from mr.protocol.records import MapOutput
from mr.workers.daemon.adoption import needs_outputs
from tests.simulation.world import now_or_never

#: Job, map task and attempt.
Key = tuple[JobId, TaskId, int]


@dataclass
class SimulatedSpool:
    """Files by what they are of; a file holds the counts of each partition."""

    served: dict[Key, list[Counter[str]]] = field(default_factory=dict)
    left: dict[tuple[Key, Incarnation], list[Counter[str]]] = field(default_factory=dict)

    def drop_job(self, job: JobId) -> None:
        """Delete what is served of a job."""
        for key in [key for key in self.served if key[0] == job]:
            del self.served[key]

    def sweep(self, store: MemoryStore) -> None:
        """Delete what is served of jobs that are over."""
        for job in {key[0] for key in self.served}:
            if now_or_never(store.get_spec(job)) is None:
                self.drop_job(job)

    def leave(self, incarnation: Incarnation) -> None:
        """End an incarnation: what it served lies there for the next one."""
        self.left.update({(key, incarnation): segments for key, segments in self.served.items()})
        self.served.clear()

    def needed(self, store: MemoryStore) -> bool:
        """Whether a reduce may still ask for something that is served."""
        records = [now_or_never(store.get_job(job)) for job in {key[0] for key in self.served}]
        return any(record is None or needs_outputs(record) for record in records)

    def adopt(self, store: MemoryStore, worker: WorkerId, incarnation: Incarnation) -> list[Key]:
        """Adopt what dead incarnations left and reduces need, delete the rest. Returns what was adopted."""
        adopted = []
        for (key, dead), segments in self.left.items():
            job, task, attempt = key
            record = now_or_never(store.get_job(job))
            outputs = {
                output.attempt.task: output for output in now_or_never(store.map_outputs(job)).unpack(job)
            }
            output = outputs.get(task)
            if output is None or (output.attempt.number, output.incarnation) != (attempt, dead):
                continue
            if record is not None and needs_outputs(record):
                here = self._here(output, worker, incarnation)
                if now_or_never(store.relocate(job, {task: (output.placement, here)})):
                    self.served[key] = segments
                    adopted.append(key)
        self.left.clear()
        return adopted

    @staticmethod
    def _here(output: MapOutput, worker: WorkerId, incarnation: Incarnation) -> MapOutput:
        return msgspec.structs.replace(output, worker=worker, incarnation=incarnation, address=f"{worker}:1")
