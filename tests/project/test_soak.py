"""What the soak would say of a job that is not as it must be."""

import pytest

from tests.soak import faults, kinds
from tests.soak.kinds import Result
from tests.soak.workload import compare

RIGHT = Result({"part-00000": b"a\t1\n", "part-00001": b"b\t2\n"}, 2, {"records": 3})


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (RIGHT, []),
        (Result(RIGHT.parts, 1, RIGHT.counters), ["lost"]),
        (Result(RIGHT.parts, 2, {}), ["lost"]),
        (Result(RIGHT.parts, 3, RIGHT.counters), ["doubled"]),
        (Result(RIGHT.parts, 2, {"records": 6}), ["doubled"]),
        (Result({**RIGHT.parts, "part-00001": b"b\t3\n"}, 2, RIGHT.counters), ["wrong"]),
        (Result({"part-00000": b"a\t1\n"}, 2, RIGHT.counters), ["wrong"]),
        (Result(RIGHT.parts, 2, {"records": 3, "more": 1}), ["wrong"]),
    ],
)
def test_a_result_is_held_to_the_embedded_one(result: Result, said: list[str]) -> None:
    assert [kind for kind, _ in compare(result, RIGHT)] == said


def test_names_in_the_tables_are_unique() -> None:
    assert len(faults.BY_NAME) == len(faults.ALL)
    assert len({kind.name for kind in kinds.ALL}) == len(kinds.ALL)
