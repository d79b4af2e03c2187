"""Plays every script beside this file; a difference shows as the script it would have to be.

After a wanted change of behaviour: `python -m tests.scenarios --rewrite`, then read the difference.
"""

from pathlib import Path

import pytest

from tests.scenarios.script import Script

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scenario(script: Path) -> None:
    text = script.read_text()
    assert Script().play(text) == text


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 12
