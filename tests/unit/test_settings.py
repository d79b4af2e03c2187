"""The table of settings: what it refuses, and where it says a wrong value came from."""

from pathlib import Path

import msgspec
import pytest

from mr.errors import BadSetting
from mr.settings import Settings, load_settings

#: Settings of which 0 says "none" or "at once"; of every other number it would stop the engine.
MAY_BE_ZERO = {
    "republish_seconds",
    "retry_base_seconds",
    "retry_max_seconds",
    "reconnect_seconds",
    "history_seconds",
    "drain_seconds",
    "max_uncounted_attempts",
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
    file.write_text("chunk_rows = 1\nread_bytes = '2KiB'\nfetch_tries = 3\n")
    environ = {"MR_READ_BYTES": "3KiB", "MR_FETCH_TRIES": "5", "MR_TEST_SERVER": "ignored"}
    settings = load_settings({"fetch_tries": 7, "chunk_rows": None}, environ, file)
    assert (settings.chunk_rows, settings.read_bytes, settings.fetch_tries) == (1, 3072, 7)


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"MR_CHUNKROWS": "1"}, ("the environment", "chunkrows", "not a setting")),
        ({"MR_READ_BYTES": "much"}, ("the environment", "read_bytes", "'much'")),
        ({"MR_CHUNK_ROWS": "1.5"}, ("the environment", "chunk_rows", "1.5")),
    ],
)
def test_a_wrong_value_is_named_with_its_origin(environ: dict[str, str], parts: tuple[str, ...]) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings(environ=environ)
    for part in parts:
        assert part in str(caught.value)
