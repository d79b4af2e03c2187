"""`make fuzz [MINUTES=10] [SEED=1]`: feeds all targets with drawn input, on all cores.

`python -m tests.fuzz [--minutes N] [--seed TEXT] [--target NAME ...] [--replay FILE ...]`. A case that does
harm is kept as a file in `.fuzz/` and printed with the command that feeds it again. Exit code 1 then.
"""

import argparse
import logging
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.harness import Finding, Fuzzer
from tests.fuzz.targets import DAEMONS, FAST, SERVERS, target_named

KEPT = Path(".fuzz")
#: How long one target is fed before the next one has its turn.
TURN_SECONDS = 10.0


def replay(paths: list[Path]) -> int:
    """Feed kept cases again."""
    bad = 0
    for path in paths:
        finding = Finding.read(path)
        fuzzer = Fuzzer(target_named(finding.target))
        error = fuzzer.feed(finding.case)
        fuzzer.close()
        bad += bool(error)
        print(f"{path}: {error or 'no harm'}")
        if error:
            for kind, data in finding.case:
                print(f"  {kind}: {data[:500]!r}{' ...' if len(data) > 500 else ''}")
    return 1 if bad else 0


def work(names: list[str], seed: str, seconds: float) -> int:
    """Feed targets in turns; ends with the time, or when all of them have found something."""
    logging.disable(logging.CRITICAL)
    until = time.monotonic() + seconds
    fuzzers = {name: Fuzzer(target_named(name)) for name in names}
    found = 0
    turn = 0
    while fuzzers and time.monotonic() < until:
        for name, fuzzer in list(fuzzers.items()):
            left = until - time.monotonic()
            if left <= 0:
                break
            finding = fuzzer.run(f"{seed}/{turn}", min(left, TURN_SECONDS))
            if finding is not None:
                found += 1
                path = finding.keep(KEPT)
                print(f"\n{name} found something (seed {seed}):\n{finding.error}")
                print(f"{sys.executable} -m tests.fuzz --replay {path}", flush=True)
                del fuzzers[name]
                fuzzer.close()
        turn += 1
    for name, fuzzer in fuzzers.items():
        print(f"{name}: {fuzzer.inputs} inputs in {fuzzer.cases} cases, no harm", flush=True)
        fuzzer.close()
    return 1 if found else 0


def main() -> int:
    """Share the targets out among processes."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--target", nargs="*", default=[])
    parser.add_argument("--replay", nargs="*", type=Path, default=[])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.replay:
        return replay(given.replay)
    if given.worker:
        return work(given.target, given.seed, given.minutes * 60)
    groups = [[make.name for make in group] for group in (FAST, DAEMONS, SERVERS)]  # type: ignore[attr-defined]
    if given.target:
        groups = [[name for name in group if name in given.target] for group in groups]
    print(f"seed {given.seed}, {given.minutes:g} min on {os.cpu_count()} cores", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", "--worker", "--seed", given.seed]
    command += ["--minutes", str(given.minutes)]
    workers = [subprocess.Popen([*command, "--target", *group]) for group in groups if group]
    return max(worker.wait() for worker in workers)


if __name__ == "__main__":
    sys.exit(main())
