"""`python -m tests.scenarios --rewrite`: writes into every script what the scheduler does now."""

import sys
from pathlib import Path

from tests.scenarios.script import Script

for path in sorted(Path(__file__).parent.glob("*.txt")):
    played = Script().play(path.read_text())
    if "--rewrite" in sys.argv:
        path.write_text(played)
    else:
        print(f"=== {path.name}\n{played}")
