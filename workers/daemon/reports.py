"""Reports of a worker to the coordinator, kept within the size limit of a message."""

import msgspec

from mr.errors import BadMessage
from mr.ports.broker import Broker, OutgoingMessage
from mr.protocol.codec import MAX_REPORT_BYTES, check_size, encode
from mr.protocol.failures import Failure
from mr.protocol.messages import Report, TaskFailed
from mr.protocol.queues import REPORTS_QUEUE

#: Longest text of one field of a failure, in a report that would be too large.
_TEXT_CHARACTERS = 4 * 1024
#: Lost inputs named in such a report; the next attempt names the rest.
_LOST_INPUTS = 1000


def encode_report(report: Report) -> bytes:
    """Encode a report, with shorter texts of a failure if need be. Raises BadMessage if still too large."""
    try:
        return _encoded(report)
    except BadMessage:
        if not isinstance(report, TaskFailed):
            raise
        return _encoded(msgspec.structs.replace(report, failure=_shortened(report.failure)))


def _encoded(report: Report) -> bytes:
    body = encode(report)
    check_size(body, f"a {type(report).__name__}", MAX_REPORT_BYTES)
    return body


def _shortened(failure: Failure) -> Failure:
    texts = {
        name: value[:_TEXT_CHARACTERS]
        for name in ("message", "traceback", "record", "reproduce", "output_tail")
        if len(value := getattr(failure, name)) > _TEXT_CHARACTERS
    }
    return msgspec.structs.replace(failure, lost=failure.lost[:_LOST_INPUTS], **texts)


async def publish_report(broker: Broker, body: bytes) -> None:
    """Return once the broker has confirmed the report."""
    await broker.publish(OutgoingMessage(routing_key=REPORTS_QUEUE, body=body))
