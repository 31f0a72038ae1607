"""The lists, caches and metadata of the files of a run, when all their rows are written.

They come before the files: a file must never be there without its list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from processing.core.errors import Rejection
from processing.run.dropped_lists import identity_crc32
from processing.run.earlier_rows import FileKeys, save_keys
from processing.run.journal import Progress
from processing.run.output_directory import npz_path, rejections_crc32, write_rejections
from processing.run.plan import PlannedFile
from processing.run.published import counts_of

AllMetadata: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The metadata of each file, by its name."""


def finish_lists(
    output_dir: Path,
    files: Sequence[PlannedFile],
    progress: Progress,
    rejections: Sequence[Rejection],
    content_crc32: NDArray[np.uint32],
    keys: NDArray[np.uint64],
    task_names: list[str],
    category_names: Sequence[str],
) -> AllMetadata:
    """Writes the lists of rejected inputs, and the cache of row keys.

    Args:
        output_dir: where the files go.
        files: those that are made.
        progress: of the run.
        rejections: annotations that were left out; listed with the train files.
        content_crc32: (N,) of each image of the annotation table; 0 for images of other files.
        keys: (N,) of the rows of each image, as above.
        task_names: all tasks of the run.
        category_names: of the annotation table.

    Returns:
        The metadata of each file.
    """
    metadata, keys_of_files = {}, {}
    for file in files:
        npz = npz_path(output_dir, file.name)
        rejected = progress.rejections.get(file.name, [])
        listed = [*rejections, *rejected] if file.split == "train" else rejected
        write_rejections(npz, listed)
        fingerprint = file.fingerprint(content_crc32)
        counts = counts_of(file, progress, rejected, category_names)
        metadata[file.name] = {
            **file.metadata,
            "tasks": task_names,
            "recipe": file.recipe,
            "fingerprint": fingerprint,
            "listed_crc32": rejections_crc32(listed),
            "dropped_crc32": identity_crc32(npz),
            "counts": {**counts, "listed": len(listed)},
        }
        keys_of_files[file.name] = FileKeys(fingerprint, keys[file.images])
    save_keys(output_dir, keys_of_files)
    return metadata
