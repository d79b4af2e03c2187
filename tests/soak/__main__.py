"""`python -m tests.soak`: jobs on real servers under random faults. Exit code 1 when anything is wrong."""

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mr.cli.connect import connected
from mr.settings import load_settings
from tests.soak import faults, kinds
from tests.soak.site import Site, directory_bytes
from tests.soak.tally import Tally
from tests.soak.workload import Workload
from tests.support import server_versions

SECONDS_BETWEEN_FAULTS = (1.0, 5.0)
MOST_FAULTS_AT_ONCE = 3
LINE_SECONDS = 30.0
LOOK_SECONDS = 1.0
#: A daemon that holds more has a leak.
DAEMON_MEMORY_BYTES = 600 * 1024 * 1024
MIB = 1024 * 1024


class Striker:
    """Draws faults, and lets a few of them last at the same time."""

    def __init__(self, site: Site, tally: Tally, seed: str, chosen: Sequence[faults.Fault]) -> None:
        self._site = site
        self._tally = tally
        self._chance = random.Random(f"{seed}/faults")
        self._chosen = chosen
        self._locks = {
            name: asyncio.Lock() for name in (faults.MEMORY, faults.RABBITMQ, faults.REDIS, *site.workers)
        }
        self._alive = asyncio.Semaphore(MOST_FAULTS_AT_ONCE)

    async def run(self, until: float) -> None:
        """Strike until `until` (monotonic), and wait until all is whole again."""
        async with asyncio.TaskGroup() as striking:
            while True:
                await asyncio.sleep(self._chance.uniform(*SECONDS_BETWEEN_FAULTS))
                (fault,) = self._chance.choices(self._chosen, [fault.weight for fault in self._chosen])
                worker = self._chance.choice(self._site.workers) if faults.WORKER in fault.strikes else ""
                strike = faults.Strike(self._site, random.Random(self._chance.random()), worker)
                await self._alive.acquire()
                if time.monotonic() > until:
                    return
                striking.create_task(self._strike(fault, strike))

    async def _strike(self, fault: faults.Fault, strike: faults.Strike) -> None:
        try:
            async with contextlib.AsyncExitStack() as held:
                for name in sorted(strike.worker if n == faults.WORKER else n for n in fault.strikes):
                    await held.enter_async_context(self._locks[name])
                self._tally.note(f"fault begins: {fault.name} {strike.worker}")
                await fault.strike(strike)
                self._tally.fault(fault.name, strike.worker)
        except faults.NothingToStrike:
            self._tally.note(f"nothing to strike: {fault.name}")
        except AssertionError as error:
            self._tally.defect("daemons that did not end when told", f"{fault.name}: {error}")
        finally:
            self._alive.release()


async def watch(site: Site, tally: Tally) -> None:
    """Print a line now and then, find daemons that ended or grew, and keep logs small."""
    next_line = LINE_SECONDS
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for end in site.ended_by_themselves():
            tally.defect("daemons that ended by themselves", end)
        if tally.elapsed_seconds < next_line:
            continue
        next_line += LINE_SECONDS
        site.trim()
        memory = site.memory_bytes()
        if memory > DAEMON_MEMORY_BYTES:
            tally.defect("daemons over their memory", f"one holds {memory // MIB} MiB")
        used = await asyncio.to_thread(directory_bytes, site.directory)
        print(f"{tally.line()}; largest daemon {memory // MIB} MiB, disk {used // MIB} MiB", flush=True)


async def soak(site: Site, tally: Tally, arguments: argparse.Namespace) -> None:
    """Everything, for as long as asked."""
    current = asyncio.current_task()
    assert current is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    chosen = [faults.BY_NAME[name] for name in arguments.faults.split(",") if name] or faults.ALL
    settings = load_settings(environ=site.cluster.environment)
    kinds.write_inputs(site.directory / "inputs")
    print("running each kind of job embedded", flush=True)
    prepared = []
    for kind in kinds.ALL:
        prepared.append(
            await asyncio.to_thread(
                kinds.prepare,
                *(kind, site.directory / "inputs", site.directory / "embedded", site.cluster, settings),
            )
        )
    async with site.running():
        print(", ".join(server_versions.in_use()), flush=True)
        async with connected(settings) as client:
            workload = Workload(site, client, prepared, tally, arguments.seed)
            tally.began = time.monotonic()
            until = tally.began + arguments.minutes * 60
            watching = asyncio.create_task(watch(site, tally))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(workload.run(until))
                    group.create_task(Striker(site, tally, arguments.seed, chosen).run(until))
            finally:
                watching.cancel()
                await asyncio.wait((watching,))


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats the draws, not their timing")
    parser.add_argument("--faults", default="", help="only these, by name, with commas")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="mrmq-soak-"))
    print(f"soak of {arguments.minutes:g} min, seed {arguments.seed}, in {directory}", flush=True)
    tally, code = Tally(directory / "events.log"), 0
    try:
        asyncio.run(soak(Site(directory), tally, arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", flush=True)
        code = 130
    print(tally.summary(), flush=True)
    if not tally.clean:
        print(f"seed {arguments.seed}; logs are kept in {directory}", flush=True)
        return 1
    shutil.rmtree(directory)
    return code


def may_mount() -> bool:
    """Whether a mount namespace can be made, which takes root."""
    return not subprocess.run(
        ["unshare", "--mount", "true"], check=False, stderr=subprocess.DEVNULL
    ).returncode


if __name__ == "__main__":
    # What is mounted in a namespace of our own goes with it, however we end.
    if "SOAK_MOUNTS" not in os.environ and may_mount():
        os.environ["SOAK_MOUNTS"] = "yes"
        command = ["unshare", "--mount", sys.executable, "-m", "tests.soak", *sys.argv[1:]]
        os.execvp(command[0], command)
    sys.exit(main())
