"""Slows down reads from a disk to a rate, by a control group. Linux only, as root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def reads_limited(folder: Path, megabytes: int) -> Iterator[None]:
    """Limit what this process and its new children read from the disk of `folder`.

    Args:
        folder: a folder on the disk.
        megabytes: megabytes (10^6 bytes) per second.

    Raises:
        OSError: this process may not make control groups, or the disk cannot be limited.
    """
    number = folder.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    # Version 1 of control groups has a folder for each controller, version 2 one for all.
    if (_GROUPS / "blkio").is_dir():
        parent, name = _GROUPS / "blkio", "blkio.throttle.read_bps_device"
        limit = f"{device} {megabytes * 1_000_000}"
    else:
        parent, name = _GROUPS, "io.max"
        limit = f"{device} rbps={megabytes * 1_000_000}"
        (parent / "cgroup.subtree_control").write_text("+io")
    group = parent / f"npz-vision-data-{os.getpid()}"
    group.mkdir()
    try:
        (group / name).write_text(limit)
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()
