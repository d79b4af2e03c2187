"""Names of parts and lists, and of what no path is made."""

import pytest

from mr.protocol.ids import Incarnation, JobId
from mr.protocol.part_names import (
    final_bad_records,
    final_part,
    temporary_bad_records,
    temporary_part,
)

JOB, LIFE = JobId("job-1"), Incarnation("life-1")


def test_each_attempt_has_names_of_its_own_below_the_job_s_directory() -> None:
    assert temporary_part("/out/", JOB, 3, 2, LIFE, "csv") == (
        "/out/_temporary/job-1/part-00003-attempt-2-life-1.csv"
    )
    assert temporary_bad_records("/out", JOB, 3, 2, LIFE) == (
        "/out/_temporary/job-1/bad-records-00003-attempt-2-life-1.jsonl"
    )


def test_what_stays() -> None:
    assert final_part("/out/", 3, "text") == "/out/part-00003"
    assert final_bad_records("s3://bucket/out/", 3) == "s3://bucket/out/_bad_records/map-00003.jsonl"


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".."])
def test_a_name_that_leads_elsewhere_makes_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="is not an id"):
        temporary_bad_records("/out", JOB, 3, 2, Incarnation(name))
    with pytest.raises(ValueError, match="is not an id"):
        temporary_part("/out", JobId(name), 3, 2, LIFE, "csv")
