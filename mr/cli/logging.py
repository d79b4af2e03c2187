"""The engine's own log, on stderr."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import click

from mr.error_text import printable, printable_line

#: Libraries that report by logging what they also raise.
_NOISY = {"pika": logging.CRITICAL, "aiohttp.access": logging.WARNING, "asyncio": logging.ERROR}


def log_level(default: str) -> Callable[[Any], Any]:
    """The option --log-level, with the default that suits the command."""
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default=default,
        show_default=True,
        help="Least severe messages to log on stderr.",
    )


class _OneLine(logging.Formatter):
    """Escapes control characters: names and reasons chosen by others forge no lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return printable(super().formatException(ei))


def configure_logging(level: str) -> None:
    """One line a record on stderr: time, level, where from, what."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else least)
