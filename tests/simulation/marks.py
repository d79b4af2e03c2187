"""How the trace shows that a kind of trouble was met."""

from collections.abc import Iterable, Sequence

#: Kind of trouble -> what stands in a line of the trace then.
MARKS = {
    "a worker is killed": " crashes with [",
    "a worker's disk is lost": " loses its disk",
    "a worker stops in good order": " is asked to stop",
    "a worker leaves at once": " is asked to leave at once",
    "a worker drains": " is to drain",
    "a worker or coordinator freezes": " freezes for",
    "what was frozen goes on": " goes on",
    "a name that another worker has": " is refused its id",
    "a worker ends because its name is taken": " ends: WorkerIdTaken",
    "map outputs are adopted": " adopts ",
    "the way to a server is cut there": " is cut there for",
    "the way to a server is cut back": " is cut back for",
    "the way to a server is cut both ways": " is cut both ways for",
    "a host does not reach another": " does not reach ",
    "the connection to the broker is lost": " loses its connection to the broker",
    "the broker restarts": "the broker restarts",
    "a task message is lost": "the broker drops a task message",
    "a message comes twice": "the broker doubles a message",
    "a worker misses a control message": " misses a message",
    "a message is forged": "somebody forges a ",
    "an answer is lost": "an answer to ",
    "the store is slow": "the store is slow",
    "the store is emptied": "the store is emptied",
    "the store loses its last writes": "the store comes back as it was",
    "the store's clock jumps": "the clock of the store jumps",
    "a worker's clock jumps": "the clock of host-",
    "a coordinator's clock jumps": "the clock of coordinator-",
    "a disk is full": "the disk of ",
    "the file system is away": "the file system is away",
    "a coordinator dies": " dies",
    "a coordinator takes over jobs": " on with ['",
    "a job is written back": " back",
    "a job is ended again": " is ended again",
    "a job id is used twice": "client: another request under",
    "a claim is held by another": ": held",
    "a task that is committed is asked for": ": committed",
    "a task of an ended job is asked for": ": gone",
    "a commit is refused": " may not commit ",
    "a lease is gone": " may not go on with ",
    "a lease is given back": " gives job-",
    "leases of the dead are given back": " gives back leases of the dead",
    "map outputs are declared lost": " declares lost ",
    "a backup is allowed": " a backup of ",
    "a worker is paused": " paused: ",
    "a job completes": " COMPLETED",
    "a job fails": " FAILED: ",
    "a job is cancelled": " CANCELLED: ",
}


def marks_in(trace: Iterable[str]) -> Sequence[str]:
    """The kinds of trouble that a trace shows."""
    whole = "\n".join(trace)
    return [kind for kind, mark in MARKS.items() if mark in whole]
