"""Every Redis key: written here and nowhere else."""

from mr.protocol.ids import CodeId, JobId, TaskKind, WorkerId

# All keys of a job share the hash tag {job id}: a script touches one slot of a Redis Cluster.

LEADER_KEY = "mr:leader"
EPOCH_KEY = "mr:epoch"
LEADER_SEEN_KEY = "mr:leader:seen"
IDENTITY_KEY = "mr:identity"
REFUSED_KEY = "mr:{refused}"
REFUSED_INDEX_KEY = "mr:{refused}:index"
JOBS_KEY = "mr:jobs"
REGISTRY_KEY = "mr:registry"
WORKERS_KEY = "mr:workers"

#: What the keys without a parameter hold.
KEY_MEANINGS = {
    LEADER_KEY: "String: who coordinates, with the lease as its time to live.",
    EPOCH_KEY: "String: the highest epoch ever given to a coordinator, and which call made it.",
    LEADER_SEEN_KEY: "String: when a coordinator last said that it leads: the store's time in milliseconds.",
    IDENTITY_KEY: "String: made up by whoever asks first; tells this database from others.",
    REFUSED_KEY: "Hash: job id -> msgpack Refusal, the newest 1000; expires.",
    REFUSED_INDEX_KEY: "Sorted set: the ids of refused requests, by the store's time.",
    JOBS_KEY: "Sorted set: the ids of all jobs still remembered, by time of submission.",
    REGISTRY_KEY: "Hash: registered name -> msgpack CodeManifest.",
    WORKERS_KEY: "Sorted set: the ids of the workers, by the store's time of their last heartbeat.",
}


def worker_key(worker: WorkerId) -> str:
    """Hash: the last heartbeat of one worker, `beat` = msgpack WorkerBeat; `former` = whom it replaced."""
    return f"mr:worker:{worker}"


def pause_key(worker: WorkerId) -> str:
    """String: why a worker is to take no tasks; expires with the pause."""
    return f"mr:pause:{worker}"


def drain_key(worker: WorkerId) -> str:
    """String: the incarnation of a worker that was asked to leave; expires."""
    return f"mr:drain:{worker}"


def code_key(code: CodeId) -> str:
    """Hash: `bundle`, `manifest` = msgpack CodeManifest, `name:NAME` for each name; expires if nameless."""
    return f"mr:bundle:{code}"


def job_key(job: JobId) -> str:
    """Hash: `record` = msgpack JobRecord, `epoch` of its last writing coordinator, `generation`, `logs_*`."""
    return f"mr:{{{job}}}:job"


def spec_key(job: JobId) -> str:
    """String: msgpack JobSpec, written once at acceptance."""
    return f"mr:{{{job}}}:spec"


def splits_key(job: JobId) -> str:
    """Hash: task id -> msgpack Split, for the map tasks."""
    return f"mr:{{{job}}}:splits"


def claims_key(job: JobId) -> str:
    """Hash: task id -> Claim; field `open` exists while the job may run tasks."""
    return f"mr:{{{job}}}:claims"


def results_key(job: JobId, kind: TaskKind) -> str:
    """Hash: task id -> msgpack TaskResult of the committed attempt."""
    return f"mr:{{{job}}}:results:{kind}"


def locations_key(job: JobId) -> str:
    """Hash: map task id -> packed Location of its committed output, `@...` -> packed Place."""
    return f"mr:{{{job}}}:locations"


def tasks_key(job: JobId) -> str:
    """Hash: task id -> msgpack TaskRecord, the coordinator's account of each task."""
    return f"mr:{{{job}}}:tasks"


def logs_key(job: JobId) -> str:
    """Hash: `task id/attempt` -> the captured output of that attempt."""
    return f"mr:{{{job}}}:logs"
