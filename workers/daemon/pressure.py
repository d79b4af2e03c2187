"""How many slots a worker opens, given what its host has left. Pure.

The host's own business counts as pressure, the worker's tasks do not: two busy slots on two cores
are what the machine is for. One slot fewer at a heartbeat under pressure, one more at a calm one,
so that a spike neither empties a worker nor makes it flap.
"""

import msgspec

from mr.settings import MIB, Settings

#: A busy host is calm again this many points below its limit.
CALM_MARGIN_PERCENT = 10.0
#: Once closed for lack of disk, slots open again with this multiple of the reserve free.
DISK_REOPEN_FACTOR = 1.25


class HostLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured since the last heartbeat. Percentages are of the whole host, 0 to 100."""

    cpu_percent: float
    #: The part of `cpu_percent` that this worker's own tasks used.
    own_cpu_percent: float
    memory_percent: float
    disk_free_bytes: int
    #: Why the spool cannot be written; empty if it can.
    spool_error: str = ""
    cores: int


class Slots(msgspec.Struct, frozen=True):
    """How many slots take tasks, and in words why not all do."""

    open: int
    reason: str = ""


def decide(load: HostLoad, settings: Settings, *, slots: int, current: int) -> Slots:
    """Choose the open slots (0..slots) after a heartbeat that measured `load`; `current`: those open now."""
    if load.spool_error:
        return Slots(0, f"the spool cannot be written: {load.spool_error}")
    reserve = settings.spool_reserve_bytes
    needed = reserve * (DISK_REOPEN_FACTOR if current == 0 else 1.0)
    if load.disk_free_bytes < needed:
        return Slots(
            0, f"spool disk: {load.disk_free_bytes // MIB} MiB free, reserve is {reserve // MIB} MiB"
        )
    start = max(current, 1)
    pressed = _pressed(load, settings, margin=0.0)
    if pressed:
        return _limited(max(start - 1, 1), slots, pressed)
    lingering = _pressed(load, settings, margin=CALM_MARGIN_PERCENT)
    if lingering and current < slots:
        return _limited(start, slots, lingering)
    target = min(start + 1, slots) if current > 0 else start
    return _limited(target, slots, "recovering from pressure")


def lacks_disk(load: HostLoad, settings: Settings) -> bool:
    """Whether so little disk is free that slots are closed soon."""
    return load.disk_free_bytes < settings.spool_reserve_bytes * DISK_REOPEN_FACTOR


def _limited(target: int, slots: int, reason: str) -> Slots:
    return Slots(target, reason if target < slots else "")


def _pressed(load: HostLoad, settings: Settings, *, margin: float) -> str:
    """Say what presses the host, or nothing. A margin (percent points) makes the limits stricter."""
    if load.memory_percent >= settings.pressure_memory_percent - margin:
        return f"host memory {load.memory_percent:.0f}% used"
    foreign = max(load.cpu_percent - load.own_cpu_percent, 0.0)
    # Half a core of others' work is what any host has; it is worth no slot.
    half_core_percent = 50.0 / max(load.cores, 1)
    if load.cpu_percent >= settings.pressure_cpu_percent - margin and foreign > half_core_percent:
        return f"host CPU {load.cpu_percent:.0f}% used, {foreign:.0f}% by others"
    return ""
