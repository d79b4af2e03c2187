"""Text encodings: which may be cut at a newline byte, and errors that name file and offset."""

import codecs
import re
from collections.abc import Iterator
from functools import lru_cache

from mr.errors import BadInput
from mr.formats.input.bad_records import MalformedRecord
from mr.formats.input.compression import Stream
from mr.formats.input.options import ReadOptions

#: Encodings in which the bytes of a line depend on the lines before it.
_STATEFUL = ("iso2022", "iso-2022", "hz", "utf-7", "punycode")

_BYTE_ORDER_MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}
_LONGEST_MARK = 4


@lru_cache(maxsize=64)
def canonical(encoding: str) -> str:
    """Return Python's name for a text encoding; `utf-8-sig` becomes `utf-8`. Raises BadInput."""
    try:
        "\n".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, UnicodeError, ValueError) as error:
        raise BadInput(f"{encoding!r} is not a text encoding; use --encoding utf-8, latin-1, ...") from error
    return "utf-8" if name == "utf-8-sig" else name


@lru_cache(maxsize=64)
def splits_at_newline(encoding: str) -> bool:
    """Return whether the byte 0x0A, and only it, ends a line. Raises BadInput for an unknown encoding."""
    name = canonical(encoding)
    return not name.startswith(_STATEFUL) and "\n".encode(name) == b"\n"


def undecodable(path: str, offset: int, encoding: str, error: UnicodeError) -> MalformedRecord:
    """Make the error for bytes that are not text; it names the place and the flags that help."""
    what = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
    shown = ""
    if isinstance(error, UnicodeDecodeError) and error.start < len(error.object):
        shown = f" 0x{error.object[error.start]:02x}"
    return MalformedRecord(
        f"{path}:{offset}: byte{shown} is not {encoding} ({what}); "
        "use --encoding NAME or --encoding-errors replace|surrogateescape"
    )


def decode(data: bytes | memoryview, path: str, offset: int, encoding: str, errors: str) -> str:
    """Decode bytes that begin at `offset` of a file. Raises BadInput naming the offending byte."""
    try:
        return str(data, encoding, errors)
    except UnicodeDecodeError as error:
        raise undecodable(path, offset + error.start, encoding, error) from error
    except UnicodeError as error:
        raise undecodable(path, offset, encoding, error) from error


def decode_stream(stream: Stream, options: ReadOptions) -> Iterator[tuple[str, int, int]]:
    """Decode a whole stream block by block.

    Yields text, the size in bytes of a byte order mark before it (0 after the first block), and how far the
    stored file was read. A mark is not part of the text. Raises BadInput.
    """
    encoding = options.job.encoding
    name = canonical(encoding)
    errors = options.job.encoding_errors
    if errors == "strict" and options.bad.tolerant:
        errors = "surrogateescape"  # the lines that hold an escaped byte are refused: see `undecoded`
    decoder = codecs.getincrementaldecoder(name)(errors)
    fed = 0
    first = True
    while True:
        data = stream.read(options.read_bytes)
        while 0 < fed + len(data) < _LONGEST_MARK and (more := stream.read(_LONGEST_MARK)):
            data += more
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, not data)
        except UnicodeDecodeError as error:
            raise undecodable(stream.path, fed - held + error.start, encoding, error) from error
        except UnicodeError as error:
            raise undecodable(stream.path, fed - held, encoding, error) from error
        mark = 0
        if fed == 0 and data.startswith(_BYTE_ORDER_MARKS.get(name, ())):
            mark = 4 if name == "utf-32" else 2
        fed += len(data)
        if first and text:
            first = False
            if text[0] == "\ufeff" and name not in _BYTE_ORDER_MARKS:
                mark = len("\ufeff".encode(name))
                text = text[1:]
        yield text, mark, stream.position()
        if not data:
            return


_ESCAPED = re.compile("[\udc80-\udcff]")


def undecoded(text: str, encoding: str) -> str:
    """What is wrong with text that was decoded with its undecodable bytes escaped; empty if nothing is."""
    found = _ESCAPED.search(text)
    return f"byte 0x{ord(found[0]) - 0xDC00:02x} is not {encoding}" if found else ""


def width_codec(name: str) -> str:
    """Name the codec that encodes a line of this encoding without a byte order mark."""
    return f"{name}-le" if name in _BYTE_ORDER_MARKS else name
