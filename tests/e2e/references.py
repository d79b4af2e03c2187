"""What the examples must give, computed in plain Python: `collections`, `sorted`, nothing of the engine.

Each reference takes the input files and returns the expected output lines of each key, in order:
`{key: [line, ...]}`, where a line is the bytes of the text output without its newline.
"""

import bz2
import gzip
import lzma
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Expected = Mapping[Any, Sequence[bytes]]

_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def input_files(directory: Path) -> list[Path]:
    """All files below a directory that a job reads: in order of path, `_` and `.` names left out."""
    found = []
    for folder, folders, names in os.walk(directory):
        folders[:] = [f for f in folders if not f.startswith(("_", "."))]
        found += [Path(folder) / n for n in names if not n.startswith(("_", "."))]
    return sorted(found, key=str)


def records(path: Path) -> Iterator[tuple[int, str]]:
    """(byte offset, line) of each line of a file, decompressed by its suffix; bad UTF-8 is replaced.

    A line ends with LF or CRLF; a byte order mark at the start of a file is no part of its first line.
    """
    with _OPENERS.get(path.suffix, open)(path, "rb") as stream:
        content: bytes = stream.read()
    offset = 0
    for line in _split_lines(content):
        text = line.removeprefix(b"\xef\xbb\xbf") if offset == 0 else line
        if text.endswith(b"\n"):
            text = text[:-1].removesuffix(b"\r")
        yield offset, text.decode("utf-8", "replace")
        offset += len(line)


def _split_lines(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        end = content.find(b"\n", start) + 1 or len(content)
        yield content[start:end]
        start = end


def word_count(files: Sequence[Path]) -> Expected:
    """How often each word occurs."""
    counts: Counter[str] = Counter()
    for path in files:
        for _, line in records(path):
            counts.update(line.split())
    return {word: [f"{word}\t{count}".encode()] for word, count in counts.items()}


def inverted_index(files: Sequence[Path]) -> Expected:
    """The files each word occurs in."""
    index: defaultdict[str, set[str]] = defaultdict(set)
    for path in files:
        for _, line in records(path):
            for word in line.split():
                index[word].add(str(path))
    return {word: [f"{word}\t{' '.join(sorted(paths))}".encode()] for word, paths in index.items()}


def grep(files: Sequence[Path], pattern: str) -> list[bytes]:
    """The matching lines, in input order."""
    return [
        f"{path}:{offset}\t{line}".encode()
        for path in files
        for offset, line in records(path)
        if re.search(pattern, line)
    ]


def group_by_length(files: Sequence[Path]) -> Expected:
    """Words of a `word<TAB>count` file grouped by their length."""
    groups: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for path in files:
        for _, line in records(path):
            word, _, count = line.rpartition("\t")
            groups[len(word)][word] = int(count)
    return {length: [_describe(length, words)] for length, words in groups.items()}


def _describe(length: int, words: dict[str, int]) -> bytes:
    best = sorted(words, key=lambda word: (-words[word], word))[0]
    return f"{length}\t{len(words)}\t{sum(words.values())}\t{best}".encode()


def join(files: Sequence[Path]) -> Expected:
    """Orders with the names of their customers."""
    names: dict[int, list[str]] = defaultdict(list)
    orders: dict[int, list[str]] = defaultdict(list)
    for path in files:
        for _, line in records(path):
            fields = line.split("\t")
            if path.name.startswith("customers"):
                names[int(fields[0])].append(fields[1])
            else:
                orders[int(fields[1])].append(f"{fields[0]}\t{fields[2]}")
    return {
        customer: [
            f"{customer}\t{name}\t{order}".encode() for name in names[customer] for order in orders[customer]
        ]
        for customer in names.keys() & orders.keys()
    }


def part_files(output: Path) -> list[Path]:
    """The parts of an output directory, in order."""
    return sorted(output.glob("part-*"))


def check_groups(output: Path, expected: Expected, key_type: type = str) -> None:
    """Hold an output to a reference, byte for byte.

    Which partition a key falls into is the engine's own choice; so: inside each part the keys ascend,
    the lines of each key are exactly the expected ones in order, and no key is missing or in two parts.
    """
    seen: set[Any] = set()
    for part in part_files(output):
        content = part.read_bytes()
        assert not content or content.endswith(b"\n"), f"{part} lacks its last newline"
        groups = _group(content, key_type)
        keys = [key for key, _ in groups]
        assert keys == sorted(set(keys)), f"{part} is not sorted by key"
        for key, lines in groups:
            assert lines == list(expected.get(key, [])), f"{part}: the lines of {key!r} differ"
        assert seen.isdisjoint(keys), f"{part} repeats keys of another part"
        seen.update(keys)
    missing = {key for key, lines in expected.items() if lines} - seen
    assert not missing, f"{len(missing)} keys are missing, such as {sorted(missing)[:3]}"


def _group(content: bytes, key_type: type) -> list[tuple[Any, list[bytes]]]:
    """Neighbouring lines of one key together."""
    groups: list[tuple[Any, list[bytes]]] = []
    for line in content.split(b"\n")[:-1]:
        key = key_type(line.partition(b"\t")[0].decode())
        if not groups or groups[-1][0] != key:
            groups.append((key, []))
        groups[-1][1].append(line)
    return groups


def same_parts(left: Path, right: Path) -> None:
    """Hold two output directories to the same parts with the same bytes."""
    names = [p.name for p in part_files(left)]
    assert names, f"{left} has no parts"
    assert [p.name for p in part_files(right)] == names
    for name in names:
        assert (left / name).read_bytes() == (right / name).read_bytes(), f"{name} differs"
