"""Built-in aggregations on rows of Parquet files. A job file."""

import time

import mr


def map_init():
    """Take as long as the job's `pause` says."""
    time.sleep(float(mr.param("pause", "0")))


def map_fn(number, row):
    """Give (place, (amount, amount, amount))."""
    mr.counter("records").add(1)
    yield row["place"], (row["amount"], row["amount"], row["amount"])


def reduce_init():
    """As `map_init`."""
    time.sleep(float(mr.param("pause", "0")))


reduce_fn = mr.agg.each(mr.agg.sum, mr.agg.mean, mr.agg.last)
