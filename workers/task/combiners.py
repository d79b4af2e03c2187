"""The user's combine_fn and partition_fn, as the map buffer calls them; failures name the function."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from operator import itemgetter, length_hint
from typing import Any

from mr.error_text import safe_repr
from mr.errors import BadAggregate, BadPartition, UnencodableValue
from mr.workers.shuffle.combine import Combiner, PythonCombiner
from mr.workers.shuffle.value_codec import encode_value
from mr.workers.task.context import Attempt
from mr.workers.task.emitter import all_pairs, columns
from mr.workers.task.group_values import GroupValues
from mr.workers.task.type_check import plain_items
from mr.workers.usercode.failures import TaskError, refused, user_failure, wrong_result
from mr.workers.usercode.functions import as_iterable


def place_of_key(key: Any) -> str:
    """Name the record of a failure in a function that is given a key."""
    return f"key {safe_repr(key)}"


def combiner_of(attempt: Attempt) -> Combiner | None:
    """What the map buffer combines with: an aggregation, the user's `combine_fn`, or None."""
    function = attempt.code.get("combine_fn")
    built_in = attempt.code.aggregation("reduce_fn") or attempt.code.aggregation("combine_fn")
    if built_in is not None or function is None:
        return built_in
    return PythonCombiner(_Combine(attempt, function))


class _Combine:
    """Calls `combine_fn` for many keys at once and checks what it gives."""

    def __init__(self, attempt: Attempt, function: Callable[..., Any]) -> None:
        self._attempt = attempt
        self._call = as_iterable(function)

    def __call__(self, keys: list[Any], values: list[list[Any]]) -> tuple[list[Any], list[Any]]:
        """Combine the values of each key; the pairs given stay under their key, in order."""
        left = iter(keys)

        def place() -> tuple[str, None]:
            return place_of_key(keys[max(0, len(keys) - length_hint(left) - 1)]), None

        with self._attempt.user_code("combine_fn", place):
            pairs = list(chain.from_iterable(map(self._call, left, map(GroupValues, values))))
        if pairs and not all_pairs(pairs):
            wrong = next(item for item in pairs if not all_pairs([item]))
            raise self._wrong(f"gave {safe_repr(wrong)}, which is no (key, value) pair; yield one at a time")
        combined, results = columns(pairs)
        with self._attempt.user_code("combine_fn"):  # an object given for a key may refuse to be compared
            if combined != keys:
                self._check_keys(keys, combined)
        try:
            results = plain_items(results, encode_value)
        except UnencodableValue as error:
            place_of = place_of_key(combined[error.row or 0])
            raise self._wrong(f"gave a pair that cannot be stored: {error}", place_of) from error
        return combined, results

    def _wrong(self, complaint: str, record: str = "") -> TaskError:
        return wrong_result(self._attempt.run_task, "combine_fn", complaint, record=record)

    def _check_keys(self, keys: list[Any], combined: list[Any]) -> None:
        """Refuse a pair under another key than the one given: it would be in the wrong partition."""
        given = iter(keys)
        for key in map(itemgetter(0), groupby(combined)):
            if key not in given:
                raise self._wrong(
                    f"gave a pair under the key {safe_repr(key)}, which is not the one it was called "
                    "with; combine_fn may change values only"
                )


def partitioner_of(attempt: Attempt) -> Callable[[Any, int], int] | None:
    """The user's `partition_fn`, its exceptions turned into failures that name the key."""
    function = attempt.code.get("partition_fn")
    if function is None:
        return None

    def choose(key: Any, partitions: int) -> Any:
        try:
            return function(key, partitions)
        except BaseException as error:
            raise user_failure(attempt.run_task, "partition_fn", error, record=place_of_key(key)) from error

    return choose


@contextlib.contextmanager
def blaming(attempt: Attempt) -> Iterator[None]:
    """Turn what the shuffle refuses on behalf of the user's functions into their failures."""
    try:
        yield
    except BadPartition as error:
        raise refused(attempt.run_task, "partition_fn", str(error)) from error
    except BadAggregate as error:
        name = "reduce_fn" if attempt.code.aggregation("reduce_fn") else "combine_fn"
        raise refused(attempt.run_task, name, str(error)) from error
