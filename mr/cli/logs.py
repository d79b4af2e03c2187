"""What the engine's own log says on stderr."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import click

#: Libraries that report by logging what they also raise.
_NOISY = {"pika": logging.CRITICAL, "aiohttp.access": logging.WARNING, "asyncio": logging.ERROR}


def log_level(default: str) -> Callable[[Any], Any]:
    """The option --log-level, with the default that suits the command."""
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default=default,
        show_default=True,
        help="What is told on stderr.",
    )


def configure_logging(level: str) -> None:
    """One line a record on stderr: time, level, where from, what."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else least)
