"""Replays simulations: `python -m tests.simulation --seed 123 -v`, or many: `--seeds 0:100000 --processes 2`.

Many: prints how far it is, each failure with the command that replays it, and in the end what was met.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from tests.simulation.marks import MARKS, marks_in
from tests.simulation.run import Simulation, SimulationFailed, simulate

#: Seeds that one process runs before it tells.
BATCH = 50
#: Failures that are shown in full.
SHOWN = 10
#: How often a line tells how far it is.
TELL_SECONDS = 30.0


@dataclass
class Batch:
    """What came of some seeds."""

    seeds: int = 0
    failures: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    #: In how many seeds each kind of trouble was met.
    met: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Batch") -> None:
        """Add what came of others."""
        self.seeds += other.seeds
        self.failures += other.failures
        self.states += other.states
        self.met += other.met


def run_batch(first: int, end: int) -> Batch:
    """Run some seeds."""
    batch = Batch()
    for seed in range(first, end):
        batch.seeds += 1
        try:
            outcome = simulate(seed)
        except SimulationFailed as error:
            batch.failures.append(str(error))
        else:
            batch.states.update(str(state) for state in outcome.states.values())
            batch.met.update(marks_in(outcome.trace))
    return batch


def _batches(first: int, end: int, processes: int, size: int) -> Iterator[Batch]:
    edges = [(start, min(start + size, end)) for start in range(first, end, size)]
    if processes == 1:
        yield from (run_batch(*edge) for edge in edges)
        return
    with ProcessPoolExecutor(processes) as pool:
        for done in as_completed([pool.submit(run_batch, *edge) for edge in edges]):
            yield done.result()


def run_many(first: int, end: int, processes: int, *, until_failure: bool) -> int:
    """Run many seeds and print what came of them. Exit code 1 when one failed."""
    total, began, told = Batch(), time.monotonic(), time.monotonic()
    for batch in _batches(first, end, processes, 1 if until_failure else BATCH):
        for failure in batch.failures[: SHOWN - len(total.failures)]:
            print(failure, file=sys.stderr, flush=True)
        total.add(batch)
        if total.failures and until_failure:
            break
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            print(f"{total.seeds} of {end - first} seeds, {len(total.failures)} failed", flush=True)
    seconds = time.monotonic() - began
    print(f"{total.seeds} seeds in {seconds:.0f} s on {processes} processes, {len(total.failures)} failed")
    print("jobs: " + ", ".join(f"{count} {state}" for state, count in sorted(total.states.items())))
    print("seeds that met:")
    for kind in MARKS:
        print(f"  {total.met[kind]:>7}  {kind}")
    return 1 if total.failures else 0


def _replay(seed: int, verbose: bool) -> int:
    simulation = Simulation(seed)
    try:
        outcome = simulation.run()
    except Exception:
        print("\n".join(simulation.world.trace))
        raise
    if verbose:
        print("\n".join(outcome.trace))
    print(f"seed {seed}: {dict(outcome.states)} after {outcome.virtual_seconds:.0f} virtual seconds")
    return 0


def main() -> int:
    """Run the seeds asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", default="0:1000", help="run these: FIRST:END (default 0:1000)")
    parser.add_argument("--processes", type=int, default=1, help="0: one for each core")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first that fails")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what happens (with --seed)")
    options = parser.parse_args()
    if options.seed is not None:
        return _replay(options.seed, options.verbose)
    first, _, end = options.seeds.partition(":")
    processes = options.processes or os.cpu_count() or 1
    return run_many(int(first), int(end), processes, until_failure=options.until_failure)


if __name__ == "__main__":
    sys.exit(main())
