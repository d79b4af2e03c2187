"""Generates the reference: tables and diagrams in Markdown, read from the code. One function a section."""

import ast
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import msgspec

from mr import agg, errors, settings
from mr.adapters import topology
from mr.adapters.redis import keys as redis_keys
from mr.cli.app import application
from mr.coordinator.core import transitions
from mr.protocol import formats, jobs, messages, options
from mr.protocol.failures import FAILURE_RULES
from mr.protocol.ids import CodeId, JobId, TaskKind, WorkerId
from mr.workers.shuffle.aggregate import KERNELS

_ROOT = Path(__file__).parents[2]


# --- the tree


def rooms() -> str:
    """Every package: what it is for, and its modules."""
    rows = []
    for start in ("mr", "coordinator", "workers"):
        for marker in sorted((_ROOT / start).rglob("__init__.py"), key=lambda path: path.parent.parts):
            package = marker.parent
            modules = sorted(p.stem for p in package.glob("*.py") if p != marker)
            purpose = (ast.get_docstring(ast.parse(marker.read_text())) or "").partition("\n")[0]
            names = " ".join(f"`{name}`" for name in modules) or "-"
            rows.append((f"`{package.relative_to(_ROOT)}/`", purpose, names))
    return _table(("package", "what it is for", "modules"), rows)


def layers() -> str:
    """The contracts that `make lint` enforces."""
    contracts = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lines: list[str] = []
    for contract in contracts:
        lines.append(f"- {contract['name']}.")
        if contract["type"] == "layers":
            lines += ["", "  ```", *(f"  {layer}" for layer in contract["layers"]), "  ```", ""]
    return "\n".join(lines)


# --- what a user types


