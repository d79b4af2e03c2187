"""README and the job pages against the code: the first job, the job message, the names that may be used."""

import json
import re
from pathlib import Path

import pytest

from mr.bundle import MAX_MEMBERS, MAX_UNPACKED_BYTES
from mr.cli.app import application
from mr.dead_letters import DEAD_BODY_BYTES, MAX_DEAD_LETTERS
from mr.protocol.bounds import MAX_SPLITS, MAX_TASKS
from mr.protocol.codec import JSON, MAX_MESSAGE_BYTES, decode
from mr.protocol.failures import FailureKind
from mr.protocol.jobs import JobRequest
from mr.protocol.records import MAX_REFUSALS
from mr.runtime import MAX_COUNTERS
from mr.settings import KIB, MIB, Settings, load_settings
from mr.workers.shuffle.aggregate import KERNELS
from mr.workers.usercode.functions import FUNCTIONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
JOB_FILE = (ROOT / "docs/reference/job-file.md").read_text()
MESSAGES = (ROOT / "docs/how-to/jobs-from-other-systems.md").read_text()


def test_the_first_screen_stays_one() -> None:
    assert len(README.splitlines()) <= 110


def test_every_command_has_its_section() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    assert re.findall(r"^## mr ([\w-]+)$", page, re.MULTILINE) == list(application.commands)


def test_the_job_messages_are_valid() -> None:
    bodies = re.findall(r"-b '(.+?)'$", MESSAGES, re.DOTALL | re.MULTILINE)
    assert bodies
    for text in bodies:
        request = decode(text.encode(), JobRequest, JSON)
        assert request.job == "words"
        assert set(json.loads(text)) <= set(JobRequest.__struct_fields__)


def test_the_functions_of_a_job_file_are_told() -> None:
    table = JOB_FILE.partition("## Functions")[2].partition("\n\nA job file")[0]
    told = re.findall(r"`(\w+)\(([\w, ]*)\)`", table)
    assert {name: tuple(re.findall(r"\w+", taken)) for name, taken in told} == dict(FUNCTIONS)


@pytest.mark.parametrize("name", re.findall(r"mr\.agg\.(\w+)", README + JOB_FILE))
def test_aggregations_exist(name: str) -> None:
    assert name in KERNELS


def test_the_limits_are_those_of_the_code() -> None:
    page = " ".join((ROOT / "docs/limits.md").read_text().split())
    settings = Settings()
    for told in (
        f"at most {MAX_SPLITS:,} map tasks; `--maps` and `--reduces` take up to {MAX_TASKS:,}",
        f"at most {MAX_MESSAGE_BYTES // MIB} MiB, code bundles {settings.max_bundle_bytes // MIB} MiB "
        f"(unpacked {MAX_UNPACKED_BYTES // MIB} MiB and {MAX_MEMBERS:,} files)",
        f"up to {settings.log_bytes // KIB} KiB of an attempt and "
        f"{settings.log_total_bytes // MIB} MiB of a job",
        f"at most {MAX_COUNTERS} counters",
        f"`MR_MAX_JOBS_PER_SENDER` ({settings.max_jobs_per_sender})",
        f"newest {MAX_REFUSALS} refused requests",
        f"`mr.dead` holds {MAX_DEAD_LETTERS} messages, {DEAD_BODY_BYTES // KIB} KiB of each",
        f"`MR_MAX_UNCOUNTED_ATTEMPTS` ({settings.max_uncounted_attempts}) times",
    ):
        assert told in page


def test_every_failure_kind_is_explained() -> None:
    table = (ROOT / "docs/reference/failures.md").read_text().partition("| failure | what happened |")[2]
    told = re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE)
    assert told == list(FailureKind)


def test_the_settings_file_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs/how-to/production.md").read_text().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "mr.toml").write_text(text)
    assert load_settings(file=tmp_path / "mr.toml", environ={}).input_roots


def test_the_first_job_is_the_example() -> None:
    told: dict[str, object] = {}
    kept: dict[str, object] = {}
    exec(README.partition("```python\n")[2].partition("```")[0], told)
    exec((ROOT / "examples/wordcount/job.py").read_text(), kept)
    for functions in (told, kept):
        assert list(functions["map_fn"](0, "a b a")) == [("a", 1), ("b", 1), ("a", 1)]  # type: ignore[operator]
        assert list(functions["combine_fn"]("a", [1, 1])) == [("a", 2)]  # type: ignore[operator]


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    """Each quoted message, without its `...`, names and numbers, stands in the sources."""
    sources = [
        p.read_text() for room in ("mr", "coordinator", "workers") for p in (ROOT / room).rglob("*.py")
    ]
    code = re.sub(r'"\s*f?"', "", "\n".join(sources))
    page = (ROOT / "docs/troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `(?!mr )([^`]{12,})`", page, re.MULTILINE)
    assert len(quoted) > 6
    for message in quoted:
        said = re.split(r"\.\.\.|\b[XY]\b|0x\w+|\d+ s|utf-8|FAIL|SIG\w+|(?:memory limit|waiting): ", message)
        assert [part for part in map(str.strip, said) if part and part not in code] == [], message
