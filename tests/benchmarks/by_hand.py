"""The word count one writes without us: `Pool` and `Counter`. Usage: by_hand.py TEXT OUT PROCESSES."""

import sys
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

PIECE_BYTES = 16 * 1024 * 1024


def count(piece: tuple[str, int, int]) -> Counter[str]:
    """Count the words of the lines that begin in [start, end) of a file."""
    path, start, end = piece
    counts: Counter[str] = Counter()
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()
        while file.tell() < end and (lines := file.readlines(min(1 << 20, end - file.tell()))):
            for line in lines:
                counts.update(line.decode().split())
    return counts


def main(path: str, output: str, processes: int) -> None:
    """Count in pieces, add up, write sorted."""
    size = Path(path).stat().st_size
    pieces = [(path, start, min(start + PIECE_BYTES, size)) for start in range(0, size, PIECE_BYTES)]
    total: Counter[str] = Counter()
    with Pool(processes) as pool:
        for counts in pool.imap_unordered(count, pieces):
            total.update(counts)
    with open(output, "w") as file:
        file.writelines(f"{word}\t{total[word]}\n" for word in sorted(total))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
