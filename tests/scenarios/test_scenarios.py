"""Plays every script beside this file; a difference shows as the script it would have to be.

After a wanted change of behaviour: `python -m tests.scenarios --rewrite`, then read the difference.
"""

from pathlib import Path

import pytest

from tests.scenarios.script import Script

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))

#: What a script proves of a process that dies: the fault, when it strikes, what the coordinator decides.
FAULTS = {
    "blip": ("worker frozen beyond its lease, then continued", "mid-map", "its attempt may still win"),
    "takeover": (
        "coordinator killed, a standby takes over",
        "mid-map and mid-reduce",
        "claims and results show how far the job is; nothing runs again",
    ),
    "takeover_finishing": (
        "coordinator killed, a standby takes over",
        "while finishing",
        "the output is finished again",
    ),
    "worker_dies_mapping": (
        "worker silent for good",
        "mid-map, with a map output",
        "both maps run elsewhere once its lease has ended",
    ),
    "worker_dies_reducing": (
        "worker silent for good",
        "mid-reduce, with map outputs",
        "the outputs are made again, then the reduce runs elsewhere",
    ),
    "worker_killed": (
        "worker killed",
        "mid-map, with a map output",
        "its closed port and queue prove it; both maps run elsewhere long before its lease ends",
    ),
    "worker_leaves": (
        "worker stopped at once",
        "mid-map, with a map output",
        "it gives back its leases and takes its outputs with it: both maps run elsewhere",
    ),
    "worker_restarts_with_spool": (
        "worker stopped at once and restarted",
        "with map outputs in its spool",
        "the outputs are adopted, no map runs again",
    ),
}


def _case(script: Path) -> object:
    """A script, with its line in the table of faults if it has one."""
    fault = FAULTS.get(script.stem)
    names = ("fault", "phase", "outcome")
    marks = [pytest.mark.fault(**dict(zip(names, fault, strict=True)))] if fault else []
    return pytest.param(script, id=script.stem, marks=marks)


@pytest.mark.parametrize("script", [_case(script) for script in SCRIPTS])
def test_scenario(script: Path) -> None:
    text = script.read_text()
    assert Script().play(text) == text


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 12
