"""An asyncio event loop on a virtual clock, and the lives of the daemons that run on it.

The loop runs in one thread and opens nothing. When nothing is ready, its clock jumps to the next timer.
`asyncio.to_thread` becomes a call that is made after a drawn delay. Everything that a daemon plans carries
the daemon's `Life` in its context: a life that ends takes all of its tasks, timers and threads with it at
once, as SIGKILL does, and one that is frozen leaves them until it goes on, as SIGSTOP does.

Tasks and futures are numbered, and the number is their hash: asyncio keeps tasks in sets, and the order of
those must not depend on addresses.
"""

import asyncio
import contextlib
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from random import Random
from types import MappingProxyType
from typing import Any

#: The clock at the start.
START = 1000.0
#: Rounds in which what is left of a simulation is cancelled.
_CLOSING_ROUNDS = 6


class LifeState(Enum):
    """Whether a process runs."""

    RUNNING = "running"
    FROZEN = "frozen"
    DEAD = "dead"


class Life:
    """One run of a process."""

    def __init__(self, loop: "VirtualLoop", name: str) -> None:
        self.name = name
        self.state = LifeState.RUNNING
        self.context: Context = copy_context()
        self.context.run(LIFE.set, self)
        self._loop = loop
        #: What fell due while it was frozen.
        self._held: list[asyncio.Handle] = []
        #: Tasks that will never go on. Kept, so that none is closed at a moment that the collector chooses.
        self._remains: list[SimulatedTask] = []

    @property
    def runs(self) -> bool:
        """Whether it is neither frozen nor dead."""
        return self.state is LifeState.RUNNING

    def hold(self, handle: asyncio.Handle) -> None:
        """Take what fell due while it does not run."""
        if self.state is LifeState.FROZEN:
            self._held.append(handle)

    def freeze(self) -> None:
        """Stop, as by SIGSTOP."""
        if self.runs:
            self.state = LifeState.FROZEN

    def thaw(self) -> None:
        """Go on with what was known before."""
        if self.state is LifeState.FROZEN:
            self.state = LifeState.RUNNING
            held, self._held = self._held, []
            self._loop.ready.extend(held)

    def end(self) -> None:
        """End at once, as by SIGKILL."""
        self.state = LifeState.DEAD
        self._held.clear()
        self._remains = [task for task in self._loop.tasks() if task.life is self]

    def start(self, work: Any, name: str) -> "SimulatedTask":
        """Run a coroutine in this life."""
        return self._loop.create_task(work, name=name, context=self.context)


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


class SimulatedTask(asyncio.Task[Any]):
    """A task with a number, of one life."""

    def __init__(self, coro: Any, *, loop: "VirtualLoop", name: str | None, context: Context | None) -> None:
        self.number = loop.next_number()
        self.life = LIFE.get() if context is None else context.get(LIFE)
        super().__init__(coro, loop=loop, name=name or "-", context=context)

    def __hash__(self) -> int:
        return self.number


class SimulatedFuture(asyncio.Future[Any]):
    """A future with a number."""

    def __init__(self, *, loop: "VirtualLoop") -> None:
        self.number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs what is ready in order of planning, then jumps to the next timer."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._now = START
        self.ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = 0
        self._closing = False
        #: The share of blocking calls that take long.
        self.slow_disks = 0.0
        #: What a connection to an address comes to: see `connect`.
        self.answers: Callable[[str], bool | None] = lambda address: None

    # --- planning

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def next_number(self) -> int:
        """Count tasks, futures and timers."""
        self._numbers += 1
        return self._numbers

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call when everything that is ready now has run."""
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at a virtual time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call after so many virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: a cancelled timer is skipped when it falls due."""

    def create_future(self) -> SimulatedFuture:
        """A future with a number."""
        return SimulatedFuture(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> SimulatedTask:
        """A task with a number, of the life that is in its context."""
        return SimulatedTask(coro, loop=self, name=name, context=context)

    def run_in_executor(
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Make a blocking call after a drawn delay; now and then its answer is noticed only later."""
        future = self.create_future()
        if self._closing:
            future.cancel()
            return future
        chance = self._chance
        late = chance.uniform(0.0, 0.1) if chance.random() < 0.2 else 0.0
        slow = chance.uniform(0.1, 3.0) if chance.random() < self.slow_disks else 0.0

        def answer(outcome: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(outcome)

        def call() -> None:
            try:
                outcome, error = func(*args), None
            except Exception as raised:  # noqa: BLE001 (handed to the one who awaits it)
                outcome, error = None, raised
            if late or slow:
                self.call_later(late or slow, answer, outcome, error)
            else:
                answer(outcome, error)

        self.call_later(slow or chance.uniform(0.0005, 0.01), call)
        return future

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, **_: Any
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect to a worker's port, as `answers` says: True, False for a refusal, None for silence."""
        await asyncio.sleep(self._chance.uniform(0.001, 0.02))
        answer = self.answers(f"{host}:{port}")
        if answer is None:
            await asyncio.sleep(3600.0)
        if not answer:
            raise ConnectionRefusedError(host)
        protocol = protocol_factory()
        transport = _Connection(self, protocol)
        protocol.connection_made(transport)
        return transport, protocol

    # --- what asyncio asks of a loop

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, as far as its tasks can see."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing: what daemons leave behind when they die has no one to be told."""

    def tasks(self) -> list[SimulatedTask]:
        """The tasks that have not ended, oldest first."""
        found = [task for task in asyncio.all_tasks(self) if isinstance(task, SimulatedTask)]
        return sorted(found, key=lambda task: task.number)

    # --- running

    def run_until(self, done: Callable[[], bool], deadline: float) -> bool:
        """Run until `done()` holds, asked whenever the clock jumps. False: the deadline came first."""
        with self._current():
            while not done():
                self._run_ready()
                if not self._timers or self._now > deadline:
                    return done()
                self._jump()
        return True

    @contextlib.contextmanager
    def _current(self) -> Generator[None]:
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def _jump(self) -> None:
        """Go to the next timer, and make everything that is due by then ready."""
        timers, ready = self._timers, self.ready
        when, _, handle = heapq.heappop(timers)
        if when > self._now:
            self._now = when
        if not handle._cancelled:  # type: ignore[attr-defined]
            ready.append(handle)

    def _run_ready(self) -> None:
        ready = self.ready
        running = LifeState.RUNNING
        while ready:
            handle: Any = ready.popleft()
            if handle._cancelled:
                continue
            context = handle._context
            life = context.get(LIFE)
            if life is None or life.state is running:
                context.run(handle._callback, *handle._args)
            else:
                life.hold(handle)

    def close(self) -> None:
        """Cancel all that is left, the tasks of the dead as well, until it has ended."""
        self._closing = True
        with self._current():
            for _ in range(_CLOSING_ROUNDS):
                tasks = self.tasks()
                if not tasks:
                    break
                for task in tasks:
                    if task.life is not None:
                        task.life.state = LifeState.RUNNING
                    task._log_destroy_pending = False
                    task.cancel()
                with contextlib.suppress(Exception):
                    self._run_ready()
        self.ready.clear()
        self._timers.clear()


class _Connection(asyncio.Transport):
    """A connection over which nothing is said."""

    def __init__(self, loop: VirtualLoop, protocol: asyncio.BaseProtocol) -> None:
        super().__init__(MappingProxyType({}))
        self._loop, self._protocol = loop, protocol
        self._closing = False

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def close(self) -> None:
        """End it."""
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)
