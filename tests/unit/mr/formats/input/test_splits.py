"""Plans: which bytes of which file each map task reads."""

import pytest

from mr.errors import BadInput
from mr.formats.input.files import InputFile
from mr.formats.input.splits import FILE_COST_BYTES, plan_splits
from mr.protocol.jobs import FileRange, Split

MIB = 1024 * 1024


def plan(
    *sizes: int, maps: int | None = None, split_bytes: int = MIB, suffix: str = "", **options: str
) -> list[list[tuple[str, int, int]]]:
    files = [InputFile(f"{index}{suffix}", size) for index, size in enumerate(sizes)]
    arguments: dict[str, str] = {"input_format": "text"} | options
    splits = plan_splits(files, split_bytes=split_bytes, maps=maps, **arguments)  # type: ignore[arg-type]
    assert [split.index for split in splits] == list(range(len(splits)))
    for split in splits:
        for piece in split.ranges:
            assert piece.file_bytes == sizes[int(piece.path.removesuffix(suffix))]
    return [[(piece.path, piece.start, piece.length) for piece in split.ranges] for split in splits]


def test_a_big_file_is_cut_into_equal_ranges_of_at_most_the_split_size() -> None:
    assert plan(MIB * 2 + 1) == [[("0", 0, 699051)], [("0", 699051, 699051)], [("0", 1398102, 699051)]]
    assert plan(MIB) == [[("0", 0, MIB)]]


def test_small_files_are_packed_in_order_up_to_the_split_size() -> None:
    third = MIB // 3
    assert plan(third, third, third, third, 2 * MIB, third, third) == [
        [("0", 0, third), ("1", 0, third), ("2", 0, third)],
        [("3", 0, third)],
        [("4", 0, MIB)],
        [("4", MIB, MIB)],
        [("5", 0, third), ("6", 0, third)],
    ]


def test_very_many_tiny_files_still_make_several_splits() -> None:
    sizes = [1] * (3 * MIB // FILE_COST_BYTES)
    assert [len(split) for split in plan(*sizes)] == [MIB // FILE_COST_BYTES] * 3


@pytest.mark.parametrize(
    "options",
    [
        {"input_format": "csv"},
        {"input_format": "binary"},
        {"suffix": ".gz"},
        {"suffix": ".ZST"},
        {"input_format": "jsonl", "suffix": ".bz2"},
        {"encoding": "utf-16"},
        {"input_format": "jsonl", "encoding": "cp037"},
    ],
)
def test_what_cannot_be_cut_is_one_stream(options: dict[str, str]) -> None:
    suffix = options.get("suffix", "")
    assert plan(3 * MIB, **options) == [[(f"0{suffix}", 0, -1)]]
    assert plan(3 * MIB, 5, 5, maps=3, **options) == [
        [(f"0{suffix}", 0, -1)],
        [(f"1{suffix}", 0, -1), (f"2{suffix}", 0, -1)],
    ]


def test_parquet_is_cut_whatever_the_encoding_or_suffix_says() -> None:
    assert len(plan(3 * MIB, input_format="parquet", encoding="utf-16", suffix=".gz")) == 3


def test_maps_gives_that_many_equal_splits() -> None:
    assert plan(10, 10, maps=3) == [
        [("0", 0, 6)],
        [("0", 6, 4), ("1", 0, 3)],
        [("1", 3, 7)],
    ]


def test_maps_never_gives_more_splits_than_asked_nor_more_than_bytes() -> None:
    assert plan(2, 1, maps=8) == [[("0", 0, 1)], [("0", 1, 1)], [("1", 0, 1)]]
    assert len(plan(*[7] * 50, maps=9)) == 9


@pytest.mark.parametrize("maps", [None, 1, 4])
def test_no_bytes_still_make_one_split(maps: int | None) -> None:
    assert plan(0, 0, maps=maps) == [[("0", 0, 0), ("1", 0, 0)]]
    assert plan(maps=maps) == [[]]


def test_input_bytes_counts_what_is_read() -> None:
    split = Split(0, (FileRange("a", 0, -1, 7), FileRange("b", 2, 3, 9)))
    assert split.input_bytes == 10


def test_a_split_size_that_makes_millions_of_splits_is_refused() -> None:
    file = InputFile("/in", 10**12)
    with pytest.raises(BadInput, match="a split size of 1 bytes makes 1000000000000 splits"):
        plan_splits([file], input_format="text", split_bytes=1, maps=None)
