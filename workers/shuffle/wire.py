"""What reducers and shuffle servers say to each other over HTTP.

POST /v1/jobs/{job_id}/partitions/{partition}, `Authorization: Bearer TOKEN`, body = msgpack
FetchRequest. The answer is the segments one after the other, as they lie in the files:

  200  the bytes from `offset` on, with Content-Length
  401  no token · 403 not this job's · 400 not a request · 416 an offset beyond the end
  404  body = msgpack list of [task, attempt]: these outputs are not here (all of them: unknown job)
  503  as many transfers as allowed are under way: try again
"""

import msgspec

from mr.protocol.ids import JobId, TaskId

MSGPACK = "application/msgpack"

#: Largest request: some 100,000 outputs of one worker.
MAX_REQUEST_BYTES = 4 * 1024 * 1024


class FetchRequest(msgspec.Struct, frozen=True):
    """One partition's segments of several map outputs of one worker, concatenated."""

    #: Map task and attempt, in the order in which the segments are wanted.
    outputs: tuple[tuple[TaskId, int], ...]
    #: Bytes of the whole answer already had, where an earlier transfer broke off.
    offset: int = 0


def fetch_path(job: JobId, partition: int) -> str:
    """The path of the URL for one partition of one job."""
    return f"/v1/jobs/{job}/partitions/{partition}"
