"""Which map outputs stay: those that a reduce still needs, and those of ended jobs that may be resumed."""

from mr.ports.jobs import JobStore
from mr.protocol.records import JobRecord


def needs_outputs(record: JobRecord) -> bool:
    """Whether some reduce of a job has yet to read what its maps made."""
    return not record.state.terminal and record.reduces_committed < record.reduces


async def is_kept(store: JobStore, record: JobRecord) -> bool:
    """Whether a job has ended, and its map outputs are kept for a resume. Raises BadMessage."""
    return record.state.terminal and record.kept and await store.get_spec(record.job_id) is not None
