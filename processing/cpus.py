"""How many CPUs this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CPU_MAX = Path(
    "/sys/fs/cgroup/cpu.max"
)  # cgroup v2; "max 100000" or "QUOTA PERIOD" in microseconds


def available_cpus(cpu_max: Path = _CPU_MAX) -> int:
    """CPUs of this process's affinity mask, at most its container's quota (rounded up).

    Args:
        cpu_max: the control group's ``cpu.max`` file; absent outside containers and off Linux.
    """
    can_ask = hasattr(os, "sched_getaffinity")  # Linux; elsewhere there are no masks to respect
    cpus = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
    except OSError:
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))
