"""Replays simulations: `python -m tests.simulation --seed 123 -v`, or many: `--seeds 1000:2000`."""

import argparse
import sys

from tests.simulation.run import Simulation, SimulationFailed, simulate


def main() -> int:
    """Run the seeds asked for. Exit code 1 when one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", default="0:300", help="run these: FIRST:END (default 0:300)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what happens (with --seed)")
    options = parser.parse_args()
    if options.seed is not None:
        return _replay(options.seed, options.verbose)
    first, _, end = options.seeds.partition(":")
    failed = 0
    for seed in range(int(first), int(end)):
        try:
            simulate(seed)
        except SimulationFailed as error:
            failed += 1
            print(error, file=sys.stderr)
    print(f"{int(end) - int(first)} seeds, {failed} failed")
    return 1 if failed else 0


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


sys.exit(main())
