"""Which objects may travel and be written: those whose text and order are the same in every process."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mr.errors import UnencodableKey, UnencodableValue

#: Types that need no closer look.
_PLAIN = {str, bytes, int, float, bool, type(None)}


def plain_items(items: list[Any], encode: Callable[[Any], bytes]) -> list[Any]:
    """Give the items with Python's values for NumPy's scalars, and refuse what `encode` refuses.

    The text of other objects may differ from run to run (an address). Raises UnencodableKey or
    UnencodableValue with `.row`.
    """
    if set(map(type, items)) <= _PLAIN:
        return items
    plain = [item.item() if isinstance(item, np.generic) else item for item in items]
    for row, item in enumerate(plain):
        try:
            encode(item)
        except (UnencodableKey, UnencodableValue) as error:
            error.row = row
            raise
    return plain
