"""The names of all Redis keys."""

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

#: What each key without a parameter holds.
KEY_MEANINGS = {
    LEADER_KEY: "String: the coordinator that leads; its time to live is the lease.",
    EPOCH_KEY: "String: the highest epoch given to a coordinator, and the nonce of the call that made it.",
    LEADER_SEEN_KEY: "String: when a coordinator last confirmed its lead: the store's time in milliseconds.",
    IDENTITY_KEY: "String: made by the first client that asks; distinguishes this database from others.",
    REFUSED_KEY: "Hash: job id -> msgpack Refusal, the newest 1000; expires.",
    REFUSED_INDEX_KEY: "Sorted set: the ids of refused requests, by the store's time.",
    JOBS_KEY: "Sorted set: the ids of all jobs still remembered, by time of submission.",
    REGISTRY_KEY: "Hash: registered name -> msgpack CodeManifest.",
    WORKERS_KEY: "Sorted set: the ids of the workers, by the store's time of their last heartbeat.",
}


def worker_key(worker: WorkerId) -> str:
    """Hash: a worker's last heartbeat, `beat` = msgpack WorkerBeat; `former` = what it replaced."""
    return f"mr:worker:{worker}"


def pause_key(worker: WorkerId) -> str:
    """String: why a worker is paused; expires with the pause."""
    return f"mr:pause:{worker}"


def drain_key(worker: WorkerId) -> str:
    """String: the incarnation of a worker that was asked to leave; expires."""
    return f"mr:drain:{worker}"


def code_key(code: CodeId) -> str:
    """Hash: `bundle`, `manifest` = msgpack CodeManifest, `name:NAME` for each name; expires if nameless."""
    return f"mr:bundle:{code}"


def job_key(job: JobId) -> str:
    """Hash: `record` = msgpack JobRecord, `epoch` of its last writer, `generation`, `logs_*`."""
    return f"mr:{{{job}}}:job"


def spec_key(job: JobId) -> str:
    """String: msgpack JobSpec, written once, when the job is accepted."""
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
    """Hash: task id -> msgpack TaskRecord, as the coordinator sees the task."""
    return f"mr:{{{job}}}:tasks"


def logs_key(job: JobId) -> str:
    """Hash: `task id/attempt` -> the captured output of that attempt."""
    return f"mr:{{{job}}}:logs"
