"""Map and reduce attempts in this process: a job file, its inputs, and the parts it writes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mr.formats.input.files import list_inputs
from mr.formats.input.splits import plan_splits
from mr.formats.output.directory import publish_part
from mr.protocol.failures import Failure
from mr.protocol.ids import AttemptId, Incarnation, TaskId, TaskKind, WorkerId, task_id, task_index
from mr.protocol.jobs import JobSpec, Split
from mr.protocol.locations import pack_outputs
from mr.protocol.part_names import temporary_part
from mr.protocol.records import MapOutput, PartOutput, TaskResult
from mr.resolve import buffers_of
from mr.settings import Settings
from mr.workers.messages import Progress, RunTask, WorkerIdentity
from mr.workers.task.entry import run_attempt
from mr.workers.usercode.failures import TaskError
from mr.workers.usercode.inspect import inspect_job
from tests.support.specs import CODE_ID, make_spec

#: The attempts that were begun, newest last: whose they are, and what tells how far they are.
_watched: list[tuple["Workbench", Callable[[], Progress]]] = []


def look() -> None:
    """For a job's functions: note how far the attempt is that calls them."""
    bench, read = _watched[-1]
    bench.seen.append(read())


class Workbench:
    """One job's tasks, run by hand. `changes` go into the spec, `settings` into the settings of all."""

    def __init__(
        self, directory: Path, source: str, settings: dict[str, Any] | None = None, **changes: Any
    ) -> None:
        self.directory = directory
        self.code_dir = directory / "code"
        self.code_dir.mkdir(parents=True)
        (self.code_dir / "job.py").write_text(source)
        manifest = inspect_job(self.code_dir, "job.py", CODE_ID, changes.get("params"))
        self.output = directory / "out"
        (self.output / "_temporary" / "job-1").mkdir(parents=True)
        self.settings = Settings(**(settings or {}))
        changes = {
            "reduces": 1,
            "task_memory": 1 << 30,
            "buffers": buffers_of(self.settings),
            **changes,
        }
        self.spec: JobSpec = make_spec(code=manifest, output=str(self.output), **changes)
        #: What the job's functions saw by `look`.
        self.seen: list[Progress] = []
        self._attempts = 0

    def write_input(self, name: str, data: bytes | str) -> str:
        """Write an input file; returns its path."""
        path = self.directory / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    def plan(self, paths: Sequence[str], split_bytes: int = 1 << 20) -> tuple[Split, ...]:
        """Cut the inputs into splits."""
        self.spec = msgspec.structs.replace(self.spec, inputs=tuple(paths))
        files = list_inputs(paths)
        return plan_splits(
            files, input_format=self.spec.options.input_format, split_bytes=split_bytes, maps=None
        )

    def run_task(
        self, task: TaskId, split: Split | None = None, outputs: Sequence[MapOutput] = ()
    ) -> RunTask:
        """A RunTask with a directory of its own."""
        self._attempts += 1
        work_dir = self.directory / "work" / f"{task}-{self._attempts}"
        work_dir.mkdir(parents=True)
        return RunTask(
            spec=self.spec,
            attempt=AttemptId(self.spec.job_id, task, self._attempts),
            identity=WorkerIdentity(WorkerId("w1"), Incarnation("i1"), "", "here"),
            code_dir=str(self.code_dir),
            work_dir=str(work_dir),
            settings=self.settings,
            split=split,
            map_outputs=pack_outputs(outputs),
        )

    def map(self, split: Split) -> TaskResult:
        """Run one map task."""
        return run_attempt(self.run_task(task_id(TaskKind.MAP, split.index), split), self.watch)

    def reduce(self, partition: int, outputs: Sequence[MapOutput]) -> TaskResult:
        """Run one reduce task."""
        return run_attempt(self.run_task(task_id(TaskKind.REDUCE, partition), None, outputs), self.watch)

    def watch(self, read: Callable[[], Progress]) -> None:
        _watched.append((self, read))

    def look(self) -> Progress:
        """How far the last attempt is, or was when it ended."""
        return next(read for bench, read in reversed(_watched) if bench is self)()

    def map_failure(self, split: Split) -> Failure:
        """Run a map task that must fail; returns how."""
        return failure_of(lambda: self.map(split))

    def run(self, paths: Sequence[str], split_bytes: int = 1 << 20) -> list[TaskResult]:
        """Run the whole job and publish its parts; returns all results, maps first."""
        maps = [self.map(split) for split in self.plan(paths, split_bytes)]
        results = list(maps)
        if self.spec.reduces:
            outputs = [result.output for result in maps if isinstance(result.output, MapOutput)]
            results += [self.reduce(partition, outputs) for partition in range(self.spec.reduces)]
        for result in results:
            if isinstance(result.output, PartOutput):
                publish_part(
                    self.spec.output, self.spec.job_id, result.output, self.spec.options.output_format
                )
        return results

    def part_text(self, part: PartOutput) -> str:
        """What an attempt wrote into its own file."""
        spec = self.spec
        return Path(
            temporary_part(
                spec.output,
                spec.job_id,
                task_index(part.attempt.task),
                part.attempt.number,
                part.incarnation,
                spec.options.output_format,
            )
        ).read_text()

    def parts(self) -> dict[str, bytes]:
        """The published parts by name."""
        return {path.name: path.read_bytes() for path in sorted(self.output.glob("part-*"))}

    def lines(self) -> list[str]:
        """All lines of all parts, in order."""
        return b"".join(self.parts().values()).decode().splitlines()


def failure_of(run: Any) -> Failure:
    """Call `run`, which must raise TaskError; returns the failure."""
    try:
        run()
    except TaskError as error:
        return error.failure
    raise AssertionError("the attempt did not fail")