def commands() -> str:
    """Every command: usage, help, flags."""
    parts = []
    for name, command in every_command(application):
        context = click.Context(command, info_name=f"mr {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        level = "#" * (2 + name.count(" "))
        parts.append(f"{level} mr {name}\n\n```\nmr {name} {usage}\n```\n\n{_help(command)}\n")
        rows = [_flag_row(p) for p in command.params if isinstance(p, click.Option) and not _shared(p)]
        if rows:
            parts.append(_table(("flag", "takes", "default", "meaning"), rows) + "\n")
    return "\n".join(parts)


def every_command(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands with their full names, those of a group after the group."""
    for name, command in group.commands.items():
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{prefix}{name} ")


def shared_flags() -> str:
    """The flags that every command takes, before or after its name."""
    return _table(
        ("flag", "takes", "default", "meaning"),
        [_flag_row(p) for p in application.params if isinstance(p, click.Option) and _shared(p)],
    )


def job_options() -> str:
    """What tunes a job: the keyword of `mr.Job`, the field of a request, the flag."""
    flags = {p.name: p for p in application.commands["submit"].params if isinstance(p, click.Option)}
    rows = [(f"`{option.name}`", *_flag_row(flags[option.name])) for option in options.option_table()]
    return _table(("option", "flag", "takes", "default", "meaning"), rows)


def exit_codes() -> str:
    """What `mr` exits with, and the errors behind each code."""
    meanings = {
        1: "the job failed or was cancelled, or the command could not do its work",
        2: "wrong use: a flag, a setting, the job file or the request has to be corrected",
        3: "RabbitMQ, Redis or the coordinator cannot be reached",
        130: "interrupted (Ctrl-C)",
    }
    kinds: dict[int, list[str]] = {code: [] for code in meanings}
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, errors.MrError) and kind.exit_code != 1:
            kinds[kind.exit_code].append(f"`{kind.__name__}`")
    rows = [("0", "done", "-")]
    rows += [(str(code), meaning, " ".join(kinds[code]) or "-") for code, meaning in meanings.items()]
    return _table(("exit code", "means", "errors"), rows)


def setting_table() -> str:
    """Every setting, group by group: variable, default, meaning."""
    source = inspect.getsource(settings)
    comments = _comments(settings, "Settings")
    lines = []
    rows: list[tuple[str, ...]] = []
    groups = dict(_group_titles(source))
    for field, (line, meaning) in zip(
        msgspec.structs.fields(settings.Settings), comments.values(), strict=True
    ):
        title = next((groups.pop(at) for at in sorted(groups) if at < line), None)
        if title is not None:
            lines += [_settings_rows(rows), f"\n### {title[0].upper()}{title[1:]}\n"]
            rows = []
        rows.append((f"`MR_{field.name.upper()}`", _shown(field.name, field.default), meaning))
    return "\n".join(["### Servers\n", *lines, _settings_rows(rows)])


def _settings_rows(rows: list[tuple[str, ...]]) -> str:
    return _table(("variable", "default", "meaning"), rows)


def _group_titles(source: str) -> Iterator[tuple[int, str]]:
    begin = source.index("class Settings")
    for number, line in enumerate(source.splitlines(), 1):
        if (match := re.fullmatch(r"    # --- (.+)", line)) and number > source[:begin].count("\n"):
            yield number, match[1]


def _shown(name: str, value: Any) -> str:
    """A default as one writes it: `32MiB`, `10s`, `a,b`."""
    if isinstance(value, tuple):
        return f"`{','.join(value)}`" if value else "(none)"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if name.endswith("_bytes"):
        size = float(value)
        for unit in ("", "KiB", "MiB", "GiB"):
            if size < 1024 or unit == "GiB":
                return f"`{size:g}{unit}`"
            size /= 1024
    if name.endswith("_seconds"):
        return f"`{value / 86400:g}d`" if value and value % 86400 == 0 else f"`{value:g}s`"
    return f"`{value}`"


# --- what a job file uses


def aggregations() -> str:
    """The built-in reducers."""
    rows = []
    for name in KERNELS:
        reducer = getattr(agg, name)
        taken = "" if isinstance(reducer, agg.Aggregation) else _parameters(reducer)
        summary = (inspect.getdoc(reducer) or "").partition("\n\n")[0]
        rows.append((f"`mr.agg.{name}{taken}`", " ".join(summary.split())))
    return _table(("reducer", "gives"), rows)


def input_formats() -> str:
    """How files are read."""
    splits = {"always": "yes", "lines": "at line ends", "never": "no"}
    rows = [
        (f"`{name}`", _module_line("input", name), splits[known.splittable], _extra(known.package, name))
        for name, known in formats.INPUT_FORMATS.items()
    ]
    return _table(("`--input-format`", "records", "split", "needs"), rows)


def output_formats() -> str:
    """How parts are written."""
    rows = [
        (
            f"`{name}`",
            f"`part-00000{known.suffix}`",
            _module_line("output", name),
            _extra(known.package, name),
        )
        for name, known in formats.OUTPUT_FORMATS.items()
    ]
    return _table(("`--output-format`", "file", "writes", "needs"), rows)


def _module_line(side: str, name: str) -> str:
    """The first line of a format's module, without its name."""
    tree = ast.parse((_ROOT / f"mr/formats/{side}/{name}.py").read_text())
    return re.sub(r"^Format `\w+`: ", "", (ast.get_docstring(tree) or "").partition("\n")[0])


def _extra(package: str, name: str) -> str:
    return f"`pip install 'mrmq[{name}]'`" if package else "-"


def _parameters(function: Callable[..., object]) -> str:
    """The parameters of a function, without their types."""
    names = []
    for parameter in inspect.signature(function).parameters.values():
        star = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else ""
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        names.append(f"{star}{parameter.name}{default}")
    return f"({', '.join(names)})"


# --- what other systems and operators see


def request_fields() -> str:
    """A job request beyond its options."""
    comments = _comments(jobs, "JobRequest")
    required = {field.name for field in msgspec.structs.fields(jobs.JobRequest) if field.required}
    rows = [
        (f"`{name}`", "yes" if name in required else "no", meaning) for name, (_, meaning) in comments.items()
    ]
    return _table(("field", "required", "meaning"), rows)


def reply_fields() -> str:
    """The answer to a request."""
    rows = [(f"`{name}`", meaning) for name, (_, meaning) in _comments(jobs, "RequestReply").items()]
    return _table(("field", "meaning"), rows)


def queues() -> str:
    """What is declared on RabbitMQ."""
    rows = []
    for queue in topology.QUEUES:
        arguments = []
        if queue.max_priority:
            arguments.append(f"`x-max-priority` {queue.max_priority}")
        if queue.single_active:
            arguments.append("single active consumer")
        rows.append((f"`{queue.name}`", "durable classic queue", ", ".join(arguments) or "-"))
    rows += [(f"`{name}`", f"durable {kind} exchange", "-") for name, kind in topology.EXCHANGES.items()]
    return _table(("name", "kind", "arguments"), rows)


def keys() -> str:
    """What is kept in Redis."""
    samples = {
        JobId: "JOB",
        WorkerId: "WORKER",
        CodeId: "sha256:...",
        TaskKind: "map|reduce",
    }
    rows = []
    for name, value in vars(redis_keys).items():
        if name.endswith("_KEY"):
            rows.append((f"`{value}`", redis_keys.KEY_MEANINGS[value]))
        elif name.endswith("_key") and not name.endswith("event_key"):
            parameters = inspect.signature(value).parameters.values()
            pattern = value(*(samples[p.annotation] for p in parameters))
            rows.append((f"`{pattern}`", _first_line(value)))
    return _table(("key", "holds"), rows)


def wire() -> str:
    """What the queues carry."""
    rows = []
    for kind in vars(messages).values():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct:
            if kind.__module__ != messages.__name__:
                continue
            fields = ", ".join(f"`{name}`" for name in kind.__struct_fields__)
            rows.append((f"`{kind.__name__}`", fields, _first_line(kind)))
    return _table(("message", "fields", "meaning"), rows)


def failures() -> str:
    """How each kind of failure is treated."""
    rows = [
        (f"`{kind}`", "yes" if rule.retry else "no", "yes" if rule.counts else "no", str(rule.fault))
        for kind, rule in FAILURE_RULES.items()
    ]
    return _table(("failure", "retried", "counts against max attempts", "fault of"), rows)


def states() -> str:
    """The transition tables, drawn."""
    return transitions.diagram().strip()


SECTIONS: dict[str, Callable[[], str]] = {
    "aggregations": aggregations,
    "commands": commands,
    "exit-codes": exit_codes,
    "failures": failures,
    "input-formats": input_formats,
    "job-options": job_options,
    "keys": keys,
    "layers": layers,
    "output-formats": output_formats,
    "queues": queues,
    "reply-fields": reply_fields,
    "request-fields": request_fields,
    "rooms": rooms,
    "settings": setting_table,
    "shared-flags": shared_flags,
    "states": states,
    "wire": wire,
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(c.replace("|", "\\|") for c in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _help(command: click.Command) -> str:
    """A command's help: its paragraphs, each on one line."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _shared(option: click.Option) -> bool:
    return option.name in {"broker_url", "redis_url", "config"}


def _flag_row(option: click.Option) -> tuple[str, str, str, str]:
    """Names, what it takes, default, meaning."""
    names = " ".join(f"`{name}`" for name in option.opts)
    if option.is_flag:
        takes = "-"
    elif isinstance(option.type, click.Choice):
        takes = " ".join(f"`{choice}`" for choice in option.type.choices)
    elif isinstance(option.type, click.types._NumberRangeBase):
        takes = _range(option.type)
    else:
        takes = option.metavar or "TEXT"
    meaning, _, default = (option.help or "").partition(" [default: ")
    if option.show_default and option.default is not None:
        default = str(option.default)
    return names, takes, default.removesuffix("]") or "-", meaning


def _range(numbers: click.types._NumberRangeBase) -> str:
    first = f"above {numbers.min}," if numbers.min_open else f"{numbers.min}"
    return f"{first} or more" if numbers.max is None else f"{first} to {numbers.max}"


def _comments(module: ModuleType, class_name: str) -> dict[str, tuple[int, str]]:
    """Field -> (line, its `#:` comment) of a class, in the order of its source."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    node = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == class_name)
    found = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            words: list[str] = []
            at = item.lineno - 2
            while lines[at].strip().startswith("#:"):
                words.insert(0, lines[at].strip()[2:].strip())
                at -= 1
            found[item.target.id] = (item.lineno, " ".join(words))
    return found
