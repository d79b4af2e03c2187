"""Whether two versions of a job file make the same map outputs: digests of the functions that shape them."""

import ast
import hashlib
import inspect
import textwrap
from typing import Any

from mr.workers.usercode.functions import UserCode, as_aggregation

#: The functions that run in map tasks.
MAP_SIDE = ("map_fn", "map_batch", "map_init", "map_final", "combine_fn", "partition_fn")


def map_side_digests(code: UserCode) -> dict[str, str]:
    """Function of the map side -> digest of its source, which neither comments nor its place change.

    What such a function calls is not looked at. An aggregation is left out: the manifest has its spec.
    """
    found = {name: code.get(name) for name in MAP_SIDE}
    return {
        name: _digest(function, code)
        for name, function in found.items()
        if function is not None and as_aggregation(function) is None
    }


def _digest(function: Any, code: UserCode) -> str:
    """The digest of one function; of the whole job file where its source is not a text of its own."""
    try:
        source = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))))
    except (OSError, TypeError, ValueError, SyntaxError):
        source = (code.directory / code.entry).read_text(errors="replace")
    return hashlib.sha256(source.encode(errors="replace")).hexdigest()[:16]
