"""What an attempt prints: the first half and the last half of a fixed number of bytes."""


class Printed:
    """A bounded account of a stream of output; memory stays below `limit_bytes` and one chunk."""

    def __init__(self, limit_bytes: int) -> None:
        self._head_bytes = limit_bytes // 2
        self._tail_bytes = limit_bytes - self._head_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._total += len(data)
        room = self._head_bytes - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-self._tail_bytes :] if self._tail_bytes else b""
        excess = len(self._tail) - self._tail_bytes
        if excess > 0:
            del self._tail[:excess]

    def text(self) -> str:
        """Render what was kept, with a line in the middle that says how much was not."""
        dropped = self._total - len(self._head) - len(self._tail)
        gap = f"\n... {dropped} bytes left out ...\n".encode() if dropped else b""
        return (bytes(self._head) + gap + bytes(self._tail)).decode("utf-8", "replace")

    def last_lines(self, *, lines: int = 20, limit_bytes: int = 2048) -> str:
        """Render the end of the stream: at most so many lines and bytes."""
        kept = bytes(self._head + self._tail)[-limit_bytes:]
        text = kept.decode("utf-8", "replace").rstrip("\n")
        return "\n".join(text.split("\n")[-lines:])
