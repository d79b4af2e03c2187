"""mrmq: MapReduce on the RabbitMQ and Redis you already run.

What a job file may use: `mr.Job`, `mr.agg`, `mr.param`, `mr.counter`, `mr.input_path`.
"""

from importlib.metadata import PackageNotFoundError, version

from mr import agg
from mr.job import Job
from mr.runtime import counter, input_path, param

try:
    __version__ = version("mrmq")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["Job", "__version__", "agg", "counter", "input_path", "param"]
