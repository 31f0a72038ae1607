"""Counts the CPUs that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Final

_ROOT: Final = Path("/")
_DEFAULT_PERIOD: Final = 100_000  # microseconds; the kernel's


def available_cpus(root: Path = _ROOT) -> int:
    """Returns the CPUs of this process's affinity mask, limited by the quotas of control groups.

    Containers, Slurm and systemd set such quotas; they are rounded up. A file that is absent or
    cannot be parsed sets no limit: the result is a default, so it must not fail.

    Args:
        root: the directory with ``proc`` and ``sys``, for tests.
    """
    cpus: float = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux; other systems have no masks
        cpus = len(os.sched_getaffinity(0))
    for group in _groups(root):
        cpus = min(cpus, _quota(group))
    return max(1, math.ceil(cpus))


def _quota(group: Path) -> float:
    """Returns the CPUs that a control group may use; infinity if it sets no limit."""
    # Version 2 has quota and period in one file, version 1 in two. A group has one kind of them.
    words = _read(group / "cpu.max").split()
    words += _read(group / "cpu.cfs_quota_us").split() + _read(group / "cpu.cfs_period_us").split()
    quota, period = [*words, "", ""][:2]
    if not quota.isdecimal() or int(quota) == 0:  # "max" or "-1": no limit
        return math.inf
    if not period.isdecimal() or int(period) == 0:
        return int(quota) / _DEFAULT_PERIOD
    return int(quota) / int(period)


def _groups(root: Path) -> Iterator[Path]:
    """Yields the directories of this process's CPU control groups and of all groups around them.

    Some do not exist: a container often sees its group's path on the host, but the group itself is
    mounted as the root.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():  # ID:CONTROLLERS:PATH
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            # Version 2. "unified" is its place on systems that also have version 1.
            mounts = ["", "unified"]
        elif "cpu" in controllers.split(","):
            # Version 1, such as "cpu,cpuacct"; "cpu" is often a link to it.
            mounts = [controllers, "cpu"]
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        # The smallest quota counts, so the groups around this one are needed too.
        for mount, group in product(mounts, (inside, *inside.parents)):
            yield root / "sys/fs/cgroup" / mount / group


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "surrogateescape")  # paths may be any bytes
    except OSError:
        return ""
