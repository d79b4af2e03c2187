"""The cluster, simulated from 1,000 seeds: every job ends as it deserves, with the reference's output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mr.coordinator.core import attempts
from tests.simulation.__main__ import run_batch
from tests.simulation.marks import MARKS
from tests.simulation.run import SimulationFailed, simulate

SEEDS = 1000
BATCH = 25
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_every_job_ends_as_it_deserves(first: int) -> None:
    assert run_batch(first, first + BATCH).failures == []


def test_every_kind_of_trouble_is_met() -> None:
    met: set[str] = set()
    for first in range(SEEDS, 2 * SEEDS, 10):
        met |= run_batch(first, first + 10).met.keys()
        if met == MARKS.keys():
            return
    assert MARKS.keys() - met == set()


def replay(seed: int, hash_seed: str) -> str:
    """Run one seed by the command that a failure prints."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "-v"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("seed", [7, 20])
def test_a_seed_replays_exactly_in_any_process(seed: int) -> None:
    simulate(seed + 1)  # nothing is left of another simulation in the same process
    here = "\n".join(simulate(seed).trace)
    assert here in replay(seed, "1")
    assert here in replay(seed, "2")


def test_a_failing_seed_names_its_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that never runs lost map outputs again is found out."""
    monkeypatch.setattr(attempts, "reopen_lost_inputs", lambda *_: False)
    monkeypatch.setattr("mr.coordinator.core.lost_outputs.reopen_output", lambda *_: False)
    with pytest.raises(SimulationFailed, match=r"python -m tests\.simulation --seed \d+ -v"):
        for seed in range(100):
            simulate(seed)
