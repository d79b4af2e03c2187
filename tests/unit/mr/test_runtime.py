"""What a job reads and counts while it runs."""

import pytest

import mr
from mr.runtime import TaskContext, active


def test_param() -> None:
    with active(TaskContext({"word": "cat"})):
        assert mr.param("word") == "cat"
        assert mr.param("other", 3) == 3
        with pytest.raises(mr.runtime.UsageError, match="--param other=VALUE"):
            mr.param("other")
    with pytest.raises(mr.runtime.UsageError, match="has no value"):
        mr.param("word")


def test_counter_adds_to_the_attempt_at_work() -> None:
    seen = mr.counter("seen")
    seen.add(5)
    with active(TaskContext({})) as context:
        seen.add()
        seen.add(2)
        mr.counter("other").add(-1)
        assert context.counters == {"seen": 3, "other": -1}
        with pytest.raises(mr.runtime.UsageError, match="takes an int, not float"):
            seen.add(0.5)  # type: ignore[arg-type]
    with pytest.raises(mr.runtime.UsageError, match="name of 1 to"):
        mr.counter("")


def test_counters_are_bounded() -> None:
    with active(TaskContext({})):
        for number in range(mr.runtime.MAX_COUNTERS):
            mr.counter(f"c{number}").add()
        mr.counter("c0").add()
        with pytest.raises(mr.runtime.UsageError, match="at most"):
            mr.counter("one too many").add()


def test_input_path_is_known_in_a_map_only() -> None:
    with pytest.raises(mr.runtime.UsageError, match="only inside map_fn"):
        mr.input_path()
    with active(TaskContext({})) as context:
        context.input_path = "/data/a.txt"
        assert mr.input_path() == "/data/a.txt"
