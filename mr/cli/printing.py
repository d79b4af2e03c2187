"""The only way in which commands write text to the terminal."""

from typing import Any

import click
import msgspec

from mr.error_text import printable


def say(text: str, *, error: bool = False) -> None:
    """Print a text, on stderr when it is an error, with every control character escaped."""
    click.echo(printable(text), err=error)


def say_json(data: Any) -> None:
    """Print data as indented JSON, in its own order."""
    say(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
