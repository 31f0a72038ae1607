"""Estimates the bytes that processing would write, and the time that it would take."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from processing.checking.forecast import Forecast, batches_of
from processing.run.plan import PlannedFile

if TYPE_CHECKING:
    from processing.run.work import Work

_SAMPLE: Final = 32
"""Photographs that are processed to measure the pace: about a second of work."""
_PAGE: Final = 4096
"""Members of an NPZ file begin at pages of this size."""
_HEADER_BYTES: Final = 256
"""The headers of a member: those of ZIP and NPY."""
_METADATA_BYTES: Final = 7400
"""The metadata and the directory of an NPZ file with few categories."""
_WRITTEN_PER_SECOND: Final = 200e6
"""Bytes. A background thread writes while others decode; the last batches have to wait for it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of a small sample.

    Args:
        seconds: per photograph, with the threads of a run.
        row_bytes: by task, mean bytes of a stored image that was encoded.
    """

    seconds: float
    row_bytes: dict[str, float]


def measure(work: Work) -> Pace:
    """Processes a few photographs of a plan, as a run would, and keeps nothing."""
    images = np.unique(np.concatenate([file.images for file in work.files]))
    count = min(_SAMPLE, len(images))
    if not count:
        return Pace(0.0, {})
    chosen = images[np.linspace(0, len(images) - 1, count).astype(np.int64)]
    options = replace(work.options, progress=False)
    encoded: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    began = time.perf_counter()
    with batches_of(work, chosen, options).results(0, None) as results:
        for result in results:
            for task, made in result.rows.items():
                if result.original and task.may_keep_originals:
                    continue  # its size is known exactly
                encoded[task.name] += sum(row.image.nbytes for row in made)
                rows[task.name] += len(made)
    seconds = (time.perf_counter() - began) / count
    return Pace(seconds, {name: encoded[name] / rows[name] for name in rows if rows[name]})


def file_bytes(file: PlannedFile, forecast: Forecast, pace: Pace) -> int:
    """Returns the bytes of a file: those of pixels exactly, others as the sample has them."""
    name = file.name
    rows = forecast.progress.rows[name]
    if file.task.encoding.is_raw:
        images = 3 * rows * prod(file.output.image_size)
    else:
        counts = forecast.progress.counts.get(name, Counter[str]())
        made = rows - counts["original_rows"]
        images = forecast.original_bytes[name] + int(made * pace.row_bytes.get(file.task.name, 0))
    columns = forecast.column_bytes[name].values()
    pages = sum(-(-(size + _HEADER_BYTES) // _PAGE) for size in (images, *columns))
    return pages * _PAGE + _METADATA_BYTES


def run_seconds(images: int, total_bytes: int, pace: Pace) -> float:
    """Returns the time of a run without reading the annotations."""
    return images * pace.seconds + total_bytes / _WRITTEN_PER_SECOND
