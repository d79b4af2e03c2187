"""Distributed grep: the lines that match a regular expression, with file and byte offset."""

import re

import mr

JOB = mr.Job(reduces=0)


def map_init():
    """Compile the pattern once for each task."""
    global search
    search = re.compile(mr.param("pattern")).search


def map_fn(offset, line):
    """Give ("file:offset", line) when the line matches."""
    if search(line):
        mr.counter("matching lines").add(1)
        yield f"{mr.input_path()}:{offset}", line
