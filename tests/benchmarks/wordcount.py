"""Times a word count embedded, beside the one written by hand. Usage: wordcount.py [--size MiB] [--repeat N].

All run in one go on the same text and cores, each as a process of its own from start to last byte, and
their results are compared.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.zipf import ROOT, zipf_text

PROCESSES = 2
MR = Path(sys.executable).with_name("mr")
OUTPUT = ROOT / ".bench" / "output"
BY_HAND = "by hand: Pool + Counter"


def contenders(text: Path) -> dict[str, Sequence[object]]:
    """Name -> command; each writes to OUTPUT."""
    run = (MR, "run", "--quiet")
    flags = (text, "-o", OUTPUT, "-r", PROCESSES)
    examples = ROOT / "examples" / "wordcount"
    by_hand = Path(__file__).with_name("by_hand.py")
    return {
        BY_HAND: (sys.executable, by_hand, text, OUTPUT / "part-00000", PROCESSES),
        "map_fn + mr.agg.sum": (*run, examples / "job_agg.py", *flags),
        "map_fn + Python reduce_fn/combine_fn": (*run, examples / "job.py", *flags),
        "map_batch + mr.agg.sum": (*run, examples / "job_batch.py", *flags),
    }


def timed(command: Sequence[object]) -> float:
    """Run a command from an empty OUTPUT on PROCESSES cores; wall seconds."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    if command[0] != MR:
        OUTPUT.mkdir(parents=True)
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start


def result() -> list[str]:
    """All lines of the output, sorted."""
    return sorted(line for part in OUTPUT.glob("part-*") for line in part.read_text().splitlines())


def main() -> None:
    """Print a table of the best times, and the same as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=200, help="MiB of text")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the best counts")
    options = parser.parse_args()
    text = zipf_text(options.size)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSES])
    seconds: dict[str, float] = {}
    expected: list[str] = []
    for name, command in contenders(text).items():
        seconds[name] = min(timed(command) for _ in range(options.repeat))
        expected = expected or result()
        if result() != expected:
            sys.exit(f"{name}: the result differs")
    shutil.rmtree(OUTPUT)
    print(f"{options.size} MiB of Zipf text, {PROCESSES} processes, wall seconds from start to end")
    for name, time_taken in seconds.items():
        print(f"  {name:40}{time_taken:8.2f} s{time_taken / seconds[BY_HAND]:8.2f} x")
    print(json.dumps({"benchmark": "wordcount", "mebibytes": options.size, "seconds": seconds}))


if __name__ == "__main__":
    main()
