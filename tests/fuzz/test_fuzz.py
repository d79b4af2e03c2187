"""A minute of fuzzing, and what fuzzing has found before.

MR_TEST_FUZZ_SECONDS and MR_TEST_FUZZ_SEED say for how long in all, and from which seed.
"""

import os
from pathlib import Path

import pytest

from tests.fuzz.__main__ import KEPT
from tests.fuzz.harness import Finding, Fuzzer
from tests.fuzz.targets import DAEMONS, FAST, target_named

SECONDS = float(os.environ.get("MR_TEST_FUZZ_SECONDS", "60"))
SEED = os.environ.get("MR_TEST_FUZZ_SEED", "1")
#: Half of the time is for the daemons, a second one for starting and ending them.
SHARES = {make.name: SECONDS / 2 / len(group) for group in (FAST, DAEMONS) for make in group}  # type: ignore[attr-defined]
FOUND = sorted((Path(__file__).parent / "found").glob("*.msgpack"))


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("name", SHARES)
def test_no_input_does_harm(name: str) -> None:
    fuzzer = Fuzzer(target_named(name))
    try:
        finding = fuzzer.run(SEED, SHARES[name])
    finally:
        fuzzer.close()
    if finding is not None:
        path = finding.keep(KEPT)
        pytest.fail(f"{finding.error}\n\npython -m tests.fuzz --replay {path}")
    assert fuzzer.inputs > 0


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_was_found_does_no_harm_any_more(path: Path) -> None:
    finding = Finding.read(path)
    fuzzer = Fuzzer(target_named(finding.target))
    try:
        error = fuzzer.feed(finding.case)
    finally:
        fuzzer.close()
    assert not error, error
