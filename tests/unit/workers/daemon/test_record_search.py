"""The search for the records over which an attempt fails, against scripted children."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mr.protocol.bad_records import BadRecord
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.jobs import FileRange, Split
from mr.protocol.records import MapOutput, TaskResult, TaskStats
from mr.workers.daemon.record_search import RecordSearch
from mr.workers.messages import RunTask
from mr.workers.process.executor import Outcome
from mr.workers.task.record_notes import add_known, place_of, read_known
from tests.support.run_tasks import make_run_task
from tests.support.specs import make_manifest, make_spec

DEATH = Failure(FailureKind.KILLED, "killed by SIGSEGV", signal=11, output_tail="Fatal Python error")
RAISED = Failure(FailureKind.USER_ERROR, "map_fn raised ValueError", function="map_fn")
#: Two ranges of the split, and where the records of each begin.
POSITIONS = {"a": tuple(range(0, 400, 4)), "b": tuple(range(0, 40, 4))}


class Child:
    """Behaves as a child that maps the records above, and notes as it does.

    `raises`, `kills`: (path, position) of records that do so. `fails(mapped)`: how a process fails that has
    mapped these records, whatever they are.
    """

    def __init__(
        self,
        raises: frozenset[tuple[str, int]] = frozenset(),
        kills: frozenset[tuple[str, int]] = frozenset(),
        fails: Callable[[list[tuple[str, int]]], Failure | None] = lambda mapped: None,
    ) -> None:
        self.raises, self.kills, self.fails = raises, kills, fails
        self.runs: list[RunTask] = []
        self.mapped: list[tuple[str, int]] = []

    async def run(self, run_task: RunTask) -> Outcome:
        _use_directory(Path(run_task.work_dir))
        self.runs.append(run_task)
        failure = self._map(run_task)
        if failure is not None:
            return Outcome(failure=failure)
        output = MapOutput(run_task.attempt, WorkerId("w1"), Incarnation("i1"), "", "", "")
        return Outcome(result=TaskResult(output, TaskStats(records_in=len(self.mapped))))

    def _map(self, run_task: RunTask) -> Failure | None:
        assert run_task.split is not None
        known = {(record.path, record.position) for record in read_known(run_task.known_bad)}
        self.mapped = []
        if run_task.started:
            Path(run_task.started).write_bytes(b"")
        for number, piece in enumerate(run_task.split.ranges):
            for position in POSITIONS[piece.path]:
                record = (piece.path, position)
                if record in known or (piece.only and position not in piece.only):
                    continue
                self.mapped.append(record)
                if run_task.started:
                    with Path(run_task.started).open("ab") as file:
                        file.write(place_of(number, position))
                if record in self.raises:
                    if not run_task.started:
                        return RAISED
                    add_known(
                        run_task.known_bad,
                        BadRecord(path=record[0], position=position, kind=RAISED.kind, message="ValueError"),
                    )
                if record in self.kills:
                    return DEATH
                if (failure := self.fails(self.mapped)) is not None:
                    return failure
        return None

    @property
    def searches(self) -> list[RunTask]:
        return [run for run in self.runs if run.started]


def _use_directory(directory: Path) -> None:
    assert directory.is_dir() and not list(directory.iterdir())
    (directory / "spill").touch()


def attempt(directory: Path, functions: tuple[str, ...] = ("map_fn", "reduce_fn")) -> RunTask:
    spec = make_spec(skip_bad_records="5", code=make_manifest(functions=functions))
    ranges = tuple(FileRange(path, 0, 400, 400) for path in POSITIONS)
    return msgspec.structs.replace(make_run_task(directory, spec), split=Split(0, ranges))


async def search(directory: Path, child: Child) -> tuple[Outcome, list[BadRecord]]:
    run_task = attempt(directory)
    assert run_task.split is not None and run_task.spec.options.skip_bad_records is not None
    outcome = await RecordSearch(run_task, run_task.split, child.run).outcome()
    return outcome, read_known(str(Path(run_task.work_dir, "bad-records")))


def places(known: list[BadRecord]) -> set[tuple[str, int]]:
    return {(record.path, record.position) for record in known}


async def test_an_attempt_that_succeeds_runs_once_and_at_full_speed(tmp_path: Path) -> None:
    child = Child()
    outcome, known = await search(tmp_path, child)
    assert outcome.result is not None and known == []
    assert [run.started for run in child.runs] == [""]


async def test_records_that_raise_are_found_in_one_search(tmp_path: Path) -> None:
    raises = frozenset({("a", 0), ("a", 40), ("b", 36)})
    child = Child(raises=raises)
    outcome, known = await search(tmp_path, child)
    assert outcome.result is not None
    assert places(known) == raises
    assert [bool(run.started) for run in child.runs] == [False, True, False]
    assert not set(child.mapped) & raises


async def test_records_that_kill_are_tried_alone_and_named_with_their_cause(tmp_path: Path) -> None:
    kills = frozenset({("a", 8), ("b", 4)})
    child = Child(kills=kills, raises=frozenset({("a", 4)}))
    outcome, known = await search(tmp_path, child)
    assert outcome.result is not None
    assert places(known) == kills | {("a", 4)}
    killer = next(record for record in known if record.path == "b")
    assert (killer.kind, killer.signal, killer.message) == (FailureKind.KILLED, 11, "killed by SIGSEGV")
    assert killer.traceback == "Fatal Python error"
    tried = [[(r.path, r.only) for r in run.split.ranges] for run in child.searches if run.split]
    assert [ranges for ranges in tried if len(ranges) == 1] == [[("a", (8,))], [("b", (4,))]]


async def test_one_that_kills_later_is_found_by_halving(tmp_path: Path) -> None:
    guilty = ("a", 120)

    child = Child()

    def fails(mapped: list[tuple[str, int]]) -> Failure | None:
        """It breaks the process, which dies five records later, or at its end if there are fewer."""
        split = child.runs[-1].split
        few = split is not None and any(piece.only for piece in split.ranges)
        return DEATH if guilty in mapped and (few or len(mapped) - mapped.index(guilty) > 5) else None

    child.fails = fails
    outcome, known = await search(tmp_path, child)
    assert outcome.result is not None
    assert places(known) == {guilty}


async def test_what_accumulates_is_no_records_fault_so_the_task_fails_as_without_the_option(
    tmp_path: Path,
) -> None:
    child = Child(fails=lambda mapped: DEATH if len(mapped) > 70 else None)
    outcome, known = await search(tmp_path, child)
    assert outcome.failure == DEATH
    assert known == []
    # halving maps about as many records as there are, not as many for each
    assert len(child.searches) < 12


async def test_a_failure_that_is_no_records_ends_the_attempt_without_a_search(tmp_path: Path) -> None:
    for failure in (
        Failure(FailureKind.INFRASTRUCTURE, "no space left"),
        Failure(FailureKind.BAD_INPUT, "too many bad records"),
        Failure(FailureKind.USER_ERROR, "combine_fn raised", function="combine_fn"),
    ):
        directory = tmp_path / failure.kind
        directory.mkdir()
        child = Child(fails=lambda mapped, failure=failure: failure)  # type: ignore[misc]
        outcome, known = await search(directory, child)
        assert (outcome.failure, known, len(child.runs)) == (failure, [], 1)


async def test_a_failure_of_another_kind_inside_the_search_ends_the_attempt_with_it(tmp_path: Path) -> None:
    many = Failure(FailureKind.BAD_INPUT, "more than 5 bad records")
    child = Child(raises=frozenset({("a", 0)}))
    child.fails = lambda mapped: many if child.runs[-1].started and len(mapped) > 3 else None
    outcome, _ = await search(tmp_path, child)
    assert outcome.failure == many


async def test_a_death_that_does_not_come_again_is_retried_as_ever(tmp_path: Path) -> None:
    """A process that was killed from outside."""
    child = Child()
    child.fails = lambda mapped: DEATH if len(child.runs) == 1 else None
    outcome, known = await search(tmp_path, child)
    assert (outcome.failure, known) == (DEATH, [])
    assert len(child.runs) == 2


async def test_a_record_that_fails_only_sometimes_does_not_keep_the_attempt_for_ever(tmp_path: Path) -> None:
    child = Child()
    child.fails = lambda mapped: None if child.runs[-1].started else RAISED
    outcome, known = await search(tmp_path, child)
    assert (outcome.failure, known) == (RAISED, [])


async def test_batches_are_not_searched(tmp_path: Path) -> None:
    child = Child(fails=lambda mapped: DEATH)
    run_task = attempt(tmp_path, functions=("map_batch", "reduce_fn"))
    assert run_task.split is not None
    outcome = await RecordSearch(run_task, run_task.split, child.run).outcome()
    assert (outcome.failure, len(child.runs)) == (DEATH, 1)


async def test_a_stop_inside_the_search_goes_through(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    child = Child(kills=frozenset({("a", 8)}))

    async def run(run_task: RunTask) -> Outcome:
        if len(child.runs) == 2:
            raise Stop
        return await child.run(run_task)

    run_task = attempt(tmp_path)
    assert run_task.split is not None
    with pytest.raises(Stop):
        await RecordSearch(run_task, run_task.split, run).outcome()


async def test_a_spool_that_is_gone_is_the_workers_fault(tmp_path: Path) -> None:
    run_task = attempt(tmp_path)
    assert run_task.split is not None
    Path(run_task.work_dir).rmdir()  # noqa: ASYNC240 - one small directory
    outcome = await RecordSearch(run_task, run_task.split, Child().run).outcome()
    assert outcome.failure is not None and outcome.failure.kind is FailureKind.INFRASTRUCTURE
