"""What a request becomes: which source wins, and what is refused."""

import jsonschema
import msgspec
import pytest

from mr.errors import BadJob
from mr.protocol.aggregation import AggregationSpec
from mr.protocol.ids import JobId
from mr.protocol.jobs import CodeManifest, JobRequest, JobSpec
from mr.resolve import job_json_schema, resolve_options, resolve_spec
from mr.settings import Settings
from tests.support.specs import make_manifest

CODE = "sha256:" + "a" * 64


def request(**options: object) -> JobRequest:
    return JobRequest(version=1, job="wordcount", inputs=["in/a", "in/b"], output="out", **options)


def manifest(*functions: str, agg: AggregationSpec | None = None, **options: object) -> CodeManifest:
    names = functions or ("map_fn", "reduce_fn")
    return make_manifest(CODE, names, entry="wordcount.py", reduce_agg=agg, **options)


def spec(req: JobRequest, man: CodeManifest, splits: int = 3, settings: Settings | None = None) -> JobSpec:
    return resolve_spec(
        req,
        man,
        resolve_options(req, man, settings or Settings()),
        settings or Settings(),
        job_id=JobId("j1"),
        splits_count=splits,
        token="secret",
        now=12.5,
    )


def test_request_wins_over_the_job_file_and_that_over_settings() -> None:
    settings = Settings(max_attempts=9)
    assert resolve_options(request(), manifest(), settings).max_attempts == 9
    assert resolve_options(request(), manifest(max_attempts=5), settings).max_attempts == 5
    assert resolve_options(request(max_attempts=2), manifest(max_attempts=5), settings).max_attempts == 2


def test_everything_is_filled_in() -> None:
    made = spec(request(), manifest())
    assert (made.options.name, made.maps, made.reduces) == ("wordcount", 3, 3)
    assert (made.options.input_format, made.options.output_format) == ("text", "text")
    assert (made.options.encoding, made.options.encoding_errors) == ("utf-8", "strict")
    assert (made.options.priority, made.options.weight) == (2, 1.0)
    assert made.inputs == ("in/a", "in/b")
    assert (made.token, made.submitted_at) == ("secret", 12.5)


@pytest.mark.parametrize(("splits", "reduces"), [(0, 1), (1, 1), (5, 5), (8, 8), (500, 8)])
def test_default_reduces_follow_the_data(splits: int, reduces: int) -> None:
    assert spec(request(), manifest(), splits).reduces == reduces


def test_asked_reduces_are_kept() -> None:
    assert spec(request(reduces=20), manifest(), 2).reduces == 20
    assert spec(request(reduces=0), manifest(reduces=4), 2).reduces == 0


def test_no_reduce_fn_is_a_map_only_job() -> None:
    assert spec(request(), manifest("map_fn"), 4).reduces == 0
    assert spec(request(reduces=0), manifest("map_fn"), 4).reduces == 0


def test_reduces_without_reduce_fn_are_refused() -> None:
    with pytest.raises(BadJob, match=r"wordcount\.py has no reduce_fn, but 2 reduce"):
        resolve_options(request(reduces=2), manifest("map_fn"), Settings())


def test_built_in_reducer_counts_as_one() -> None:
    assert spec(request(), manifest("map_fn", agg=AggregationSpec("sum")), 4).reduces == 4


def test_params_are_merged_by_name() -> None:
    options = resolve_options(request(params={"b": "2"}), manifest(params={"a": "1", "b": "1"}), Settings())
    assert options.params == {"a": "1", "b": "2"}


def test_sizes_and_durations_are_parsed() -> None:
    options = resolve_options(
        request(split_size="2MiB", task_memory=4096, task_timeout="1.5m"), manifest(), Settings()
    )
    assert (options.split_size, options.task_memory) == (2 * 1024 * 1024, 4096)
    assert options.task_timeout == 90.0


@pytest.mark.parametrize("size", ["0", "1.2.3", "0B", "1e3"])
def test_impossible_split_size_is_refused(size: str) -> None:
    with pytest.raises(BadJob, match="split_size"):
        resolve_options(request(split_size=size), manifest(), Settings())


def test_encoding_is_named_the_same_however_written() -> None:
    assert resolve_options(request(encoding="UTF8"), manifest(), Settings()).encoding == "utf-8"
    assert resolve_options(request(encoding="Latin-1"), manifest(), Settings()).encoding == "iso8859-1"


@pytest.mark.parametrize("encoding", ["nope", "a\0b", "", "hex", "rot13"])
def test_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(BadJob, match="is not one of text"):
        resolve_options(request(encoding=encoding), manifest(), Settings())


def test_schema_accepts_what_the_model_accepts() -> None:
    schema = job_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    message = {"version": 1, "job": "wc", "inputs": ["a"], "output": "o", "maps": 8, "split_size": "4MiB"}
    validator.validate(message)
    msgspec.convert(message, JobRequest)


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"inputs": []},
        {"output": ""},
        {"priority": 5},
        {"reduces": -1},
        {"job_id": "no/slash"},
        {"surprise": 1},
    ],
)
def test_schema_refuses_what_the_model_refuses(wrong: dict[str, object]) -> None:
    message = {"version": 1, "job": "wc", "inputs": ["a"], "output": "o"} | wrong
    assert not jsonschema.Draft202012Validator(job_json_schema()).is_valid(message)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(message, JobRequest)
