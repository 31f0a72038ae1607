"""What is wrong with a division into splits, although each image has one: said, not decided.

A model that is validated on what it was trained on looks better than it is, and nothing else shows
it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import SPLITS
from processing.core.errors import NPZFormatError
from processing.imaging.tasks import TASKS
from processing.npz.mapped import MappedNPZ
from processing.output_directory import npz_path
from processing.plan import PlannedFile
from processing.splits import group_pattern

_TRAIN: Final = SPLITS.index("train")


def ungrouped(paths: Sequence[str], group_by: str) -> Iterator[str]:
    """Says how many images are groups of their own, though groups are wanted."""
    pattern = group_pattern(group_by)
    alone = [path for path in paths if not pattern.search(path)]
    if alone:
        yield (
            f"group_by={group_by!r} finds nothing in {len(alone)} of {len(paths)} paths, such as "
            f"{alone[0]}: each of these images is a group of its own"
        )


def empty_splits(files: Collection[PlannedFile]) -> Iterator[str]:
    """Says which files get no image, though both splits should have some."""
    images = {file.task.name: 0 for file in files}
    for file in files:
        images[file.task.name] += len(file.images)
    for file in files:
        wanted = 0 < file.metadata["options"]["train_split"] < 1
        if wanted and not len(file.images):
            yield (
                f"{file.name}: none of {images[file.task.name]} images is in this split: are all "
                "of one group, or of one official split?"
            )


def moved_since(
    directory: Path, paths: NDArray[Any], splits: NDArray[np.int8], tasks: Collection[str]
) -> Iterator[str]:
    """Says which files of other tasks have images that are in another split of this run's tasks.

    Args:
        directory: where the files are.
        paths: StringDType (N,), of all images, ascending.
        splits: int8 (N,), positions in `SPLITS`.
        tasks: names of those of this run, whose files are made anew.
    """
    others = [task for task in TASKS if task not in tasks]
    for (position, split), task in itertools.product(enumerate(SPLITS), others):
        npz = npz_path(directory, f"{split}_{task}")
        try:
            stored = MappedNPZ(npz)["image_paths"].astype(paths.dtype)
        except (NPZFormatError, KeyError, FileNotFoundError):
            continue
        at = np.minimum(np.searchsorted(paths, stored), len(paths) - 1)
        elsewhere = (paths[at] == stored) & (splits[at] != position)
        count = len(np.unique(stored[elsewhere]))
        if count:
            yield (
                f"{npz}: {count} images are in another split of {', '.join(sorted(tasks))}: make "
                f"the {task}'s files again with the same data, train_split, seed and group_by"
            )


def same_content(
    raw_dir: Path, paths: NDArray[Any], splits: NDArray[np.int8], crc32: NDArray[np.uint32]
) -> Iterator[str]:
    """Says how many images outside train have the bytes of one in train.

    Args:
        raw_dir: where the images are.
        paths: StringDType (N,), of all images.
        splits: int8 (N,), positions in `SPLITS`.
        crc32: uint32 (N,), of their content; 0 where it is not known.
    """
    train = np.flatnonzero((splits == _TRAIN) & (crc32 != 0))
    others = np.flatnonzero((splits != _TRAIN) & (crc32 != 0))
    others = others[np.isin(crc32[others], crc32[train])]
    of_train = {
        int(c): train[i] for c, i in zip(*np.unique(crc32[train], return_index=True), strict=True)
    }
    pairs = [(of_train[int(crc32[i])], i) for i in others]
    pairs = [pair for pair in pairs if len({_size(raw_dir, str(paths[i])) for i in pair}) == 1]
    if pairs:
        first = " and ".join(str(paths[i]) for i in pairs[0])
        yield (
            f"{len(pairs)} images outside train have the same content as one in train, such as "
            f"{first}: delete the copies, or give them a group (group_by)"
        )


def _size(raw_dir: Path, path: str) -> int:
    try:
        return (raw_dir / path).stat().st_size
    except OSError:  # it was there a moment ago; no reason to end a run that is done
        return -1
