"""Count the cores that this process may use: limited by the machine, its affinity, and its container's quota."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def count_cores() -> int:
    """Return the number of cores, at least 1. A quota of 2.5 cores counts as 3."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, read_quota())))


def read_quota(cgroups: Path = _CGROUPS, own: Path = _OWN) -> float:
    """Return the smallest CPU quota of this process's control groups, in cores; infinity if there is none.

    Args:
        cgroups: Where the groups are mounted, version 2 or 1.
        own: The file that lists the groups of the process.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        for root in [cgroups] if not controllers else [cgroups / controllers, cgroups / "cpu"]:
            if not controllers or "cpu" in controllers.split(","):
                quotas += _quotas_above(root, place)
    return min(quotas)


def _quotas_above(root: Path, place: str) -> Iterator[float]:
    """Yield the quotas of a group and all its parents. A container sees its own group as the root."""
    parts = [part for part in place.split("/") if part not in ("", "..")]
    for depth in range(len(parts) + 1):
        group = root.joinpath(*parts[:depth])
        try:
            if (group / "cpu.max").exists():  # version 2: "200000 100000" or "max 100000"
                quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
            else:
                quota = (group / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()  # -1 means none
                period = (group / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
            if quota != "max" and int(quota) > 0 and int(period) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError):
            continue
