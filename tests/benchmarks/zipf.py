"""Text whose words are as unevenly frequent as those of a language: seeded, kept under .bench/."""

from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
DISTINCT_WORDS = 200_000
WORDS_PER_LINE = 10
SEED = 11


def zipf_text(mebibytes: int) -> Path:
    """A file of about this size; made once, the same bytes for the same size everywhere."""
    path = ROOT / ".bench" / f"zipf-{mebibytes}MiB.txt"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        _write(unfinished, mebibytes * 1024 * 1024)
        unfinished.rename(path)
    return path


def _write(path: Path, size_bytes: int) -> None:
    chance = np.random.default_rng(SEED)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = chance.integers(3, 12, DISTINCT_WORDS)
    words = np.array(["".join(letters[chance.integers(0, 26, length)]) for length in lengths], dtype=object)
    weights = 1.0 / np.arange(1, DISTINCT_WORDS + 1)
    ends = np.cumsum(weights / weights.sum())
    written = 0
    with path.open("w", encoding="ascii") as file:
        while written < size_bytes:
            chosen = words[np.minimum(np.searchsorted(ends, chance.random(500_000)), DISTINCT_WORDS - 1)]
            for start in range(0, len(chosen), WORDS_PER_LINE):
                written += file.write(" ".join(chosen[start : start + WORDS_PER_LINE]) + "\n")
