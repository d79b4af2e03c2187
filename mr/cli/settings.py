"""`mr settings` and `mr schema`: print the settings and the schema of a request."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from mr.cli.formatting import table
from mr.cli.options import Configured, as_json, with_settings
from mr.cli.printing import say, say_json
from mr.settings import Settings

_DEFAULT_FILE = Path("mr.toml")


@click.command()
@as_json
@with_settings
def settings(json: bool, configured: Configured) -> None:
    """Print every setting, its value and origin."""
    rows = setting_rows(configured)
    if json:
        say_json(rows)
        return
    lines = [[row["name"], _shown(row["value"]), row["origin"]] for row in rows]
    say(table(("SETTING", "VALUE", "FROM"), lines))


@click.command()
def schema() -> None:
    """Print the JSON Schema of a job request."""
    from mr.resolve import job_json_schema

    say_json(job_json_schema())


def setting_rows(configured: Configured) -> list[dict[str, Any]]:
    """Name, value and origin of each setting, in the order of the table."""
    file = configured.config or _DEFAULT_FILE
    in_file = tomllib.loads(file.read_text()) if file.is_file() else {}
    rows = []
    for field in msgspec.structs.fields(Settings):
        value = getattr(configured.settings, field.name)
        variable = f"MR_{field.name.upper()}"
        if field.name in configured.flags:
            origin = "command line"
        elif variable in os.environ:
            origin = variable
        elif f"{variable}_FILE" in os.environ:
            origin = f"{variable}_FILE"
        elif field.name in in_file or f"{field.name}_file" in in_file:
            origin = str(file)
        else:
            origin = "default"
        shown = hide_password(value) if field.name.endswith("_url") else value
        rows.append({"name": field.name, "value": shown, "origin": origin})
    return rows


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def hide_password(url: str) -> str:
    """The URL with its password, before the host or among the options, replaced by `***`."""
    url = re.sub(r"^((?:[\w+.-]+://)?[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", url)
