"""The entry of a child process: runs one attempt with the code of its job, which stays loaded for the next.

A child serves one job only. The job file is imported once, for its first task; what it keeps in
module variables lives on from task to task of the same process, in an order that nothing promises.
So `*_init` is where a task's own state is set up: hooks run once for each attempt.
"""

from pathlib import Path

from mr.errors import BadInput, BadJob, MrError, ShuffleError
from mr.formats.allowed_paths import AllowedPaths
from mr.formats.registry import require_input, require_output
from mr.protocol.failures import Failure, FailureKind
from mr.protocol.ids import TaskKind, task_kind
from mr.protocol.jobs import CodeManifest
from mr.protocol.records import TaskResult
from mr.runtime import TaskContext, active
from mr.workers.messages import RunTask, Watch
from mr.workers.shuffle.transfer.fetch import InputLost
from mr.workers.task.context import Attempt, quiet_collector
from mr.workers.task.map_task import run_map
from mr.workers.task.reduce_task import run_reduce
from mr.workers.usercode.failures import TaskError, infrastructure_failure, out_of_memory
from mr.workers.usercode.functions import UserCode, load

#: The job file this process has loaded, by its directory and name.
_loaded: dict[tuple[str, str], UserCode] = {}


def run_attempt(run_task: RunTask, watch: Watch) -> TaskResult:
    """Run one attempt in this process. Raises TaskError, whose `failure` says what happened.

    `watch` is called once, with what tells how far the attempt is.
    """
    context = TaskContext({**run_task.spec.options.params, **run_task.spec.secret_params})
    with active(context), quiet_collector():
        try:
            check_places(run_task)
            attempt = Attempt(run_task, code_of(run_task), context)
            watch(attempt.meter.read)
            run = run_map if task_kind(run_task.attempt.task) is TaskKind.MAP else run_reduce
            return run(attempt)
        except TaskError:
            raise
        except InputLost as error:
            failure = Failure(FailureKind.INPUT_LOST, str(error), lost=error.lost)
            raise TaskError(failure) from error
        except MemoryError as error:
            raise TaskError(out_of_memory(run_task, "", "", "")) from error
        except (OSError, MrError, ShuffleError) as error:
            raise TaskError(infrastructure_failure(run_task, error)) from error


def check_places(run_task: RunTask) -> None:
    """Refuse what this worker may not read or write, or has no package for. Raises TaskError."""
    places, worker = AllowedPaths(run_task.settings), run_task.identity.worker
    try:
        if run_task.split is not None:
            require_input(run_task.spec.options.input_format)
            places.check_inputs(piece.path for piece in run_task.split.ranges)
        if task_kind(run_task.attempt.task) is run_task.spec.output_kind:
            require_output(run_task.spec.options.output_format)
            places.check_output(run_task.spec.output)
        elif run_task.split is not None and run_task.spec.options.skip_bad_records is not None:
            places.check_output(run_task.spec.output)  # for the list of bad records
    except BadInput as error:
        raise TaskError(Failure(FailureKind.INPUT_UNREADABLE, f"worker {worker}: {error}")) from error
    except BadJob as error:
        raise TaskError(Failure(FailureKind.OUTPUT_UNWRITABLE, f"worker {worker}: {error}")) from error


def code_of(run_task: RunTask) -> UserCode:
    """Give the job's code, imported at the first RunTask for its directory. Raises TaskError (BAD_JOB)."""
    name = (run_task.code_dir, run_task.spec.code.entry)
    code = _loaded.get(name)
    if code is None:
        try:
            code = load(Path(run_task.code_dir), run_task.spec.code.entry)
            _check_aggregations(code, run_task.spec.code)
        except BadJob as error:
            raise TaskError(_unloadable(run_task, error)) from error
        _loaded.clear()  # an earlier job's modules are gone with its finder
        _loaded[name] = code
    return code


def _check_aggregations(code: UserCode, manifest: CodeManifest) -> None:
    """Refuse a job file that chooses another built-in reducer here than it did at submission."""
    for name, submitted in (("reduce_fn", manifest.reduce_agg), ("combine_fn", manifest.combine_agg)):
        found = code.aggregation_spec(name)
        if found != submitted:
            raise BadJob(
                f"{name} is {found or 'no aggregation'} here, and was {submitted or 'none'} when the job was "
                "submitted; let it depend on nothing but constants and mr.param"
            )


def _unloadable(run_task: RunTask, error: BadJob) -> Failure:
    """Distinguish a defect of the job from a damaged spool: the job file existed when it was unpacked."""
    worker = run_task.identity.worker
    if not Path(run_task.code_dir, run_task.spec.code.entry).is_file():
        message = f"worker {worker}: the job's code is gone from {run_task.code_dir}; leave the spool alone"
        return Failure(FailureKind.INFRASTRUCTURE, message)
    return Failure(FailureKind.BAD_JOB, f"worker {worker} cannot load the job: {error}")
