"""mrmq: MapReduce on the RabbitMQ and Redis you already run."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mrmq")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
