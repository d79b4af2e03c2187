"""Map only: each record changed, none grouped. A job file."""

import time

import mr

JOB = mr.Job(reduces=0)


def map_init():
    """Take as long as the job's `pause` says."""
    time.sleep(float(mr.param("pause", "0")))


def map_fn(offset, record):
    """Give (place, the record with its name in capitals)."""
    mr.counter("records").add(1)
    yield record["place"], {**record, "name": record["name"].upper()}
