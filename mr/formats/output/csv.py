"""Format `csv`: a header `key,value` and a row for each pair; None is an empty cell; rows end with \\n."""

import re
from collections.abc import Sequence
from typing import Any

from mr.formats.output.lines import LineWriter, encode_text, texts


class Writer(LineWriter):
    """Writes the header, then the rows."""

    _SPECIAL = re.compile('[",\r\n]')

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        file.write(b"key,value\n")

    def lines(self, keys: Sequence[Any], values: Sequence[Any]) -> bytes:
        """Make rows of pairs."""
        rows = [f"{key},{value}\n" for key, value in zip(self._cells(keys), self._cells(values), strict=True)]
        return encode_text("".join(rows))

    def _cells(self, items: Sequence[Any]) -> list[str]:
        cells = texts(items)
        if type(None) in set(map(type, items)):
            cells = ["" if item is None else cell for item, cell in zip(items, cells, strict=True)]
        if self._SPECIAL.search("\0".join(cells)):
            return [self._quoted(cell) for cell in cells]
        return cells

    def _quoted(self, cell: str) -> str:
        if self._SPECIAL.search(cell) is None:
            return cell
        return '"' + cell.replace('"', '""') + '"'
