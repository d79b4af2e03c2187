"""Signals as events: the first stops in good order, the second at once."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: What a terminal, an operator or a service manager stops a command with.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def on_signals(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """In a running loop: call `first` at the first stop signal, `second` at each later one."""
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def handle(number: int) -> None:
        received.append(number)
        (first if len(received) == 1 else second)()

    numbers = heeded_signals()
    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def heeded_signals() -> tuple[signal.Signals, ...]:
    """The stop signals, without SIGHUP where `nohup` has it ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(number for number in STOP_SIGNALS if not (ignored and number == signal.SIGHUP))


def stop_signals_interrupt() -> None:
    """Outside of a loop, let every stop signal raise KeyboardInterrupt, so that files are removed."""
    for number in heeded_signals():
        signal.signal(number, signal.default_int_handler)
