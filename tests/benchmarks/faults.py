"""What faults cost, as ratios to the undisturbed run, on real servers. Usage: faults.py [--only 25] ...

Tasks sleep, so that the ratios say what the engine waits for and not what the machine is worth. Settings are
the defaults. Exit code 1 when a goal is missed.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import cut_off, fault_goals
from tests.benchmarks.fault_cluster import servers
from tests.benchmarks.fault_goals import Goal, Row, stragglers

#: Lanes run beside each other, each a process with servers of its own: sleeping leaves the processors idle.
LANES: tuple[tuple[tuple[int, Goal], ...], ...] = (
    ((25, stragglers(20.0, 4, 4)), (23, cut_off.goal)),
    (
        (25, stragglers(1.0, 4, 10)),
        (25, stragglers(5.0, 4, 5)),
        (25, stragglers(5.0, 4, 1)),
        (25, fault_goals.needless_backups),
        (28, fault_goals.shares),
    ),
    (
        (24, fault_goals.drains),
        (26, fault_goals.deaths),
        (27, fault_goals.full_spool),
    ),
)
#: What is not measured by then is left out.
LIMIT_SECONDS = 720.0


def run_lane(lane: int, only: list[int], directory: Path) -> None:
    """Measure the goals of a lane one after the other; one that breaks does not hinder the next."""
    with servers(directory) as pair, (directory / "rows").open("w") as file:
        for number, goal in LANES[lane]:
            if number not in only:
                continue
            try:
                for row in goal(pair):
                    _note(file.fileno(), row)
            except Exception as error:  # noqa: BLE001
                traceback.print_exc()
                _note(
                    file.fileno(),
                    Row(number, "broke off", f"{type(error).__name__}: {error}"[:100], "", False),
                )


def _note(file: int, row: Row) -> None:
    """Keep a row for the table, and print it."""
    os.write(file, json.dumps([row.goal, row.what, row.measured, row.wanted, row.met]).encode() + b"\n")
    print(f"  {row.goal} {row.what.strip()}: {row.measured} ({_verdict(row)})", flush=True)


def _verdict(row: Row) -> str:
    return "not run" if row.met is None else "met" if row.met else "MISSED"


def measure(only: list[int], root: Path) -> list[Row]:
    """Run all lanes that have something to do, for at most LIMIT_SECONDS."""
    lanes: list[subprocess.Popen[bytes]] = []
    end = time.monotonic() + LIMIT_SECONDS
    try:
        for lane, goals in enumerate(LANES):
            if any(number in only for number, _ in goals):
                directory = root / f"lane-{lane}"
                directory.mkdir()
                flags = [f"--only={number}" for number in only]
                command = [
                    sys.executable,
                    __file__,
                    "--lane",
                    str(lane),
                    "--directory",
                    str(directory),
                    *flags,
                ]
                lanes.append(subprocess.Popen(command, start_new_session=True))
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in lanes:
                process.wait(max(0.0, end - time.monotonic()))
    finally:
        for process in lanes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
        for process in lanes:
            process.wait(60)
    return [Row(*json.loads(line)) for file in root.glob("*/rows") for line in file.read_text().splitlines()]


def show(rows: list[Row]) -> None:
    """Print the table."""
    table = [("goal", "what", "measured", "wanted", ""), *map(_cells, rows)]
    widths = [max(len(text) for text in column) for column in zip(*table, strict=True)]
    print()
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _cells(row: Row) -> tuple[str, ...]:
    return str(row.goal), row.what, row.measured, row.wanted, _verdict(row)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, action="append", help="a goal, 23 to 28; may be repeated")
    parser.add_argument("--lane", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    only = options.only or sorted({number for lane in LANES for number, _ in lane})
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        if options.lane is not None:
            run_lane(options.lane, only, options.directory)
            return 0
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mr-bench-") as name:
            rows = sorted(measure(only, Path(name)), key=lambda row: row.goal)
        show(rows)
        print(f"\n{time.monotonic() - begun:.0f} s")
        return int(not rows or any(row.met is False for row in rows))
    return 130


if __name__ == "__main__":
    sys.exit(main())
