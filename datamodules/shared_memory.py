"""Shared memory, through which the batches of worker processes travel: how many it has room for.

Containers often get little of it (Docker: 64 MiB), and where it is full torch fails, or is killed
by a bus error, in the middle of an epoch. So it is looked at before there is a worker.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Final

_LOG = logging.getLogger(__name__)

_DIRECTORY: Final = Path("/dev/shm")
_CONSUMER_HOLDS: Final = 3
"""Batches: the one trained on, the one before it, and one that is fetched ahead."""

_ANNOTATION_BYTES: Final = 1 << 16
"""Of a batch besides images; every tensor takes whole pages."""


def workers_with_room(
    num_workers: int,
    *,
    prefetch_factor: int,
    image_bytes: int,
    processes: int = 1,
    directory: Path = _DIRECTORY,
) -> int:
    """How many of the worker processes wanted shared memory has room for; warns where not all.

    Args:
        num_workers: wanted by this process.
        prefetch_factor: batches that each prepares ahead.
        image_bytes: of one batch.
        processes: on this machine that want as much.
        directory: where shared memory is mounted; where it is not, nothing is limited.

    Returns:
        A number in ``[0, num_workers]``; 0 needs no shared memory.
    """
    if num_workers == 0 or not directory.is_dir():
        return num_workers
    batch = image_bytes + _ANNOTATION_BYTES
    held = batch * _CONSUMER_HOLDS * processes
    worker = batch * (prefetch_factor + 1) * processes  # what it reads into takes another batch
    needed = held + num_workers * worker
    _, used, free = shutil.disk_usage(directory)
    if needed <= free:
        return num_workers
    fit = max(0, (free - held) // worker)
    _LOG.warning(
        "%s has %d MiB free, but the batches of %d worker processes need %d MiB: %d are used, "
        "which is slower. Start the container with --shm-size=%dm, or lower num_workers, "
        "prefetch_factor or batch_size; without train_transform no shared memory is needed",
        directory,
        free >> 20,
        num_workers,
        _mebibytes(needed),
        fit,
        _mebibytes(used + needed),
    )
    return fit


def _mebibytes(size: int) -> int:
    return -(-size >> 20)
