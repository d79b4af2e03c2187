"""Bundles as somebody with bad intent would make them."""

import io
import struct
import zipfile
from collections.abc import Callable

JOB = b"def map_fn(key, line):\n    yield line, 1\n"


def zipped(members: list[tuple[str, bytes, int]]) -> bytes:
    """A zip of (name, content, Unix mode), names as they are."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return target.getvalue()


def with_job(*members: tuple[str, bytes, int]) -> bytes:
    """A bundle with a job file and these members."""
    return zipped([("job.py", JOB, 0o100644), *members])


def unnamed() -> bytes:
    """A member whose name is empty."""
    data = bytearray(with_job(("y", b"", 0o100644)))
    for signature, at in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        place = data.rindex(signature)
        data[place + at : place + at + 2] = struct.pack("<H", 0)
        name = place + (30 if signature == b"PK\x03\x04" else 46)
        del data[name : name + 1]
    end = data.rindex(b"PK\x05\x06")
    directory = data.index(b"PK\x01\x02")
    data[end + 12 : end + 20] = struct.pack("<LL", end - directory, directory)
    return bytes(data)


def bomb(unpacked_bytes: int) -> bytes:
    """A small bundle that unpacks to a large one."""
    return with_job(("zeros", bytes(unpacked_bytes), 0o100644))


POISON: dict[str, Callable[[], bytes]] = {
    "no zip": lambda: b"not a zip",
    "empty": lambda: b"",
    "unnamed": unnamed,
    "absolute": lambda: with_job(("/tmp/evil.py", b"", 0o100644)),
    "outside": lambda: with_job(("../evil.py", b"", 0o100644)),
    "folder": lambda: with_job(("folder/", b"", 0o40755)),
    "dot": lambda: with_job((".", b"", 0o100644)),
    "link": lambda: with_job(("link", b"/etc/passwd", 0o120777)),
    "device": lambda: with_job(("device", b"", 0o20666)),
    "twice": lambda: with_job(("a.py", b"1", 0o100644), ("a.py", b"2", 0o100644)),
    "same place": lambda: with_job(("a.py", b"1", 0o100644), ("./a.py", b"2", 0o100644)),
    "file as folder": lambda: with_job(("a", b"1", 0o100644), ("a/b", b"2", 0o100644)),
    "long name": lambda: with_job(("x" * 300, b"", 0o100644)),
    "long path": lambda: with_job(("/".join(["x" * 200] * 10), b"", 0o100644)),
    "NUL": lambda: with_job(("a\0b", b"", 0o100644)),
    "bomb": lambda: bomb(300 * 1024 * 1024),
    "many": lambda: with_job(*((f"f{n}", b"", 0o100644) for n in range(10_001))),
    "another entry": lambda: zipped([("other.py", JOB, 0o100644)]),
}
