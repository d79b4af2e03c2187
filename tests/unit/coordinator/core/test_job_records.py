"""The first and the last record of a job."""

import msgspec

from mr.coordinator.core.job_records import bare_record, failed_record, unreadable_record
from mr.coordinator.core.transitions import JobCause
from mr.protocol.codec import pack, unpack
from mr.protocol.ids import JobId
from mr.protocol.records import JobRecord, JobState
from tests.contract import samples


def test_a_job_of_which_only_the_id_is_known_fails_with_the_reason() -> None:
    record = failed_record(unreadable_record(JobId("lost"), 5.0), "its record is damaged", 7.0)
    assert (record.job_id, record.state, record.cause) == ("lost", JobState.FAILED, "its record is damaged")
    assert [step.state for step in record.history] == [JobState.SUBMITTED, JobState.FAILED]
    assert record.history[-1].cause == f"{JobCause.BROKEN}: its record is damaged"


def test_bare_facts_can_be_stored_whatever_the_record_held() -> None:
    failed = failed_record(samples.record(name="\udcff" * 500), "\udcff" * 5000, 7.0)
    huge = msgspec.structs.replace(failed, attempts_failed=2**80)
    bare = bare_record(huge)
    assert unpack(pack(bare), JobRecord) == bare
    assert (bare.job_id, bare.state, bare.maps) == (failed.job_id, JobState.FAILED, failed.maps)
    assert bare.cause and bare.cause.isascii()
