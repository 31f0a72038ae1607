"""Looks at photographs without annotations, and at the sizes of all others."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from isal.isal_zlib import crc32
from tqdm.auto import tqdm

from processing.checking.copies import Pictures, check_copies
from processing.checking.findings import Finding
from processing.checking.outcomes import from_rejections
from processing.checking.placed import PlacedAnnotations
from processing.core.errors import ImageError, Rejection
from processing.core.threads import map_in_order
from processing.imaging.decoding import decode, read_header
from processing.imaging.photographs import Photographs
from processing.imaging.similar import Look, look_at
from processing.run.image_batches import RunOptions

_SMALLEST_SIDE: Final = 32
"""Pixels. Smaller photographs are thumbnails or icons that came with the data."""
_REDUCTION: Final = 4
"""How many times smaller a photograph may be decoded that is only looked at."""
_AHEAD: Final = 4  # photographs per thread


class _Seen(NamedTuple):
    """One photograph: its content and looks, or why it cannot be used."""

    size: int = 0
    crc32: int = 0
    look: Look | None = None
    rejection: Rejection | None = None


def check_photographs(placed: PlacedAnnotations) -> Iterator[Finding]:
    """Finds photographs that are too small to show anything."""
    shorter = placed.sizes.min(axis=1)
    for image in np.flatnonzero((shorter > 0) & (shorter < _SMALLEST_SIDE)).tolist():
        height, width = placed.sizes[image].tolist()
        yield Finding(
            "small_photograph",
            "warning",
            str(placed.table.image_paths[image]),
            f"the photograph has {width}x{height} pixels",
            "replace the thumbnail by the photograph, or delete it",
        )


def look_at_all(
    photographs: Photographs, paths: Sequence[str], options: RunOptions
) -> Iterator[Finding]:
    """Looks at photographs whose annotations cannot be used: unreadable ones and copies.

    Args:
        photographs: reads them.
        paths: of the photographs.
        options: how to work.
    """
    pictures = Pictures(list(paths), np.full(len(paths), -1, dtype=np.int8))
    threads = options.num_workers
    seen = map_in_order(
        functools.partial(_see, photographs), paths, threads=threads, ahead=_AHEAD * threads
    )
    is_shown = options.progress and sys.stderr is not None
    hidden = None if is_shown else True  # None: shown on a terminal only
    bar = tqdm(seen, total=len(paths), unit="image", desc="checking", disable=hidden)
    for image, one in enumerate(bar):
        if one.rejection is not None:
            yield from from_rejections([one.rejection])
        pictures.bytes[image], pictures.crc32[image] = one.size, one.crc32
        if one.look is not None:
            pictures.add(image, one.look)
    yield from check_copies(pictures)


def _see(photographs: Photographs, path: str) -> _Seen:
    data = b""
    try:
        data = photographs.read(path)
        photo = decode(data, read_header(data), reduction=_REDUCTION)
    except ImageError as error:
        rejection = Rejection(path, "decode" if data else "read", error.reason, str(error))
        return _Seen(len(data), crc32(data), rejection=rejection)
    return _Seen(len(data), crc32(data), look_at(photo.pixels))
