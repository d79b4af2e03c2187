"""A job file's functions, loaded and checked: each has the right name, shape and company."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from mr.agg import Aggregation
from mr.errors import BadJob
from mr.job import Job
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.options import GivenOptions, JobOptions
from mr.workers.usercode.loader import import_job_file

#: What a job file may define, with the parameters each is called with.
FUNCTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "map_fn": ("key", "value"),
        "map_batch": ("batch",),
        "reduce_fn": ("key", "values"),
        "combine_fn": ("key", "values"),
        "partition_fn": ("key", "partitions"),
        "map_init": (),
        "map_final": (),
        "reduce_init": (),
        "reduce_final": (),
    }
)

#: Names people write when they mean one of FUNCTIONS.
_MISNOMERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "map_fn": ("map", "mapper", "mapper_fn", "map_func", "map_function", "mapfn", "do_map"),
        "map_batch": ("map_batches", "batch_map", "map_batch_fn", "mapper_batch"),
        "reduce_fn": ("reduce", "reducer", "reducer_fn", "reduce_func", "reduce_function", "reducefn"),
        "combine_fn": ("combiner", "combiner_fn", "combine_func", "combine_function"),
        "partition_fn": ("partitioner", "partitioner_fn", "partition_func"),
        "map_init": ("init_map", "map_setup", "mapper_init", "init_mapper"),
        "map_final": ("final_map", "map_cleanup", "map_finalize", "mapper_final"),
        "reduce_init": ("init_reduce", "reduce_setup", "reducer_init", "init_reducer"),
        "reduce_final": ("final_reduce", "reduce_cleanup", "reduce_finalize", "reducer_final"),
    }
)

#: How similar an unknown name must be to a known one to count as a typing error.
_LIKENESS = 0.85


@dataclass(frozen=True, slots=True)
class UserCode:
    """A job file that was imported and found right."""

    directory: Path
    entry: str
    module: ModuleType
    #: The functions present, in the order of FUNCTIONS.
    functions: Mapping[str, Any]
    options: GivenOptions

    def get(self, name: str) -> Any:
        """Give the user's function (or aggregation) `name`, or None when the job file has none."""
        return self.functions.get(name)

    def aggregation(self, name: str) -> Aggregation | None:
        """Give the built-in of `mr.agg` that stands in for `reduce_fn` or `combine_fn`, or None."""
        return as_aggregation(self.functions.get(name))

    def aggregation_spec(self, name: str) -> AggregationSpec | None:
        """Give the spec of that built-in, or None."""
        aggregation = self.aggregation(name)
        return None if aggregation is None else aggregation.spec


def load(code_dir: Path, entry: str) -> UserCode:
    """Import the job file `entry` of an unpacked bundle as a fresh module and check its functions.

    Raises BadJob with one line that says what to correct.
    """
    return check(import_job_file(code_dir, entry), Path(code_dir), entry)


def as_aggregation(function: Any) -> Aggregation | None:
    """Give `function` back if it is a built-in of `mr.agg`, else None."""
    return function if isinstance(function, Aggregation) else None


def check(module: ModuleType, code_dir: Path, entry: str) -> UserCode:
    """Collect and check what a job file defines. Raises BadJob with one line."""
    functions = {name: getattr(module, name) for name in FUNCTIONS if hasattr(module, name)}
    options = _options(module, entry)
    _check_names(module, functions, entry)
    for name, function in functions.items():
        _check_function(name, function, entry)
    _check_company(functions, entry)
    if "reduce_fn" not in functions and options.reduces:
        raise BadJob(f"{entry} has no reduce_fn, but JOB says reduces={options.reduces}; set it to 0")
    return UserCode(code_dir, entry, module, MappingProxyType(functions), options)


def _options(module: ModuleType, entry: str) -> GivenOptions:
    job = getattr(module, "JOB", None)
    if isinstance(job, Job):
        return job.options
    if hasattr(module, "JOB"):
        raise BadJob(f"{entry}: JOB is of type {type(job).__name__}; write JOB = mr.Job(...)")
    for name, value in vars(module).items():
        if isinstance(value, Job):
            raise BadJob(f"{entry}: the mr.Job is called {name}; it must be called JOB")
    return JobOptions()


