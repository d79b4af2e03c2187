"""The real store in memory behind a network, and what may happen to its server."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

from mr.adapters.memory.state import MemoryStoreServer
from mr.adapters.memory.store import MemoryStore
from mr.ports.store import StateStore
from mr.protocol.claims import Verdict
from mr.protocol.ids import AttemptId, JobId, TaskId
from mr.protocol.records import JobRecord
from tests.simulation.network import Link
from tests.simulation.world import WallClock, World

#: How often the state is noted to which the store may go back, and how often that was at most.
SNAPSHOT_SECONDS = 1.0
SNAPSHOTS = 6

#: Calls that change nothing: one delay is enough for them, and they are not asked again.
READS = frozenset(
    (
        "get_job",
        "list_jobs",
        "get_spec",
        "get_tasks",
        "get_results",
        "map_outputs",
        "get_code",
        "registered",
        "outcomes",
        "forgotten",
        "workers",
        "worker_pause",
        "is_to_drain",
        "last_epoch",
        "leader",
        "server_time",
        "warnings",
        "identity",
        "claims",
    )
)

#: Calls that carry a nonce to Redis: the same call, sent twice, gets the same answer.
NONCES = frozenset(("create_job", "acquire_lead"))


class SimulatedStoreServer:
    """What the daemons' stores share, and how it fails."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = WallClock(world, "the store")
        self.server = MemoryStoreServer()
        #: How each job ended, when its end was written first.
        self.ended: dict[JobId, JobRecord] = {}
        #: How many commits each job has seen.
        self.commits: Counter[JobId] = Counter()
        #: Tasks that were allowed a backup.
        self.backups: set[tuple[JobId, TaskId]] = set()
        #: Whether a coordinator may die: then no store may go back behind what it has acknowledged of a
        #: job's begin or end, because nobody is left who knows.
        self.keeps_promises = False
        self._snapshots: deque[MemoryStoreServer] = deque(maxlen=SNAPSHOTS)

    def connect(self, link: Link, who: str) -> StateStore:
        """A client of it."""
        return cast(StateStore, SimulatedStore(self, link, who))

    def empty(self) -> None:
        """Lose everything."""
        self.world.say("the store is emptied")
        self._snapshots.clear()
        self.server.flush()

    def go_back(self) -> None:
        """Return to the state of some seconds ago: the last writes are lost."""
        if self._snapshots:
            age = self.world.chance.randrange(len(self._snapshots))
            self.world.say(f"the store comes back as it was, {len(self._snapshots) - age} snapshots ago")
            self.server.go_back(self._snapshots[age])
            self._snapshots.clear()

    def note_snapshots(self) -> None:
        """Note the state from now on."""
        self._snapshots.append(self.server.snapshot())
        if self.world.troubled:
            self.world.after(SNAPSHOT_SECONDS, self.note_snapshots)

    def promise(self) -> None:
        """A job began or ended."""
        if self.keeps_promises:
            self._snapshots.clear()

    def note_end(self, record: JobRecord) -> None:
        """A job's end is written."""
        name = record.job_id
        if name in self.ended:
            self.world.say(f"{name} is ended again")
            assert self.ended[name].state == record.state, f"{name} ended as {self.ended[name].state}"
        else:
            self.world.say(f"{name} {record.state}: {record.cause}")
            self.ended[name] = record
        self.promise()


class SimulatedStore:
    """One daemon's store: every call travels, changes something, and travels back."""

    def __init__(self, server: SimulatedStoreServer, link: Link, who: str) -> None:
        self._server = server
        self._link = link
        self._who = who
        self._store = MemoryStore(server.clock.read, server.server)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method, note, reads = getattr(self._store, name), getattr(self, f"_note_{name}", None), name in READS

        async def call(*arguments: Any, **named: Any) -> Any:
            first: Any = None

            async def work() -> Any:
                nonlocal first
                if name in NONCES and first and self._is_there(name, first, arguments[0]):
                    return first
                answer = first = await method(*arguments, **named)
                if note is not None:
                    note(answer, *arguments)
                return answer

            return await self._link.call(work, reads=reads)

        self.__dict__[name] = call
        return call

    def _is_there(self, name: str, first: Any, subject: Any) -> bool:
        """Whether the store still shows the effect of the same call, sent before."""
        server = self._server.server
        if name == "create_job":
            entry = server.jobs.get(subject.job_id)
            return entry is not None and entry.spec == subject
        return bool(server.epoch == first)

    def _say(self, line: str) -> None:
        self._server.world.say(f"{self._who} {line}")

    # --- what the trace tells

    def _note_claim(self, reply: Any, job: JobId, task: str, *_: object) -> None:
        granted = f" {reply.attempt}" if reply.verdict is Verdict.GRANTED else ""
        self._say(f"asks for {job} {task}: {reply.verdict}{granted}")

    def _note_commit(self, won: bool, attempt: AttemptId, *_: object) -> None:
        self._server.commits[attempt.job] += won
        self._say(f"{'commits' if won else 'may not commit'} {attempt}")

    def _note_release(self, _: object, attempt: AttemptId, *__: object) -> None:
        self._say(f"gives {attempt} back")

    def _note_renew(self, stopped: Any, job: JobId, *_: object) -> None:
        if stopped:
            self._say(f"may not go on with {job} {sorted(stopped)}")

    def _note_relocate(self, moved: Any, job: JobId, asked: Any) -> None:
        if asked:
            self._say(f"adopts {len(moved)} of {len(asked)} outputs of {job}")

    def _note_heartbeat(self, owner: Any, beat: Any, *_: object) -> None:
        if owner is not None:
            self._say(f"is refused its id, which {owner.beat.incarnation} has")

    def _note_create_job(self, created: bool, spec: Any, *_: object) -> None:
        self._say(f"creates {spec.job_id}: {created}")
        self._server.promise()

    def _note_end_job(self, _: object, record: JobRecord, *__: object) -> None:
        self._server.note_end(record)

    def _note_reopen(self, _: object, job: JobId, lost: Any, *__: object) -> None:
        self._say(f"declares lost of {job}: {list(lost)}")

    def _note_release_dead(self, _: object, job: JobId, leases: Any, *__: object) -> None:
        self._say(f"gives back leases of the dead in {job}")

    def _note_speculate(self, _: object, job: JobId, tasks: Any, *__: object) -> None:
        self._server.backups.update((job, task) for task in tasks)
        self._say(f"allows {job} a backup of {list(tasks)}")

    def _note_rewrite(self, _: object, job: Any, *__: object) -> None:
        self._say(f"writes {job.spec.job_id} back")

    def _note_restore(self, jobs: Any, epoch: int, known: Any) -> None:
        self._say(f"leads from epoch {epoch} on with {[str(job.spec.job_id) for job in jobs]}")

    def _note_pause_worker(self, _: object, worker: str, pause: Any) -> None:
        self._say(f"has {worker} paused: {pause.reason}")
