"""The kernels of all built-in reducers of `mr.agg`, by the spec that names them."""

from collections.abc import Mapping
from types import MappingProxyType

from mr.errors import SegmentCorrupt
from mr.protocol.aggregation import AggregationSpec
from mr.workers.shuffle.kernel import StateKernel, ValueKernel
from mr.workers.shuffle.rows import Rows
from mr.workers.shuffle.state_kernels import STATE_KERNELS
from mr.workers.shuffle.value_kernels import VALUE_KERNELS

KERNELS: Mapping[str, type[StateKernel] | type[ValueKernel]] = MappingProxyType(
    {**STATE_KERNELS, **VALUE_KERNELS}
)


def kernel_of(spec: AggregationSpec) -> StateKernel | ValueKernel:
    """The kernel of an aggregation. Raises SegmentCorrupt for a name that only a segment can bring."""
    if spec.name not in KERNELS:
        raise SegmentCorrupt(f"there is no {spec}: a newer version wrote this map output")
    return KERNELS[spec.name](spec)


def _state_kernel(rows: Rows) -> StateKernel:
    assert rows.state is not None
    kernel = kernel_of(rows.state)
    if not isinstance(kernel, StateKernel):
        raise SegmentCorrupt(f"a map output holds states of {rows.state}, which has none")
    return kernel


def merge_states(rows: Rows) -> Rows:
    """Rows with the partial states of each key merged into one; raw rows as they are."""
    return rows if rows.state is None else _state_kernel(rows).combine(rows)


def finished(rows: Rows) -> Rows:
    """Partial states as raw rows of their results; raw rows as they are."""
    if rows.state is None:
        return rows
    return Rows(rows.keys, {"value": _state_kernel(rows).final(rows.columns)})
