"""How many CPUs this process may really use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_DEFAULT_PERIOD = 100_000  # microseconds


def available_cpus(root: Path = _ROOT) -> int:
    """CPUs of this process's affinity mask, at most its control groups' quota (rounded up).

    What cannot be understood sets no limit: this is a default, never a reason to fail.

    Args:
        root: the directory that holds ``proc`` and ``sys``; what is absent there, as both are off
            Linux, sets no limit.
    """
    can_ask = hasattr(os, "sched_getaffinity")  # Linux; elsewhere there are no masks to respect
    cpus = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1
    return max(1, min([cpus, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The CPUs that each group around this process may use; groups without a limit left out."""
    for group in _groups(root):
        limit = _words(group / "cpu.max")  # version 2
        if not limit:
            limit = [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us")]
        quota, period = map(_number, [*limit, "", ""][:2])
        if quota:  # not "max", "-1", or something unheard of
            yield quota / (period or _DEFAULT_PERIOD)


def _groups(root: Path) -> Iterator[Path]:
    """The directories of this process's CPU control groups, versions 2 and 1, up to the root's.

    A container often sees the path of its group on the host, but mounted as the root; so the
    root's is looked at whatever the path, and a directory that is not there sets no limit.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 names no controllers; beside version 1 it is mounted at "unified".
        names = {controllers, "cpu"} if controllers else {"", "unified"}
        inside = PurePosixPath(path.lstrip("/"))
        for name in sorted(names):
            for group in (inside, *inside.parents):
                yield mounts / name / group


def _number(word: str) -> int:
    """What a word of digits says; 0 for any other."""
    return int(word) if word.isascii() and word.isdecimal() else 0


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
