"""How many tasks this machine can run at a time: the cores that this process may use."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The cores that this process's affinity and its cgroups' quotas let it use; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores_within(allowed, quotas(_read(_OWN_CGROUPS), _CGROUPS))


def cores_within(allowed: int, limits: list[float]) -> int:
    """The lowest of the cores allowed and the quotas (in cores, fractions rounded up); at least 1."""
    return max(1, min([allowed, *(math.ceil(quota) for quota in limits)]))


def quotas(own: str, root: Path) -> list[float]:
    """What each cgroup of this process allows, in cores, up to the root; `own` is /proc/self/cgroup.

    Inside a container its own cgroup is mounted as the root, and the path in `own` may lead nowhere.
    """
    found = []
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            tops = [root, root / "unified"]
        elif "cpu" in controllers.split(","):
            tops = [root / "cpu", root / controllers]
        else:
            continue
        for top in dict.fromkeys(tops):
            group = top / path.lstrip("/")
            chain = [group, *group.parents]
            for directory in chain[: chain.index(top) + 1]:
                quota = _quota(directory)
                if quota is not None:
                    found.append(quota)
    return found


def _quota(directory: Path) -> float | None:
    """The quota set in one cgroup, in cores; version 2 has one file for it, version 1 two."""
    text = _read(directory / "cpu.max") or " ".join(
        (_read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us"))
    )
    return parse_quota(text)


def parse_quota(text: str) -> float | None:
    """Cores out of `QUOTA PERIOD`, both in microseconds; None for `max`, -1 and any other text."""
    words = text.split()
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    """The text of a small file; empty when it cannot be read."""
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""
