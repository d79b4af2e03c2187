"""Which objects may travel and be written: those whose text and order are the same in every process."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mr.errors import UnencodableKey, UnencodableValue

#: Types that need no closer look.
_PLAIN = {str, bytes, int, float, bool, type(None)}


def check_kinds(items: list[Any], encode: Callable[[Any], bytes]) -> None:
    """Refuse what `encode` refuses: the text of other objects may differ from run to run (an address).

    Raises UnencodableKey or UnencodableValue with `.row`.
    """
    if set(map(type, items)) <= _PLAIN:
        return
    for row, item in enumerate(items):
        try:
            encode(item.item() if isinstance(item, np.generic) else item)
        except (UnencodableKey, UnencodableValue) as error:
            error.row = row
            raise
