"""Files to splits: which bytes each map task reads. A function of the file list and the options alone."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from mr.errors import BadInput
from mr.formats.input.compression import is_compressed
from mr.formats.input.encodings import splits_at_newline
from mr.formats.input.files import InputFile
from mr.protocol.bounds import MAX_SPLITS
from mr.protocol.formats import INPUT_FORMATS
from mr.protocol.jobs import FileRange, Split

#: What opening a file counts for, at least, when small files are packed together: very many very small files
#: still make several splits.
FILE_COST_BYTES = 64 * 1024


def plan_splits(
    files: Sequence[InputFile],
    *,
    input_format: str,
    split_bytes: int,
    maps: int | None,
    encoding: str = "utf-8",
) -> tuple[Split, ...]:
    """Divide files into splits, in the order of the files; at least one split, even for no bytes.

    With `maps` None no split is over `split_bytes` unless it is one unsplittable file: larger files are cut
    into equal ranges, smaller ones packed. With `maps` N, all bytes laid end to end are cut into N equal
    stretches, so there are never more than N splits; an unsplittable file belongs to the stretch that holds
    its middle, and empty stretches make no split. Raises BadInput for more than MAX_SPLITS splits.
    """
    splittable = partial(is_splittable, input_format=input_format, encoding=encoding)
    groups = _by_size(files, splittable, split_bytes) if maps is None else _by_count(files, splittable, maps)
    return tuple(Split(index, tuple(group)) for index, group in enumerate(groups or [[]]))


def is_splittable(path: str, input_format: str, encoding: str) -> bool:
    """Say whether a file may be cut into ranges of bytes. Raises BadInput for an unknown encoding."""
    splittable = INPUT_FORMATS[input_format].splittable
    if splittable == "lines":
        return not is_compressed(path) and splits_at_newline(encoding)
    return splittable == "always"


def _by_size(
    files: Sequence[InputFile], splittable: Callable[[str], bool], split_bytes: int
) -> list[list[FileRange]]:
    groups: list[list[FileRange]] = []
    packed: list[FileRange] = []
    packed_bytes = 0
    for file in files:
        in_ranges = splittable(file.path)
        if in_ranges and file.bytes > split_bytes:
            _check_count(len(groups) + -(-file.bytes // split_bytes), split_bytes)
            groups += [packed] if packed else []
            packed, packed_bytes = [], 0
            groups += [[piece] for piece in _equal_ranges(file, -(-file.bytes // split_bytes))]
            continue
        cost = max(file.bytes, FILE_COST_BYTES)
        if packed and packed_bytes + cost > split_bytes:
            groups.append(packed)
            packed, packed_bytes = [], 0
            _check_count(len(groups), split_bytes)
        packed.append(FileRange(file.path, 0, file.bytes if in_ranges else -1, file.bytes))
        packed_bytes += cost
    return [*groups, packed] if packed else groups


def _check_count(count: int, split_bytes: int) -> None:
    if count >= MAX_SPLITS:
        raise BadInput(
            f"a split size of {split_bytes} bytes makes {count} splits or more, over {MAX_SPLITS}; "
            "write a larger one"
        )


def _equal_ranges(file: InputFile, count: int) -> list[FileRange]:
    edges = [file.bytes * index // count for index in range(count + 1)]
    return [FileRange(file.path, start, end - start, file.bytes) for start, end in pairwise(edges)]


def _by_count(
    files: Sequence[InputFile], splittable: Callable[[str], bool], maps: int
) -> list[list[FileRange]]:
    total = sum(file.bytes for file in files)
    count = max(1, min(maps, total))
    edges = [total * index // count for index in range(count + 1)]
    groups: list[list[FileRange]] = [[] for _ in range(count)]
    position = 0
    for file in files:
        end = position + file.bytes
        in_ranges = splittable(file.path)
        if file.bytes and in_ranges:
            for stretch in range(_stretch(position, total, count), _stretch(end - 1, total, count) + 1):
                start, stop = max(position, edges[stretch]), min(end, edges[stretch + 1])
                groups[stretch].append(FileRange(file.path, start - position, stop - start, file.bytes))
        else:
            middle = min(position + file.bytes // 2, max(total - 1, 0))
            length = 0 if in_ranges else -1
            groups[_stretch(middle, total, count)].append(FileRange(file.path, 0, length, file.bytes))
        position = end
    return [group for group in groups if group]


def _stretch(position: int, total: int, count: int) -> int:
    """Find the stretch i with total * i // count <= position < total * (i + 1) // count."""
    if total == 0:
        return 0
    return (position * count + count - 1) // total
