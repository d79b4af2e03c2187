"""Records as `--json` prints them."""

import json

import msgspec

from mr.protocol.codec import as_json
from mr.protocol.failures import Failure, FailureKind, LostInput
from mr.protocol.records import FailureGroup, JobRecord, TaskStats
from tests.contract import samples


def test_json_has_every_field_of_a_record_whatever_it_holds() -> None:
    failures = (FailureGroup(Failure(FailureKind.USER_ERROR, "no"), 1, ()),)
    record = msgspec.structs.replace(samples.record(), maps_committed=0, failures=failures)
    printed = json.loads(as_json(record))
    assert set(printed) == set(JobRecord.__struct_fields__)
    assert printed["maps_committed"] == 0
    assert printed["stats"] == msgspec.structs.asdict(TaskStats())
    assert set(printed["failures"][0]["failure"]) == set(Failure.__struct_fields__)


def test_json_is_read_back_as_the_same_record() -> None:
    failure = Failure(FailureKind.INPUT_LOST, "gone", lost=(LostInput(samples.MAP_0, 1, samples.ANN),))
    record = samples.record(failures=(FailureGroup(failure, 1, ()),))
    assert msgspec.json.decode(as_json(record), type=JobRecord) == record
