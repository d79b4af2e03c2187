"""Encoding and decoding: what cannot be one or the other is a bad message."""

import msgspec
import pytest

from mr.errors import BadMessage
from mr.protocol.codec import JSON, decode, encode, pack, unpack
from mr.protocol.jobs import RequestReply
from mr.protocol.messages import PauseWorker
from mr.protocol.records import JobRecord
from tests.contract import samples


def test_half_characters_are_spelt_out() -> None:
    reply = RequestReply(accepted=False, reason="no file a\udcff")
    assert b"a\\\\udcff" in encode(reply, JSON)
    record = msgspec.structs.replace(samples.record(), cause="a\udcff")
    assert unpack(pack(record), JobRecord).cause == "a\\udcff"


def test_what_cannot_be_encoded_or_is_missing_is_a_bad_message() -> None:
    with pytest.raises(BadMessage, match="a PauseWorker cannot be encoded"):
        encode(PauseWorker(samples.ANN, 10**400, ""))
    with pytest.raises(BadMessage, match="a stored JobRecord is missing"):
        unpack(None, JobRecord)


@pytest.mark.parametrize("content_type", ["application/x", "\udcff", ""])
def test_a_content_type_of_any_kind_is_bad_or_json(content_type: str) -> None:
    try:
        decode(b"1", int, content_type)
    except BadMessage:
        return
    assert content_type == ""
