"""What a child says of itself has the bounds of the records that repeat it."""

import math

import msgspec
import pytest

from mr.workers.messages import FromChild, Progress


@pytest.mark.parametrize(
    "progress",
    [Progress(math.nan, 1, "map"), Progress(1e300, 1, "map"), Progress(0.5, 2**64 - 1, "map")],
)
def test_a_progress_that_no_heartbeat_can_repeat_is_refused(progress: Progress) -> None:
    """Else the worker's heartbeat could not be read, and the worker would be taken for dead."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(progress), type=FromChild)
