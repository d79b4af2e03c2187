"""Generates the tables and diagrams of ARCHITECTURE.md from the code.

`python -m tests.support.architecture` writes them; `tests/project/test_architecture.py` fails when they
differ from the code.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from mr.adapters import topology
from mr.adapters.redis import keys as redis_keys
from mr.coordinator.core import transitions
from mr.protocol import messages
from mr.protocol.failures import FAILURE_RULES
from mr.protocol.ids import CodeId, JobId, TaskKind, WorkerId

DOCUMENT = Path(__file__).parents[2] / "ARCHITECTURE.md"


def declared() -> str:
    """What is declared on RabbitMQ."""
    rows = []
    for queue in topology.QUEUES:
        arguments = []
        if queue.max_priority:
            arguments.append(f"`x-max-priority` {queue.max_priority}")
        if queue.single_active:
            arguments.append("single active consumer")
        rows.append((f"`{queue.name}`", "durable queue", ", ".join(arguments) or "-"))
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
            rows.append((f"`{pattern}`".replace("|", "\\|"), _first_line(value)))
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
    "queues": declared,
    "keys": keys,
    "wire": wire,
    "failures": failures,
    "states": states,
}


def render(text: str) -> str:
    """Fill every `<!-- generated: NAME -->` section of the document anew."""
    for name, make in SECTIONS.items():
        pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, make=make: f"{m[1]}{make()}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{DOCUMENT.name} must have one section `generated: {name}`, it has {count}")
    return text


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("|", "\\|")


if __name__ == "__main__":
    DOCUMENT.write_text(render(DOCUMENT.read_text()))
