"""What faults cost, as ratios to the undisturbed run, on real servers. Usage: faults.py [--only 25].

Tasks sleep, so that the ratios say what the engine waits for and not what the machine is worth. Settings are
the defaults. Exit code 1 when a goal is missed.
"""

import argparse
import contextlib
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import cut_off, fault_goals
from tests.benchmarks.fault_cluster import servers
from tests.benchmarks.fault_goals import Goal, Row, stragglers

#: Lanes run beside each other, each on servers of its own: sleeping leaves the processors idle.
LANES: tuple[tuple[tuple[int, Goal], ...], ...] = (
    ((25, stragglers(20.0, 4, 4)),),
    (
        (25, stragglers(1.0, 4, 10)),
        (25, stragglers(5.0, 4, 5)),
        (25, fault_goals.needless_backups),
        (28, fault_goals.shares),
    ),
    (
        (24, fault_goals.drains),
        (26, fault_goals.deaths),
        (27, fault_goals.full_spool),
        (23, cut_off.goal),
    ),
)


def run_lane(directory: Path, goals: list[tuple[int, Goal]], rows: list[Row]) -> None:
    """Measure one goal after the other; one that breaks is told and does not hinder the next."""
    directory.mkdir()
    with servers(directory) as pair:
        for number, goal in goals:
            try:
                for row in goal(pair):
                    rows.append(row)
                    print(f"  {row.goal} {row.what}: {row.measured} ({_verdict(row)})", flush=True)
            except Exception as error:  # noqa: BLE001
                traceback.print_exc()
                rows.append(Row(number, "broke off", f"{type(error).__name__}: {error}"[:100], "", False))


def _verdict(row: Row) -> str:
    return "not run" if row.met is None else "met" if row.met else "MISSED"


def show(rows: list[Row]) -> None:
    """Print the table."""
    widths = [max(len(text) for text in column) for column in zip(*map(_cells, rows), strict=True)]
    for cells in [("goal", "what", "measured", "wanted", ""), *map(_cells, rows)]:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _cells(row: Row) -> tuple[str, ...]:
    return f"{row.goal:<4}", row.what, row.measured, row.wanted.ljust(6), _verdict(row)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, action="append", help="a goal, 23 to 28; may be repeated")
    options = parser.parse_args()
    begun = time.monotonic()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="mr-bench-") as name, contextlib.ExitStack() as stack:
        for index, lane in enumerate(LANES):
            goals = [(n, goal) for n, goal in lane if options.only is None or n in options.only]
            if goals:
                thread = threading.Thread(target=run_lane, args=(Path(name, f"lane-{index}"), goals, rows))
                thread.start()
                stack.callback(thread.join)
    rows.sort(key=lambda row: row.goal)
    print()
    show(rows)
    print(f"\n{time.monotonic() - begun:.0f} s")
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
