"""The table of options: each row is whole, and what is made of it has every option."""

import msgspec
import pytest

from mr.cli.app import application
from mr.protocol.jobs import JobRequest
from mr.protocol.options import ResolvedOptions, option_table
from mr.resolve import default_options, job_json_schema
from mr.settings import Settings


def test_every_option_has_help_a_default_and_a_flag() -> None:
    for command in ("run", "submit"):
        flags = {parameter.name: parameter for parameter in application.commands[command].params}
        for option in option_table():
            assert option.help.endswith("."), option.name
            assert option.setting in Settings.__struct_fields__ or option.default_text, option.name
            assert option.flag in flags[option.name].opts
            shown = getattr(flags[option.name], "help", "")
            assert shown.startswith(f"{option.help} [default: "), option.name


def test_schema_describes_every_option() -> None:
    described = job_json_schema()["$defs"][JobRequest.__name__]["properties"]
    for option in option_table():
        assert described[option.name]["description"] == option.help


def test_a_resolved_option_is_neither_missing_nor_text() -> None:
    whole = msgspec.to_builtins(default_options(Settings()))
    assert msgspec.convert(whole, ResolvedOptions) == default_options(Settings())
    for wrong in ({"split_size": "1MiB"}, {"task_timeout": "1s"}, {"priority": None}, {"weight": 0.0}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(whole | wrong, ResolvedOptions)


def test_a_job_stored_before_an_option_existed_has_its_default() -> None:
    stored = msgspec.to_builtins(default_options(Settings()))
    del stored["max_record_bytes"]
    assert msgspec.convert(stored, ResolvedOptions) == default_options(Settings())
