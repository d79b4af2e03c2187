"""`tests/unit` mirrors the sources, so that a module's tests are found by its name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests" / "unit"
PACKAGES = ("mr", "coordinator", "workers")


def modules() -> set[str]:
    """Every module of the product, as `workers/daemon/spool`."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {path.relative_to(ROOT).with_suffix("").as_posix() for path in paths if path.stem != "__init__"}


def module_of(test: Path, known: set[str]) -> str | None:
    """The module that a test file names: `test_spool.py` and `test_spool_adoption.py` both name `spool`."""
    folder = test.parent.relative_to(UNIT).as_posix()
    words = test.stem.removeprefix("test_").split("_")
    for length in range(len(words), 0, -1):
        name = f"{folder}/{'_'.join(words[:length])}"
        if name in known:
            return name
    return None


def test_every_mutant_names_tests_that_exist() -> None:
    missing = []
    for patch in sorted((ROOT / "tests" / "mutants").glob("*.patch")):
        (names,) = [line for line in patch.read_text().splitlines() if line.startswith("Test: ")]
        for file, _, test in (name.partition("::") for name in re.findall(r"tests/\S+", names)):
            function = test.split("::")[-1].split("[")[0]
            path = ROOT / file
            if not path.is_file() or f"def {function}" not in path.read_text():
                missing.append(f"{patch.name}: {file}::{test}")
    assert not missing


def test_every_unit_test_file_names_a_module() -> None:
    known = modules()
    strays = [path for path in sorted(UNIT.rglob("test_*.py")) if not module_of(path, known)]
    assert not strays, "no module of that name in the same folder of the product"