def _check_names(module: ModuleType, functions: Mapping[str, Any], entry: str) -> None:
    """Refuse a job file without map function, and one whose function is misnamed and so never called."""
    meant = dict(_misnamed(module, functions))
    if "map_fn" not in functions and "map_batch" not in functions:
        wrong = next((wrong for wrong, right in meant.items() if right in ("map_fn", "map_batch")), None)
        found = f"; it has {wrong}: rename it to {meant[wrong]}" if wrong else "; define map_fn(key, value)"
        raise BadJob(f"{entry} has no map_fn{found}")
    for wrong, right in meant.items():
        if right in ("map_fn", "map_batch"):
            continue  # the other map function is there: this one is a helper
        raise BadJob(
            f"{entry} has {wrong} but no {right}; rename it to {right}, or to _{wrong} if it is only a helper"
        )


def _misnamed(module: ModuleType, functions: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield (name written, name meant) of the module's own functions that look like absent ones."""
    absent = [name for name in FUNCTIONS if name not in functions]
    for name, value in vars(module).items():
        if name.startswith("_") or name in FUNCTIONS or not callable(value):
            continue
        if getattr(value, "__module__", None) != module.__name__ and not isinstance(value, Aggregation):
            continue  # imported from elsewhere, such as functools.reduce
        for right in absent:
            if name.lower() in _MISNOMERS[right]:
                yield name, right
                break
        else:
            mapless = "map_fn" in absent and "map_batch" in absent  # then it is refused in any case
            near = difflib.get_close_matches(name.lower(), absent, n=1, cutoff=0.7 if mapless else _LIKENESS)
            if near:
                yield name, near[0]


def _check_function(name: str, function: Any, entry: str) -> None:
    """Refuse what cannot be called the way the engine will call it."""
    expected = FUNCTIONS[name]
    call = f"{name}({', '.join(expected)})"
    if isinstance(function, Aggregation):
        if name in ("reduce_fn", "combine_fn"):
            return
        raise BadJob(f"{entry}: {name} is {function}, which can only be reduce_fn; define {call}")
    if getattr(function, "__module__", None) == Aggregation.__module__:
        written = f"mr.agg.{function.__name__}"
        raise BadJob(f"{entry}: {name} is {written}, which makes a reducer; call it: {written}(...)")
    if not callable(function):
        raise BadJob(f"{entry}: {name} is of type {type(function).__name__}, not a function; define {call}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise BadJob(f"{entry}: {name} is async; define it with a plain def")
    if name in ("map_init", "reduce_init") and inspect.isgeneratorfunction(function):
        raise BadJob(f"{entry}: {name} yields, so its body would never run; only *_final may give pairs")
    if name == "partition_fn" and inspect.isgeneratorfunction(function):
        raise BadJob(f"{entry}: partition_fn yields; it must return the number of a partition")
    try:
        inspect.signature(function).bind(*expected)
    except ValueError:
        return  # a built-in without a signature
    except TypeError as error:
        raise BadJob(f"{entry}: {name} must take {_parameters(expected)}: {call}; {error}") from None


def _parameters(expected: tuple[str, ...]) -> str:
    if not expected:
        return "no parameters"
    return "1 parameter" if len(expected) == 1 else f"{len(expected)} parameters"


def _check_company(functions: Mapping[str, Any], entry: str) -> None:
    """Refuse functions that exclude or need each other."""
    if "map_fn" in functions and "map_batch" in functions:
        raise BadJob(f"{entry} has both map_fn and map_batch; keep one")
    if "reduce_fn" not in functions:
        for name in ("combine_fn", "partition_fn", "reduce_init", "reduce_final"):
            if name in functions:
                raise BadJob(f"{entry} has {name} but no reduce_fn; define reduce_fn, or remove {name}")
        return
    reducing, combining = map(as_aggregation, (functions["reduce_fn"], functions.get("combine_fn")))
    if reducing and "combine_fn" in functions and combining != reducing:
        raise BadJob(f"{entry}: reduce_fn = {reducing} combines by itself; remove combine_fn")
    if combining and not reducing and not combining.feeds_reduce_fn:
        raise BadJob(
            f"{entry}: combine_fn = {combining} gives no values that a Python reduce_fn can go on with, "
            f"as mr.agg.sum does; remove it, or make reduce_fn {combining} too"
        )


def as_iterable(function: Callable[..., Any]) -> Callable[..., Iterable[Any]]:
    """Make a user function give an iterable at each call, so that C code can chain what it gives.

    A generator function is left alone. Around any other goes a thin shim: None becomes no pairs,
    and a StopIteration becomes an error, where `map` would take it for the end of its input.
    """
    if inspect.isgeneratorfunction(function):
        return function

    def call(*arguments: Any) -> Iterable[Any]:
        try:
            given = function(*arguments)
        except StopIteration as error:
            raise RuntimeError("a StopIteration came out of the function") from error
        return () if given is None else given

    return call
