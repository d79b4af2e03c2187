"""Puts mended defects back, one at a time, and requires that the test named with each one fails.

`python -m tests.mutants [NAME ...]` runs all patches, or those whose file names begin so. A patch is
`tests/mutants/NN[-word].patch`: the lines `Defect: ...` and `Test: PYTEST_ID ...`, then a diff against the
product. A line `Seeds: N` says that the simulation alone finds the defect within its seeds 0 to N - 1; then
the line `Test` may be missing. Each patch is applied to a copy of the working tree; the tests must pass in a
copy without it. Prints a table. Exit code 1 when a patch does not apply, or its defect is not found.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATCHES = Path(__file__).parent
#: Longest run of the tests of one mutant.
TEST_SECONDS = 300
#: Longest run of the simulation of one mutant.
SIMULATION_SECONDS = 900
#: How the simulation names a seed that failed.
FAILED_SEED = re.compile(r"^seed (\d+):", re.MULTILINE)
#: pytest's exit codes for "all passed" and "some failed"; any other one means that nothing was shown.
PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Mutant:
    """One defect that was mended."""

    patch: Path
    defect: str
    tests: tuple[str, ...]
    #: Within how many seeds the simulation finds it; 0: it does not see it.
    seeds: int

    @classmethod
    def read(cls, patch: Path) -> "Mutant":
        """Read the header of a patch. Raises KeyError when a line of it is missing."""
        head = patch.read_text().partition("\ndiff --git")[0]
        fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        seeds = int(fields.get("Seeds", 0))
        tests = fields["Test"] if not seeds else fields.get("Test", "")
        return cls(patch, fields["Defect"], tuple(tests.split()), seeds)


def copy_tree(target: Path) -> None:
    """Copy the files that git tracks, or would track, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run pytest in a copy. Returns its exit code and its last words."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line", *tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
    )
    lines = done.stdout.strip().splitlines()
    return done.returncode, lines[-1] if lines else done.stderr.strip()


@dataclass(frozen=True)
class Finding:
    """What came of one mutant."""

    #: Empty when the defect is found by all that should find it.
    wrong: str = ""
    #: The first seed whose simulation fails, in words.
    seed: str = "-"


def simulate(tree: Path, seeds: int) -> str:
    """The first seed whose simulation fails in a copy, in words; empty when none does."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seeds", f"0:{seeds}", "--until-failure"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=SIMULATION_SECONDS,
    )
    found = FAILED_SEED.search(done.stderr)
    return "" if done.returncode != FAILED or found is None else f"seed {found[1]} of {seeds}"


def check(mutant: Mutant) -> Finding:
    """Apply a patch to a copy, run its tests, and the simulation."""
    with tempfile.TemporaryDirectory(prefix="mrmq-mutant-") as name:
        tree = Path(name)
        copy_tree(tree)
        applied = subprocess.run(
            ["git", "apply", "--recount", str(mutant.patch)], cwd=tree, capture_output=True, text=True
        )
        if applied.returncode != 0:
            return Finding(f"the patch does not apply: {applied.stderr.strip()}")
        try:
            code, words = run_tests(tree, mutant.tests) if mutant.tests else (FAILED, "")
            seed = simulate(tree, mutant.seeds) if mutant.seeds else "-"
        except subprocess.TimeoutExpired as error:
            return Finding(f"{error.cmd[2]} did not end within {error.timeout:.0f} s")
    if code == PASSED:
        return Finding("NOT FOUND: its tests pass", seed)
    if not seed:
        return Finding(f"NOT FOUND by the simulation within {mutant.seeds} seeds")
    return Finding("" if code == FAILED else f"pytest ended with {code}: {words}", seed)


def main() -> int:
    """Run the mutants asked for and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of file names; default: all")
    names = parser.parse_args().names or [""]
    chosen = [p for p in sorted(PATCHES.glob("*.patch")) if any(p.name.startswith(n) for n in names)]
    mutants = [Mutant.read(patch) for patch in chosen]
    if not mutants:
        print(f"no patch begins with {' or '.join(names)}", file=sys.stderr)
        return 2
    print("mutant           result | test | simulation       | defect")
    with tempfile.TemporaryDirectory(prefix="mrmq-mutant-") as name:
        copy_tree(Path(name))
        tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        code, words = run_tests(Path(name), tests) if tests else (PASSED, "")
    if code != PASSED:
        print(
            f"without any mutant the tests do not pass (pytest ended with {code}): {words}", file=sys.stderr
        )
        return 1
    missed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, finding in zip(mutants, pool.map(check, mutants), strict=True):
            missed += bool(finding.wrong)
            by_test = "test" if mutant.tests else "-"
            print(
                f"{mutant.patch.stem:<16} {finding.wrong or 'found'} | {by_test:<4} | {finding.seed:<16} | "
                f"{mutant.defect}",
                flush=True,
            )
    print(f"{len(mutants)} mutants, {len(mutants) - missed} found, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
