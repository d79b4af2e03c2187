"""The tree of errors. A class's docstring is its default message and says what to do next."""

import inspect


class MrError(Exception):
    """Something went wrong in mrmq. Please report it with the command that led here."""

    #: What the command line exits with (0 done, 1 failed, 2 wrong use, 3 unreachable, 130 interrupted).
    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(self.__doc__ or ""))


class BadJob(MrError):
    """The job was refused. Correct what the message names and submit it again."""

    exit_code = 2


class BadSetting(MrError):
    """A setting has a value it cannot take. Correct the flag, the MR_* variable or mr.toml."""

    exit_code = 2


class BadMessage(MrError):
    """A message or record has the wrong shape. Check the sender's version against `mr schema`."""


class BadInput(MrError):
    """An input cannot be read. Check the path, its permissions and its format."""

    exit_code = 2


class OutputExists(BadJob):
    """The output directory is not empty. Choose another, or remove it first."""


class NotFound(MrError):
    """There is no such job, task or registered name. List them with `mr jobs`."""

    exit_code = 2


class ClusterUnreachable(MrError):
    """The cluster cannot be reached. `mr doctor` says what is missing."""

    exit_code = 3


class BrokerUnavailable(ClusterUnreachable):
    """RabbitMQ cannot be reached. Check MR_BROKER_URL and that the server runs."""


class StoreUnavailable(ClusterUnreachable):
    """Redis cannot be reached. Check MR_REDIS_URL and that the server runs."""


class Unroutable(MrError):
    """No queue takes the message. The process that made the queue has left."""


class Interrupted(MrError):
    """interrupted"""

    exit_code = 130


class Deposed(MrError):
    """Another coordinator took over, so this one's write was refused. Nothing has to be done."""


class StoreBehind(MrError):
    """The store has lost writes that it had acknowledged. What it lost has to be written back first."""


class UnencodableKey(MrError):
    """A key is of a type that has no order. Use None, bool, int, float, str, bytes or tuples of them."""

    #: Index of the record inside the chunk it came in; None when it is not known.
    row: int | None = None


class UnencodableValue(MrError):
    """A value cannot be stored. Use None, bool, int, float, str, bytes, list, tuple, dict or set."""

    #: Index of the record inside the chunk it came in; None when it is not known.
    row: int | None = None


class BadPartition(MrError):
    """`partition_fn` must return an int from 0 to the number of partitions less one. Correct it."""


class BadAggregate(MrError):
    """A built-in of `mr.agg` met a value it cannot take. Change what `map_fn` gives, or write `reduce_fn`."""


class ShuffleError(MrError):
    """A map output cannot be fetched or fails its checksum. The map task will be run again."""


class SegmentCorrupt(ShuffleError):
    """A segment's checksum does not match its bytes. The map task will be run again."""


class IllegalTransition(MrError, RuntimeError):
    """A job, task or attempt was given an event that its state does not allow. Nothing was changed.

    This is always a defect of mrmq: please report it with `history`, the events that led to the state.
    """

    def __init__(self, message: str, history: str = "") -> None:
        super().__init__(f"{message}; before that: {history}" if history else message)
        self.history = history
