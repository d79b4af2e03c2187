"""Puts mended defects back, one at a time, and requires that the test named with each one fails.

`python -m tests.mutants [NAME ...]` runs all patches, or those whose file names begin so. A patch is
`tests/mutants/NN[-word].patch`: the lines `Defect: ...` and `Test: PYTEST_ID ...`, then a diff against the
product. Each is applied to a copy of the working tree; the tests must pass in a copy without it. Exit
code 1 when a patch does not apply, or its defect is not found.
"""

import argparse
import os
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
#: pytest's exit codes for "all passed" and "some failed"; any other one means that nothing was shown.
PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Mutant:
    """One defect that was mended."""

    patch: Path
    defect: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, patch: Path) -> "Mutant":
        """Read the header of a patch. Raises KeyError when a line of it is missing."""
        head = patch.read_text().partition("\ndiff --git")[0]
        fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        return cls(patch, fields["Defect"], tuple(fields["Test"].split()))


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


def check(mutant: Mutant) -> str:
    """Apply a patch to a copy and run its tests. Returns what is wrong; empty when the defect is found."""
    with tempfile.TemporaryDirectory(prefix="mrmq-mutant-") as name:
        tree = Path(name)
        copy_tree(tree)
        applied = subprocess.run(
            ["git", "apply", "--recount", str(mutant.patch)], cwd=tree, capture_output=True, text=True
        )
        if applied.returncode != 0:
            return f"the patch does not apply: {applied.stderr.strip()}"
        try:
            code, words = run_tests(tree, mutant.tests)
        except subprocess.TimeoutExpired:
            return f"the tests did not end within {TEST_SECONDS} s"
    if code == PASSED:
        return "NOT FOUND: its tests pass"
    return "" if code == FAILED else f"pytest ended with {code}: {words}"


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
    with tempfile.TemporaryDirectory(prefix="mrmq-mutant-") as name:
        copy_tree(Path(name))
        code, words = run_tests(Path(name), tuple(dict.fromkeys(t for m in mutants for t in m.tests)))
    if code != PASSED:
        print(
            f"without any mutant the tests do not pass (pytest ended with {code}): {words}", file=sys.stderr
        )
        return 1
    missed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, wrong in zip(mutants, pool.map(check, mutants), strict=True):
            missed += bool(wrong)
            print(f"{mutant.patch.stem:<16} {wrong or 'found'}  | {mutant.defect}", flush=True)
    print(f"{len(mutants)} mutants, {len(mutants) - missed} found, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
