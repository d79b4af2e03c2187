"""Frames of messages that other systems publish with properties beyond decoding."""

import struct

from pika import frame, spec

from mr.adapters.rabbitmq.connection import UNREADABLE_PROPERTIES, _PikaConnection


def test_a_header_that_cannot_be_decoded_comes_without_its_properties() -> None:
    far = b"\x04when" + struct.pack(">cQ", b"T", 2**62)  # a time after the year 9999
    properties = struct.pack(">HL", spec.BasicProperties.FLAG_HEADERS, len(far)) + far
    payload = struct.pack(">HHQ", spec.BasicProperties.INDEX, 0, 6) + properties
    header = struct.pack(">BHL", spec.FRAME_HEADER, 3, len(payload)) + payload + bytes([spec.FRAME_END])
    connection = object.__new__(_PikaConnection)
    connection._frame_buffer = header + b"what follows"
    consumed, found = connection._read_frame()
    assert consumed == len(header)
    assert isinstance(found, frame.Header)
    assert (found.channel_number, found.body_size) == (3, 6)
    assert found.properties.content_type == UNREADABLE_PROPERTIES
