"""What the coordinator remembers of workers, and for how long."""

from mr.coordinator.core.membership import Membership
from mr.protocol.ids import Incarnation, JobId, WorkerId
from mr.protocol.records import WorkerBeat, WorkerView
from mr.settings import Settings


def view(life: str, **fields: object) -> WorkerView:
    """A live worker's heartbeat; `life` is `worker.incarnation`."""
    worker = life.partition(".")[0]
    kept = {"worker": worker, "incarnation": life, "host": "h", "address": "h:1", "version": "0"}
    beat = WorkerBeat(**{**kept, "started_at": 0.0, "slots": 1, "open_slots": 1, **fields})  # type: ignore[arg-type]
    return WorkerView(beat, 0.0, True)


def test_blame_is_forgotten_with_time() -> None:
    membership = Membership(Settings(exclude_seconds=100.0))
    for number in range(5):
        membership.blame(WorkerId(f"w{number}"), JobId("job"), now=float(number))
    membership.observe(103.0, ())
    assert set(membership._blames) == {WorkerId("w4")}


def test_a_paused_worker_is_remembered_until_its_pause_ends() -> None:
    membership = Membership(Settings(exclude_seconds=100.0, exclude_jobs=1))
    membership.blame(WorkerId("w"), JobId("job"), now=0.0)
    membership._blames[WorkerId("w")].paused_until = 150.0
    membership.observe(149.0, ())
    assert membership._blames
    membership.observe(151.0, ())
    assert not membership._blames


def test_a_life_that_misses_three_heartbeats_is_asked_for_as_silent() -> None:
    """Killed before its port was reached once: a refusal is a proof together with the silence."""
    membership = Membership(Settings(heartbeat_seconds=2.0))
    membership.observe(1.0, (view("w1.1", number=1, control_queue="q"),))
    stays = WorkerView(view("w1.1", number=1, control_queue="q").beat, 7.0, True)
    assert [probe.silent for probe in membership.due_probes(2.0)] == [False]
    membership.observe(8.0, (stays,))
    assert [(probe.silent, probe.reachable) for probe in membership.due_probes(8.0)] == [(True, False)]


def test_a_life_that_ended_before_another_began_in_its_spool_is_dead_at_once() -> None:
    """It was killed and followed before this coordinator could ask for its process."""
    membership = Membership(Settings(lease_seconds=300.0))
    old, new = Incarnation("w1.1"), Incarnation("w1.2")
    assert membership.observe(1.0, (view("w1.1", number=1), view("w2.1", number=1))) == set()
    assert membership.observe(2.0, (view("w1.2", number=1, ended=(old,)), view("w2.1", number=2))) == {old}
    assert membership.is_gone(old) and not membership.is_dead(new)
    assert membership.observe(3.0, (view("w1.2", number=2, ended=(old,)), view("w2.1", number=3))) == set()


def test_a_life_that_is_said_to_have_stopped_and_beats_on_lives() -> None:
    """Whoever said so lied, and the store had lost the heartbeat that shows it, for a moment."""
    membership = Membership(Settings())
    life = Incarnation("w1.1")
    membership.observe(1.0, (view("w1.1", number=4),))
    assert membership.stopped(WorkerId("w1"), life, 2.0)
    membership.observe(3.0, (view("w1.1", number=4),))  # read before it stopped
    assert membership.is_dead(life)
    membership.observe(4.0, (view("w1.1", number=5),))
    assert not membership.is_dead(life) and not membership.has_left(life)
