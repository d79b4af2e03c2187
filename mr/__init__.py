"""mrmq: MapReduce on the RabbitMQ and Redis you already run.

What a job file may use: `mr.Job`, `mr.agg`, `mr.param`, `mr.counter`, `mr.input_path`.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mr.job import Job
from mr.runtime import counter, input_path, param

if TYPE_CHECKING:
    from mr import agg

try:
    __version__ = version("mrmq")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["Job", "__version__", "agg", "counter", "input_path", "param"]


def __getattr__(name: str) -> Any:
    """Import `mr.agg` when it is first used: it brings Arrow, which a plain job does without."""
    if name == "agg":
        return importlib.import_module("mr.agg")
    raise AttributeError(f"module 'mr' has no attribute {name!r}")
