"""The cluster, simulated from 300 seeds: every job ends as it deserves, with the reference's output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mr.coordinator.core import attempts
from tests.simulation.run import SimulationFailed, simulate

SEEDS = 300
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_every_job_ends_as_it_deserves(first: int) -> None:
    for seed in range(first, first + 10):
        simulate(seed)


@pytest.fixture(scope="module")
def everything() -> str:
    """The traces of some more seeds."""
    return "\n".join(line for seed in range(1000, 1080) for line in simulate(seed).trace)


@pytest.mark.parametrize(
    "mark",
    [
        " crashes with ['",
        "stops in good order",
        " drains",
        " adopts job-",
        "loses its disk",
        "is mute until",
        "loses its connection",
        "broker drops",
        "coordinator dies",
        "the store is emptied",
        "the store comes back as it was",
        "the coordinator writes back",
        "is ended again",
        "had completed",
        "a newer attempt of it is here",
        ": held",
        ": committed",
        ": gone",
        "may not commit",
        "another attempt won",
        "is dead, found gone",
        "lives, found gone",
        "are given back",
        "its claim is gone",
        "the job is over",
        "backup for",
        ": lost {",
        ": user_error",
        ": killed",
        ": input_lost",
        ": infrastructure",
        "is paused",
        " COMPLETED",
        " FAILED: ",
        " CANCELLED",
    ],
)
def test_every_kind_of_trouble_is_met(everything: str, mark: str) -> None:
    assert mark in everything


def replay(seed: int, hash_seed: str) -> str:
    """Run one seed by the command that a failure prints."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "-v"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_a_seed_replays_exactly_in_any_process() -> None:
    here = "\n".join(simulate(7).trace)
    assert here in replay(7, "1")
    assert here in replay(7, "2")


def test_a_failing_seed_names_its_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that never runs lost map outputs again is found out."""
    monkeypatch.setattr(attempts, "reopen_lost_inputs", lambda *_: False)
    monkeypatch.setattr("mr.coordinator.core.lost_outputs.reopen_output", lambda *_: False)
    with pytest.raises(SimulationFailed, match=r"python -m tests\.simulation --seed \d+ -v"):
        for seed in range(100):
            simulate(seed)
