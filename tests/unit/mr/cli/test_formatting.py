"""Tables, sizes and times as people read them."""

import pytest

from mr.cli import formatting


def test_columns_are_aligned() -> None:
    shown = formatting.table(("NAME", "COUNT"), [["a", "1"], ["longer", "1234"]], right=("COUNT",))
    assert shown.splitlines() == ["NAME    COUNT", "a           1", "longer   1234"]


def test_table_without_rows_has_its_headers() -> None:
    assert formatting.table(("NAME", "STATE"), []) == "NAME  STATE"


def test_fields_leave_out_what_is_empty() -> None:
    assert formatting.fields([("job", "j1"), ("waiting for", ""), ("priority", "2")]) == (
        "job       j1\npriority  2"
    )


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3_565_158, "3.4 MiB"), (5 * 1024**5, "5120.0 TiB")],
)
def test_sizes(count: int, shown: str) -> None:
    assert formatting.size(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (4_560_000, "4.56M"), (7 * 10**9, "7G")],
)
def test_short_numbers(count: int, shown: str) -> None:
    assert formatting.short_number(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (12.2, "12 s"), (59.9, "1m00s"), (185, "3m05s"), (7800, "2h10m"),
     (4 * 86400 + 3 * 3600, "4d03h")],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert formatting.duration(seconds) == shown


def test_percent_stays_within_bounds() -> None:
    assert [formatting.percent(share) for share in (-1.0, 0.425, 7.0)] == ["0%", "42%", "100%"]
