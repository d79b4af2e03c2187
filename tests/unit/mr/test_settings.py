"""The table of settings: what it refuses, and where it says a wrong value came from."""

from pathlib import Path

import msgspec
import pytest

from mr.errors import BadSetting
from mr.settings import Settings, load_settings, parse_bytes, parse_seconds, unknown_variables

#: Settings of which 0 says "none" or "at once"; of every other number it would stop the engine.
MAY_BE_ZERO = {
    "republish_seconds",
    "retry_base_seconds",
    "retry_max_seconds",
    "reconnect_seconds",
    "history_seconds",
    "resume_seconds",
    "drain_seconds",
    "fetch_patience_seconds",
    "max_uncounted_attempts",
    "max_jobs_per_sender",
    "straggler_share",
    "straggler_min_seconds",
    "exclude_seconds",
    "spool_reserve_bytes",
    "task_timeout_seconds",
    "task_memory_bytes",
    "spill_rows",
    "spill_bytes",
    "group_bytes",
    "log_bytes",
    "log_total_bytes",
}
NUMBERS = [field.name for field in msgspec.structs.fields(Settings) if field.type in (int, float)]


@pytest.mark.parametrize("name", NUMBERS)
def test_zero_is_refused_where_nothing_would_move_with_it(name: str) -> None:
    environ = {f"MR_{name.upper()}": "0"}
    if name in MAY_BE_ZERO:
        assert getattr(load_settings(environ=environ), name) == 0
        return
    with pytest.raises(BadSetting, match=f"{name} is 0.*greater than 0"):
        load_settings(environ=environ)


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_number_that_is_no_amount_is_refused(value: str) -> None:
    with pytest.raises(BadSetting, match="window_factor"):
        load_settings(environ={"MR_WINDOW_FACTOR": value})


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mr.toml"
    file.write_bytes(b"\xff")
    with pytest.raises(BadSetting, match="cannot be read"):
        load_settings(environ={}, file=file)


def test_a_lease_must_outlast_two_heartbeats() -> None:
    with pytest.raises(BadSetting, match="at least twice"):
        load_settings(environ={"MR_LEASE_SECONDS": "3"})


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mr.toml"
    file.write_text("chunk_rows = 1\nread_bytes = '2KiB'\nmax_attempts = 3\n")
    environ = {"MR_READ_BYTES": "3KiB", "MR_FETCH_TRIES": "5", "MR_TEST_SERVER": "ignored"}
    settings = load_settings({"max_attempts": 7, "chunk_rows": None}, environ, file)
    assert (settings.chunk_rows, settings.read_bytes, settings.max_attempts) == (1, 3072, 7)


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"MR_READ_BYTES": "much"}, ("the environment", "read_bytes", "'much'")),
        ({"MR_CHUNK_ROWS": "1.5"}, ("the environment", "chunk_rows", "1.5")),
    ],
)
def test_a_wrong_value_is_named_with_its_origin(environ: dict[str, str], parts: tuple[str, ...]) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings(environ=environ)
    for part in parts:
        assert part in str(caught.value)


def test_an_unknown_key_of_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mr.toml"
    file.write_text("chunkrows = 1\n")
    with pytest.raises(BadSetting, match=r"chunkrows.*not a setting"):
        load_settings(environ={}, file=file)


def test_an_unknown_variable_is_left_out_and_told() -> None:
    environ = {
        "MR_CHUNKROWS": "1",
        "MR_COLOUR": "red",
        "MR_TEST_X": "1",
        "MR_JOB_X": "1",
        "MR_CHUNK_ROWS": "7",
    }
    assert load_settings(environ=environ).chunk_rows == 7
    assert unknown_variables(environ) == ["MR_CHUNKROWS (did you mean MR_CHUNK_ROWS?)", "MR_COLOUR"]


def test_what_kubernetes_sets_for_a_service_is_no_setting_and_no_news() -> None:
    """For the Services `mr-broker` and `mr`."""
    environ = {}
    for service in ("MR_BROKER", "MR"):
        environ |= {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": "5672",
            f"{service}_SERVICE_PORT_AMQP": "5672",
            f"{service}_PORT": "tcp://10.0.0.1:5672",
            f"{service}_PORT_5672_TCP": "tcp://10.0.0.1:5672",
            f"{service}_PORT_5672_TCP_PROTO": "tcp",
            f"{service}_PORT_5672_TCP_PORT": "5672",
            f"{service}_PORT_5672_TCP_ADDR": "10.0.0.1",
        }
    assert load_settings(environ=environ) == Settings()
    assert unknown_variables(environ) == []
    assert unknown_variables({"MR_BROKER_PORT": "5672"}) != []


def test_a_url_may_stand_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "broker"
    secret.write_text("amqp://u:sesame@host/\n")
    file = tmp_path / "mr.toml"
    file.write_text(f'broker_url = "amqp://from-file/"\nredis_url_file = "{secret}"\n')
    settings = load_settings(environ={"MR_BROKER_URL_FILE": str(secret)}, file=file)
    assert settings.broker_url == settings.redis_url == "amqp://u:sesame@host/"
    assert load_settings({"broker_url": "amqp://flag"}, {"MR_BROKER_URL_FILE": str(secret)}).broker_url == (
        "amqp://flag"
    )


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"MR_BROKER_URL_FILE": "/nowhere/at/all"}, "broker_url_file.*cannot be read"),
        ({"MR_REDIS_URL_FILE": "/x", "MR_REDIS_URL": "redis://:sesame@x"}, "sets both.*keep one"),
        ({"MR_INPUT_ROOTS": "/data,relative"}, "input_roots has 'relative'"),
    ],
)
def test_a_file_or_root_that_cannot_be_is_refused(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint) as caught:
        load_settings(environ=environ)
    assert "sesame" not in str(caught.value)


def test_lists_are_read_from_text_and_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mr.toml"
    file.write_text('input_roots = ["/a", "s3://b"]\noutput_roots = "/c"\n')
    settings = load_settings(environ={"MR_URL_SCHEMES": " s3 , https"}, file=file)
    assert settings.input_roots == ("/a", "s3://b")
    assert settings.output_roots == ("/c",)
    assert settings.url_schemes == ("s3", "https")


@pytest.mark.parametrize("text", ["9" * 400, "999999999999999T", str(2**70), "8193T"])
def test_a_size_beyond_any_use_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="is too large"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["9" * 400, "99999999d"])
def test_a_duration_beyond_any_use_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="is too long"):
        parse_seconds(text)


def test_a_number_beyond_any_use_is_refused() -> None:
    with pytest.raises(BadSetting, match="beyond any use; write a smaller number"):
        Settings(spill_rows=2**70)


@pytest.mark.parametrize(
    "text", [f"chunk_rows = {10**400}", f"chunk_rows = {'9' * 5000}", "x = " + "[" * 5000]
)
def test_a_file_whose_numbers_or_lists_know_no_end_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mr.toml"
    file.write_text(text)
    with pytest.raises(BadSetting):
        load_settings(environ={}, file=file)


def test_a_variable_that_is_no_text_is_refused() -> None:
    with pytest.raises(BadSetting, match="chunk_rows"):
        load_settings(environ={"MR_CHUNK_ROWS": "\ud800"})


def test_a_part_of_a_byte_is_no_size() -> None:
    with pytest.raises(BadSetting, match="no whole number of bytes"):
        parse_bytes("1.5")
    assert (parse_bytes("2.0"), parse_bytes("1.5k")) == (2, 1536)
