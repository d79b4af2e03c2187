"""`mr dead`: shows the messages that could not be processed, sends them again or removes them."""

import asyncio
import json as json_module
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from mr.cli import formatting
from mr.cli.options import Configured, as_json, with_settings
from mr.cli.printing import say
from mr.dead_letters import DeadLetter, HeldLetter, hold_letters
from mr.error_text import bounded
from mr.errors import BadMessage, MrError, NotFound
from mr.protocol.codec import MSGPACK, UNDECODABLE
from mr.protocol.codec import as_json as render_json

Found = TypeVar("Found")

_HEADERS = ("ID", "FAILED AT", "QUEUE", "KIND", "SIZE", "REASON")
#: Longest reason in the table.
_REASON_CHARACTERS = 60
#: Fields of a message whose values are secrets.
_SECRET_FIELDS = ("secret_params",)


@click.group()
def dead() -> None:
    """Look after the messages that could not be processed.

    They wait on the queue mr.dead with the reason. Send them again when the cause is mended, or remove them.
    """


@dead.command("list")
@as_json
@with_settings
def list_letters(json: bool, configured: Configured) -> None:
    """List the dead letters, oldest first."""
    letters = _with_letters(configured, _letters)
    if json:
        say(render_json([_shown(letter) for letter in letters]))
        return
    say(formatting.table(_HEADERS, [_row(letter) for letter in letters], right=("SIZE",)))


@dead.command()
@click.argument("letter", metavar="ID")
@as_json
@with_settings
def show(letter: str, json: bool, configured: Configured) -> None:
    """Show one dead letter: its reason and its content, without secrets."""

    async def look(held: Sequence[HeldLetter]) -> DeadLetter:
        return _named(held, (letter,))[0].letter

    found = _with_letters(configured, look)
    if json:
        say(render_json(_shown(found)))
        return
    pairs = [
        ("id", found.id),
        ("queue", found.queue),
        ("kind", found.type),
        ("failed at", formatting.moment(found.at)),
        ("reason", found.reason),
        ("content type", found.content_type),
        (
            "size",
            formatting.size(found.bytes) + ("" if found.is_whole else ", of which the beginning was kept"),
        ),
    ]
    say(formatting.fields(pairs) + "\n\n" + _readable(found))


@dead.command()
@click.argument("letters", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Send all of them again.")
@with_settings
def retry(letters: tuple[str, ...], everything: bool, configured: Configured) -> None:
    """Send dead letters again to the queue they came from.

    One that fails again comes back with its new reason.
    """
    done, refused = _each(configured, letters, everything, HeldLetter.send_again)
    say(f"sent again: {done}")
    if refused:
        raise MrError("; ".join(refused))


@dead.command()
@click.argument("letters", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Remove all of them.")
@with_settings
def purge(letters: tuple[str, ...], everything: bool, configured: Configured) -> None:
    """Remove dead letters for good."""
    done, _ = _each(configured, letters, everything, HeldLetter.remove)
    say(f"removed: {done}")


def _with_letters(configured: Configured, work: Callable[[Sequence[HeldLetter]], Awaitable[Found]]) -> Found:
    """Connect to the broker and work with the letters on `mr.dead`. Raises BrokerUnavailable."""

    async def working() -> Found:
        from mr.cli.connect import broker_of

        async with broker_of(configured.settings) as broker, hold_letters(broker) as held:
            return await work(held)

    return asyncio.run(working())


async def _letters(held: Sequence[HeldLetter]) -> list[DeadLetter]:
    return [item.letter for item in held]


def _each(
    configured: Configured,
    names: tuple[str, ...],
    everything: bool,
    act: Callable[[HeldLetter], Awaitable[None]],
) -> tuple[int, list[str]]:
    """Do something with each letter named. Returns how many it was done with, and why not with others."""
    if bool(names) == everything:
        raise click.UsageError("name the letters by their ids, as `mr dead list` shows them, or give --all")

    async def work(held: Sequence[HeldLetter]) -> tuple[int, list[str]]:
        refused = []
        chosen = held if everything else _named(held, names)
        for item in chosen:
            try:
                await act(item)
            except BadMessage as error:
                refused.append(str(error))
        return len(chosen) - len(refused), refused

    return _with_letters(configured, work)


def _named(held: Sequence[HeldLetter], names: Sequence[str]) -> list[HeldLetter]:
    """Those with these ids, or unique beginnings of ids. Raises NotFound."""
    found: list[HeldLetter] = []
    for name in names:
        matching = [item for item in held if item.letter.id.startswith(name)]
        ids = {item.letter.id for item in matching}
        if not name or not ids:
            raise NotFound(f"no dead letter {name!r}; `mr dead list` shows those there are")
        if len(ids) > 1:
            raise NotFound(f"{name!r} is the beginning of several: {', '.join(sorted(ids))}")
        found += [item for item in matching if item not in found]
    return found


def _row(letter: DeadLetter) -> list[str]:
    return [
        letter.id,
        formatting.moment(letter.at),
        letter.queue,
        letter.type,
        formatting.size(letter.bytes),
        bounded(" ".join(letter.reason.split()), _REASON_CHARACTERS),
    ]


def _shown(letter: DeadLetter) -> dict[str, Any]:
    """A letter for `--json`, its content as text."""
    return {**msgspec.structs.asdict(letter), "body": _readable(letter)}


def _readable(letter: DeadLetter) -> str:
    """The content as JSON where it can be read, otherwise as the text that it is, without secrets."""
    decode = msgspec.msgpack.decode if letter.content_type == MSGPACK else msgspec.json.decode
    try:
        content = decode(letter.body)
    except UNDECODABLE:
        return letter.body.decode("utf-8", "backslashreplace")
    if isinstance(content, dict):
        content = {key: "(hidden)" if key in _SECRET_FIELDS else value for key, value in content.items()}
    try:
        return json_module.dumps(content, indent=2, default=repr)
    except TypeError:  # msgpack knows keys that JSON has not
        return repr(content)
