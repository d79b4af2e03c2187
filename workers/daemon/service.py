"""The worker daemon: builds its parts, starts them in order and stops them in order."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from mr.adapters.system_clock import SystemClock
from mr.async_tools import cancel_and_wait
from mr.errors import ClusterUnreachable
from mr.ports.broker import Broker, Consumer
from mr.ports.clock import Clock
from mr.ports.store import StateStore
from mr.protocol.ids import Incarnation, WorkerId
from mr.protocol.messages import WorkerStopped
from mr.protocol.queues import CONTROL_EXCHANGE
from mr.settings import Settings
from mr.workers.daemon.adoption import adopt
from mr.workers.daemon.claimed_attempt import StopReason
from mr.workers.daemon.control import ControlHandler
from mr.workers.daemon.drain import serve_until_unneeded
from mr.workers.daemon.heartbeat import Heartbeat, HostMeter
from mr.workers.daemon.registration import claim_worker_id
from mr.workers.daemon.reports import encode_report, publish_report
from mr.workers.daemon.spool import Spool
from mr.workers.daemon.task_runner import TaskRunner
from mr.workers.messages import WorkerIdentity
from mr.workers.process.executor import DEFAULT_ENTRY, DEFAULT_PRELOAD, Executor
from mr.workers.shuffle.transfer.host_identity import host_identity
from mr.workers.shuffle.transfer.served_outputs import ServedOutputs
from mr.workers.shuffle.transfer.server import ShuffleServer, advertised, parse_address

log = logging.getLogger(__name__)

#: How long signing off may take: killed attempts, the report, the store.
FAREWELL_SECONDS = 10.0


async def run_worker(
    settings: Settings,
    broker: Broker,
    store: StateStore,
    *,
    worker_id: WorkerId,
    slots: int,
    spool_dir: Path,
    listen: str | None,
    advertise: str | None,
    stop: asyncio.Event,
    kill: asyncio.Event,
    entry: str = DEFAULT_ENTRY,
    preload: Sequence[str] = DEFAULT_PRELOAD,
) -> None:
    """Work until `stop` is set (running tasks are finished first) or `kill` is (at once).

    `broker` and `store` are connected, and the caller closes them. `listen` None (embedded): map outputs are
    read from disk only. `entry` is what children run. Raises SpoolUnusable, ListenFailed, TemplateDied,
    WorkerIdTaken at the start; BrokerUnavailable or StoreUnavailable when one stays away for
    `reconnect_seconds`. However it ends, its processes are gone and its files deleted, except map outputs
    that are still needed: the next worker to start in this spool serves them. Embedded, they go, too.
    """
    incarnation = Incarnation(secrets.token_hex(8))
    outputs = ServedOutputs()
    async with contextlib.AsyncExitStack() as cleanup:
        spool = await asyncio.to_thread(Spool, spool_dir, worker_id, incarnation)
        cleanup.push_async_callback(close_spool, spool, outputs, embedded=listen is None)
        address = await _serve(cleanup, outputs, listen, advertise)
        executor = Executor(slots=slots, settings=settings, entry=entry, preload=preload)
        cleanup.push_async_callback(executor.close)
        await executor.start()
        identity = WorkerIdentity(worker_id, incarnation, address, host_identity())
        meter = HostMeter(spool, executor)
        worker = Worker(
            settings, broker, store, SystemClock(), identity, slots, spool, executor, outputs, meter
        )
        await worker.take_over()
        await worker.run(stop, kill)


async def close_spool(spool: Spool, outputs: ServedOutputs, *, embedded: bool) -> None:
    """Close the spool. In a cluster, map outputs that are still served stay for the next start."""
    keep_outputs = bool(outputs.jobs()) and not embedded
    await asyncio.to_thread(lambda: spool.close(keep_outputs=keep_outputs))


async def _serve(
    cleanup: contextlib.AsyncExitStack, outputs: ServedOutputs, listen: str | None, advertise: str | None
) -> str:
    """Start the shuffle server unless embedded; returns the address for reducers."""
    if listen is None:
        return ""
    host, port = parse_address(listen)
    server = ShuffleServer(outputs)
    cleanup.push_async_callback(server.close)
    port = await server.start(host, port)
    return advertised(host, port, advertise)


class Worker:
    """One incarnation of a worker, on parts that are ready and that the caller closes."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        store: StateStore,
        clock: Clock,
        identity: WorkerIdentity,
        slots: int,
        spool: Spool,
        executor: Executor,
        outputs: ServedOutputs,
        meter: HostMeter,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._store = store
        self._identity = identity
        self._outputs = outputs
        self._runner = TaskRunner(
            settings,
            broker,
            store,
            identity=identity,
            slots=slots,
            spool=spool,
            executor=executor,
            outputs=outputs,
            on_change=lambda: self._heartbeat.soon(),
        )
        self._spool = spool
        self._control: Consumer | None = None
        self._heartbeat = Heartbeat(
            settings,
            store,
            identity=identity,
            slots=slots,
            spool=spool,
            executor=executor,
            runner=self._runner,
            meter=meter,
            clock=clock,
            control_queue=lambda: "" if self._control is None else self._control.queue_name,
        )

    async def take_over(self) -> None:
        """Adopt or delete what dead workers left in this spool. Raises StoreUnavailable."""
        if self._identity.address:
            await adopt(self._store, self._spool, self._outputs, self._identity)
        else:
            await asyncio.to_thread(self._spool.clear_dead)

    async def run(self, stop: asyncio.Event, kill: asyncio.Event) -> None:
        """Work to the end. Raises what ended it, unless it was asked to stop."""
        handler = ControlHandler(self._settings, self._store, self._identity, self._runner, self._heartbeat)
        self._control = control = await self._broker.subscribe(CONTROL_EXCHANGE, "", handler.on_delivery)
        if not await self._register(control, stop, kill):  # a worker registers before it claims anything
            return
        await self._runner.start(self._heartbeat.open_slots.open)
        log.info(
            "worker %s takes tasks; map outputs at %s", self._identity.worker, self._identity.address or "-"
        )
        beating = asyncio.create_task(self._heartbeat.run())
        failing = asyncio.create_task(self._broker.failed())
        reachable = True
        try:
            await self._first(stop.wait(), kill.wait(), self._heartbeat.draining.wait(), beating, failing)
            if not kill.is_set():
                await self._drain(kill, beating, failing)
        except ClusterUnreachable:
            reachable = False
            raise
        finally:
            await self._take_down(beating, failing, reachable=reachable)

    async def _register(self, control: Consumer, stop: asyncio.Event, kill: asyncio.Event) -> bool:
        """Take the worker's id; False when asked to stop before that. Raises WorkerIdTaken."""
        heartbeat, seconds = self._heartbeat, self._settings.heartbeat_seconds
        registering = asyncio.create_task(claim_worker_id(heartbeat.try_beat, seconds, heartbeat.is_dead))
        registered = False
        try:
            await self._first(stop.wait(), kill.wait(), registering)
            registered = registering.done()
        finally:
            if not registered:
                await cancel_and_wait((registering,))
                await control.cancel()
        if not registered:  # its last heartbeat may still have been recorded
            await self._store.forget_worker(self._identity.worker, self._identity.incarnation)
        return registered

    async def _first(self, *waited: "Coroutine[Any, Any, Any] | asyncio.Task[Any]") -> None:
        """Wait for the first of several; raises what a watcher (a Task given) ended with."""
        watchers = [item for item in waited if isinstance(item, asyncio.Task)]
        waits = [asyncio.create_task(item) for item in waited if not isinstance(item, asyncio.Task)]
        try:
            await asyncio.wait([*waits, *watchers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(waits)
        for watcher in watchers:
            if watcher.done():
                result = watcher.result()
                if isinstance(result, BaseException):
                    raise result

    async def _drain(
        self, kill: asyncio.Event, beating: "asyncio.Task[None]", failing: "asyncio.Task[BaseException]"
    ) -> None:
        """Take no more tasks, finish those that run and serve the map outputs, up to `drain_seconds`."""
        self._heartbeat.draining.set()
        self._heartbeat.soon()
        await self._runner.close_intake()
        log.info("draining")
        with contextlib.suppress(TimeoutError):  # what still runs then is stopped and handed to others
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._first(kill.wait(), self._finish(), beating, failing)

    async def _finish(self) -> None:
        """Wait until no attempt is left and nobody needs the map outputs that are served here."""
        await self._runner.idle()
        self._heartbeat.soon()
        if self._identity.address:
            look_seconds = self._settings.heartbeat_seconds / 4
            await serve_until_unneeded(self._store, self._outputs, self._identity.worker, look_seconds)

    async def _take_down(
        self, beating: "asyncio.Task[None]", failing: "asyncio.Task[BaseException]", *, reachable: bool
    ) -> None:
        """Stop what runs, and sign off if broker and store can be reached."""
        self._runner.refuse()
        self._runner.stop_matching(lambda attempt: True, StopReason.WORKER_STOPPING)
        try:
            if reachable:
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._farewell(beating)
        except (ClusterUnreachable, TimeoutError) as error:
            log.warning("left without signing off, the lease will run out instead: %s", error or "time-out")
        finally:
            await cancel_and_wait((beating, failing))

    async def _farewell(self, beating: "asyncio.Task[None]") -> None:
        await self._runner.close_intake()
        await self._runner.idle()
        await cancel_and_wait((beating,))  # no lease is left to renew; a beat must not follow the sign-off
        leaves_outputs = bool(self._identity.address and self._outputs.jobs())
        stopped = WorkerStopped(self._identity.worker, self._identity.incarnation, leaves_outputs)
        await self._store.forget_worker(self._identity.worker, self._identity.incarnation)
        await publish_report(self._broker, encode_report(stopped))
        if self._control is not None:
            await self._control.cancel()  # last: a queue that is gone looks like a death
        log.info("worker %s has left", self._identity.worker)
