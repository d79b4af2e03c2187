"""`tests/unit` mirrors the sources, so that a module's tests are found by its name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests" / "unit"
PACKAGES = ("mr", "coordinator", "workers")

#: A module shorter than this may be left to the tests of those who use it.
SHORT = 60

#: Modules tested without a file of their name, and where. This list may only shrink.
COVERED_ELSEWHERE = {
    # tests/contract and tests/integration hold every adapter to its port
    "mr/adapters/memory/broker",
    "mr/adapters/memory/claims",
    "mr/adapters/memory/scheduling",
    "mr/adapters/memory/state",
    "mr/adapters/memory/workers",
    "mr/adapters/rabbitmq/broker",
    "mr/adapters/rabbitmq/errors",
    "mr/adapters/rabbitmq/publisher",
    "mr/adapters/rabbitmq/subscription",
    "mr/adapters/redis/claims",
    "mr/adapters/redis/code",
    "mr/adapters/redis/jobs",
    "mr/adapters/redis/keys",
    "mr/adapters/redis/scheduling",
    "mr/adapters/redis/store",
    "mr/adapters/redis/workers",
    # shapes and interfaces, without behaviour of their own to speak of
    "coordinator/core/commands",
    "coordinator/core/events",
    "mr/errors",
    "mr/ports/broker",
    "mr/ports/claims",
    "mr/ports/scheduling",
    "mr/protocol/claims",
    "mr/protocol/formats",
    "mr/protocol/ids",
    "mr/protocol/jobs",
    "mr/protocol/messages",
    # tests/scenarios, tests/simulation and tests/property, by the scheduler
    "coordinator/core/isolation",
    "coordinator/core/job_phases",
    "coordinator/core/reconcile",
    "coordinator/core/speculation",
    "coordinator/core/state",
    # tests/e2e/test_resume, and the faults there
    "coordinator/outputs",
    "coordinator/resumer",
    "workers/daemon/kept_outputs",
    # tests/e2e, by the command line
    "mr/cli/daemons",
    "mr/cli/run",
    "mr/cli/options",
    "mr/cli/settings",
    # test_executor, with real processes
    "workers/process/child",
    "workers/process/exit_failures",
    "workers/process/template",
    "workers/process/template_client",
    # tests/property, and the tests of segments, groups, buffers and the server
    "workers/shuffle/combine",
    "workers/shuffle/kernel",
    "workers/shuffle/merge",
    "workers/shuffle/prefix_sort",
    "workers/shuffle/rows",
    "workers/shuffle/sort",
    "workers/shuffle/transfer/connections",
    # test_map_task, test_reduce_task and test_functions, by whole attempts
    "workers/task/combiners",
    "workers/task/context",
    "workers/task/entry",
    "workers/task/sinks",
    "workers/usercode/loader",
    "workers/usercode/tracebacks",
    # the tests of those who use them
    "coordinator/stored_jobs",
    "mr/formats/output/column_types",
    "mr/formats/output/lines",
    "mr/formats/output/row_groups",
    "mr/formats/storage",
    "mr/request_summary",
    "workers/daemon/claimed_attempt",
}


def modules() -> set[str]:
    """Every module of the product, as `workers/daemon/spool`."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {path.relative_to(ROOT).with_suffix("").as_posix() for path in paths if path.stem != "__init__"}


def module_of(test: Path, known: set[str]) -> str | None:
    """The module that a test file names: `test_spool.py` and `test_spool_adoption.py` both name `spool`."""
    folder = test.parent.relative_to(UNIT).as_posix()
    words = test.stem.removeprefix("test_").split("_")
    for length in range(len(words), 0, -1):
        name = f"{folder}/{'_'.join(words[:length])}"
        if name in known:
            return name
    return None


def test_every_mutant_names_tests_that_exist() -> None:
    missing = []
    for patch in sorted((ROOT / "tests" / "mutants").glob("*.patch")):
        head = patch.read_text().partition("\ndiff --git")[0]
        assert re.search("^(Test|Seeds): ", head, re.MULTILINE), f"nothing finds {patch.name}"
        for file, _, test in (name.partition("::") for name in re.findall(r"tests/\S+", head)):
            function = test.split("::")[-1].split("[")[0]
            path = ROOT / file
            if not path.is_file() or f"def {function}" not in path.read_text():
                missing.append(f"{patch.name}: {file}::{test}")
    assert not missing


def test_every_unit_test_file_names_a_module() -> None:
    known = modules()
    strays = [path for path in sorted(UNIT.rglob("test_*.py")) if not module_of(path, known)]
    assert not strays, "no module of that name in the same folder of the product"


def test_every_longer_module_has_a_test_file_of_its_name() -> None:
    known = modules()
    tested = {module_of(path, known) for path in UNIT.rglob("test_*.py")}
    lines = {name: (ROOT / f"{name}.py").read_text().count("\n") for name in known}
    untested = {name for name in known - tested if lines[name] > SHORT}
    assert not untested - COVERED_ELSEWHERE, "write a test file of that name"
    assert not COVERED_ELSEWHERE & tested, "tested by now: take it from the list"
    assert known >= COVERED_ELSEWHERE, "gone: take it from the list"
