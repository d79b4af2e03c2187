"""What the soak counts, and the events that it writes down."""

import time
from collections import Counter
from pathlib import Path

#: Each must be 0 at the end.
DEFECTS = (
    "lost",
    "doubled",
    "wrong",
    "hung",
    "FAILED",
    "wrong end",
    "left behind",
    "daemons that ended by themselves",
    "daemons that did not end when told",
    "daemons over their memory",
)


class Tally:
    """Counts of one run, and its events in a file."""

    def __init__(self, events: Path) -> None:
        self._events = events
        #: When the first job was submitted (monotonic).
        self.began = time.monotonic()
        self.jobs: Counter[str] = Counter()
        self.tasks = 0
        #: Attempts that did not count in the end: failed ones, lost ones, those of lost outputs.
        self.reruns = 0
        self.faults: Counter[str] = Counter()
        self.defects: Counter[str] = Counter()
        self.seconds: list[float] = []

    @property
    def elapsed_seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.defects

    def note(self, text: str) -> None:
        """Write an event down."""
        with self._events.open("a") as events:
            events.write(f"{time.strftime('%H:%M:%S')} {self.elapsed_seconds:7.1f} {text}\n")

    def fault(self, name: str, detail: str) -> None:
        """Count a fault that has struck."""
        self.faults[name] += 1
        self.note(f"fault: {name} {detail}")

    def defect(self, kind: str, text: str) -> None:
        """Count a defect, and show it at once."""
        assert kind in DEFECTS, kind
        self.defects[kind] += 1
        self.note(f"DEFECT: {kind}: {text}")
        print(f"{self.clock()} {kind}: {text}", flush=True)

    def clock(self) -> str:
        """Minutes and seconds since the run began."""
        return f"{int(self.elapsed_seconds) // 60:3}:{int(self.elapsed_seconds) % 60:02}"

    def line(self) -> str:
        """Everything so far in one line."""
        wrong = ", ".join(f"{kind} {self.defects[kind]}" for kind in DEFECTS[:5])
        others = sum(self.defects[kind] for kind in DEFECTS[5:])
        return (
            f"{self.clock()} jobs {self.jobs.total()}, tasks {self.tasks}, faults {self.faults.total()}, "
            f"re-runs {self.reruns}, {wrong}, other defects {others}"
        )

    def summary(self) -> str:
        """Everything at the end."""
        ordered = sorted(self.seconds) or [0.0]
        rows = [
            f"jobs {self.jobs.total()}: " + ", ".join(f"{n} {kind}" for kind, n in self.jobs.most_common()),
            f"seconds of a completed job: median {ordered[len(ordered) // 2]:.1f}, most {ordered[-1]:.1f}",
            f"tasks {self.tasks}, re-runs {self.reruns}",
            f"faults {self.faults.total()}:",
            *(f"  {n:5} {name}" for name, n in self.faults.most_common()),
            *(f"{kind} {self.defects[kind]}" for kind in DEFECTS),
        ]
        return "\n".join(rows)
