"""Which built-in reducer of `mr.agg` is meant, as it travels: in a code manifest and in map outputs. Pure."""

from typing import Annotated

import msgspec
from msgspec import Meta

from mr.protocol.bounds import Int64, Real


class AggregationSpec(msgspec.Struct, frozen=True, array_like=True):
    """The name of an aggregation and what it was made with; `str` is what one writes in a job file."""

    name: Annotated[str, Meta(max_length=100)]
    arguments: tuple["Int64 | Real | AggregationSpec", ...] = ()

    def __str__(self) -> str:
        arguments = f"({', '.join(map(str, self.arguments))})" if self.arguments else ""
        return f"mr.agg.{self.name}{arguments}"
