"""Options that several commands share, and the settings they lead to."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from mr.cli.printing import say
from mr.errors import BadSetting
from mr.protocol.formats import INPUT_FORMATS, OUTPUT_FORMATS
from mr.protocol.jobs import EncodingErrors
from mr.protocol.queues import MAX_JOB_PRIORITY
from mr.settings import Settings, load_settings, parse_bytes, parse_seconds, unknown_variables

Command = TypeVar("Command", bound=Callable[..., Any])


def _checked(parse: Callable[[str], float]) -> Callable[..., str | None]:
    """A callback that hands a text on as it was written, once `parse` has accepted it."""

    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        try:
            if value is not None:
                parse(value)
        except BadSetting as error:
            raise click.BadParameter(str(error), ctx, param) from error
        return value

    return check


_SIZE = _checked(parse_bytes)
_TIME = _checked(parse_seconds)

include_option = click.option(
    "--include",
    "includes",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Module, data file or directory to ship beside the job file. Repeatable.",
)

_CLUSTER_FLAGS = ("broker_url", "redis_url", "config")

_CLUSTER_OPTIONS = (
    click.option("--broker-url", metavar="URL", help="RabbitMQ, amqp://user:password@host:port/vhost."),
    click.option("--redis-url", metavar="URL", help="Redis, redis://[:password@]host:port/db."),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings file instead of ./mr.toml.",
    ),
)

_JOB_OPTIONS = (
    click.option("-o", "--output", required=True, metavar="OUT", help="Directory (or URL) for the result."),
    click.option("-m", "--maps", type=click.IntRange(1, 100_000), help="Wanted number of map tasks."),
    click.option(
        "-r",
        "--reduces",
        type=click.IntRange(0, 100_000),
        help="Number of reduce tasks; 0 = map only. As many as maps, up to default_reduces, unless said.",
    ),
    click.option(
        "--split-size", callback=_SIZE, metavar="SIZE", help="Input of one map task, such as 64MiB."
    ),
    click.option("--input-format", type=click.Choice(list(INPUT_FORMATS)), help="text unless said."),
    click.option("--output-format", type=click.Choice(list(OUTPUT_FORMATS)), help="text unless said."),
    click.option("--encoding", help="Of text input; utf-8 unless said."),
    click.option(
        "--encoding-errors",
        type=click.Choice(get_args(EncodingErrors)),
        help="What becomes of bytes that are no text; strict unless said.",
    ),
    click.option("--priority", type=click.IntRange(0, MAX_JOB_PRIORITY), help="4 goes first; 2 unless said."),
    click.option(
        "--weight",
        type=click.FloatRange(0, 1000, min_open=True),
        help="Share of the workers against jobs of the same priority; 1 unless said.",
    ),
    click.option("--max-attempts", type=click.IntRange(1, 100), help="Tries of a task before the job fails."),
    click.option(
        "--task-timeout", callback=_TIME, metavar="TIME", help="Longest one attempt may run, such as 10m."
    ),
    click.option("--task-memory", callback=_SIZE, metavar="SIZE", help="Memory of one task, such as 1GiB."),
    click.option("--name", help="What to call the job; the job file's name unless said."),
    click.option(
        "--param",
        "params",
        multiple=True,
        metavar="K=V",
        help='Read by the job as mr.param("K"). Repeatable.',
    ),
    click.option(
        "--secret-param",
        "secret_params",
        multiple=True,
        metavar="K=V",
        help="As --param, and shown nowhere; V is a text, @FILE or env:VARIABLE. Repeatable.",
    ),
    include_option,
    click.option("--job-id", metavar="ID", help="Id of the job; the same request twice is one job."),
)

as_json = click.option("--json", "json", is_flag=True, help="Print JSON instead of a table.")
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")


def cluster_options(command: Command) -> Command:
    """Where the cluster is: accepted before and after the name of a command."""
    for option in reversed(_CLUSTER_OPTIONS):
        command = option(command)
    return command


def job_options(command: Command) -> Command:
    """Everything that tunes a job, for run and submit alike."""
    for option in reversed(_JOB_OPTIONS):
        command = option(command)
    return command


def keep_cluster_flags(flags: dict[str, Any]) -> None:
    """Note the flags that stood before the command's name, for the command to find."""
    click.get_current_context().obj = {name: flags[name] for name in _CLUSTER_FLAGS}


class Configured:
    """The settings of one invocation, with what the command line said of them."""

    def __init__(self, settings: Settings, flags: dict[str, Any], config: Path | None) -> None:
        self.settings = settings
        #: Setting -> value, where a flag gave one.
        self.flags = flags
        #: The file of --config; None: `mr.toml` in the working directory, if there.
        self.config = config


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `configured` instead of the raw cluster flags. Raises BadSetting."""

    @functools.wraps(command)
    def configured_command(*arguments: Any, **flags: Any) -> Any:
        outer: dict[str, Any] = click.get_current_context().obj or {}
        given = {}
        for name in _CLUSTER_FLAGS:
            inner = flags.pop(name)
            given[name] = outer.get(name) if inner is None else inner
        config = given.pop("config")
        settings = load_settings(flags=given, file=config)
        if unknown := unknown_variables(os.environ):
            say(f"mr: ignored, as no setting has this name: {', '.join(unknown)}", error=True)
        said = {name: value for name, value in given.items() if value is not None}
        return command(*arguments, configured=Configured(settings, said, config), **flags)

    return cluster_options(configured_command)
