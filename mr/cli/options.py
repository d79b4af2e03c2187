"""Options that several commands share, and the settings they lead to."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec.inspect import (
    DictType,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    NoneType,
    Type,
    UnionType,
    type_info,
)

from mr.cli.formatting import size
from mr.cli.printing import say
from mr.errors import BadSetting
from mr.protocol.options import Option, option_table
from mr.settings import PARSERS, Settings, load_settings, unknown_variables

Command = TypeVar("Command", bound=Callable[..., Any])


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


class _Amount(click.ParamType[Any]):
    """A size or a duration, handed on as it was written."""

    def __init__(self, option: Option) -> None:
        self.name = option.metavar
        self._parse = PARSERS[option.unit]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check one value. Raises click.BadParameter."""
        try:
            self._parse(value)
        except BadSetting as error:
            self.fail(str(error), param, ctx)
        return value


def _click_type(option: Option) -> click.ParamType[Any]:
    if option.unit:
        return _Amount(option)
    match _given_type(option):
        case IntType() as kind:
            return click.IntRange(kind.ge, kind.le)
        case FloatType() as kind:
            return click.FloatRange(kind.gt, kind.le, min_open=True)
        case LiteralType() as kind:
            return click.Choice([str(value) for value in kind.values])
    return click.STRING


def _given_type(option: Option) -> Type:
    """The type of an option's values, without the None for an option that is not given."""
    union = type_info(option.type)
    assert isinstance(union, Metadata)
    assert isinstance(union.type, UnionType)
    return next(kind for kind in union.type.types if not isinstance(kind, NoneType))


def _default_text(option: Option) -> str:
    if not option.setting:
        return option.default_text
    value = getattr(Settings(), option.setting)
    shown = size(value).replace(".0 ", " ") if option.unit == "bytes" else f"{value:g}"
    return f"the setting {option.setting}, {shown}"


def _flag(option: Option) -> Callable[[Command], Command]:
    """The flag of one option of a job."""
    return click.option(
        *filter(None, (option.short_flag, option.flag, option.name)),
        type=_click_type(option),
        multiple=isinstance(_given_type(option), DictType),
        metavar=option.metavar or None,
        help=f"{option.help} [default: {_default_text(option)}]",
    )


_JOB_OPTIONS = (
    click.option("-o", "--output", required=True, metavar="OUT", help="Directory (or URL) for the result."),
    *map(_flag, option_table()),
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


spool_option = click.option(
    "--spool",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory for intermediate files. [default: the system's temporary directory]",
)


def slots_option(*short_flags: str) -> Callable[[Command], Command]:
    """How many tasks run at a time in one process."""
    return click.option(
        *short_flags,
        "--slots",
        type=click.IntRange(1, 1024),
        help="Tasks at a time. [default: the number of usable cores]",
    )


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
    """Keep the flags given before the command's name, for the command to use."""
    click.get_current_context().obj = {name: flags[name] for name in _CLUSTER_FLAGS}


class Configured:
    """The settings of one invocation, with those that the command line gave."""

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
