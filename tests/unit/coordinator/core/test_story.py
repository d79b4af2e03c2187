"""The story of a job: bounded, and counted where things happen again."""

from mr.coordinator.core.story import REASON_CHARACTERS, Story
from mr.protocol.ids import Incarnation
from mr.protocol.records import MAX_INCIDENTS, Incident, IncidentKind


def died(worker: str, at: float = 1.0, **counts: int) -> Incident:
    life = Incarnation(f"{worker}.1")
    return Incident(kind=IncidentKind.WORKER_DIED, at=at, subject=worker, incarnation=life, **counts)


def test_what_happens_again_is_counted_in_one_entry_also_after_a_takeover() -> None:
    story = Story(())
    story.note(died("w1", times=0, attempts=1))
    story.note(died("w2", 2.0, outputs=1))
    story = Story(story.incidents)
    story.note(died("w1", 3.0, times=0, outputs=2))
    assert story.incidents == (died("w1", attempts=1, outputs=2), died("w2", 2.0, outputs=1))


def test_the_number_and_the_length_of_entries_are_bounded() -> None:
    story = Story(())
    for number in range(2 * MAX_INCIDENTS):
        story.note(died(f"w{number}", outputs=1))
    story.note(died("w0", outputs=1))
    *named, more = story.incidents
    assert len(named) == MAX_INCIDENTS - 1
    assert named[0].outputs == 2
    assert (more.kind, more.subject, more.times) == (IncidentKind.MORE, "", MAX_INCIDENTS + 1)
    assert sum(incident.outputs for incident in story.incidents) == 2 * MAX_INCIDENTS + 1
    story = Story(())
    story.note(Incident(kind=IncidentKind.BACKUP, at=1.0, reason="x" * 10_000))
    assert len(story.incidents[0].reason) <= REASON_CHARACTERS
