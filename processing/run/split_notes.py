"""Notes on splits that mislead: they are the only sign that a model is validated on its own images.

The notes change nothing. They say the same in every run, also when all files are up to date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import SPLITS
from processing.core.errors import Note, NPZFormatError
from processing.imaging.tasks import TASKS
from processing.npz.mapped import MappedNPZ
from processing.run.output_directory import npz_path, task_of
from processing.run.plan import PlannedFile
from processing.run.splits import group_of, group_pattern


def ungrouped(paths: Sequence[str], group_by: str | None) -> Iterator[Note]:
    """Notes images that are groups of their own, although groups are wanted."""
    if group_by is None:
        return
    pattern = group_pattern(group_by)
    unmatched = [path for path in paths if group_of(path, pattern) is None]
    if unmatched:
        yield Note(
            "ungrouped",
            unmatched[0],
            f"group_by={group_by!r} finds nothing in {len(unmatched)} of {len(paths)} paths, such "
            f"as {unmatched[0]}: each of these images is a group of its own",
            len(unmatched),
        )


def empty_splits(files: Collection[PlannedFile]) -> Iterator[Note]:
    """Notes files without images, unless `train_split` asks for an empty side.

    A split with images for another task is right: its images have no points, or no boxes.
    """
    images: Counter[str] = Counter()
    filled = set()
    for file in files:
        images[file.task.name] += len(file.images)
        if len(file.images):
            filled.add(file.split)
    for file in files:
        is_wanted = 0 < file.metadata["options"]["train_split"] < 1
        if is_wanted and file.split not in filled:
            yield Note(
                "empty_split",
                f"{file.name}.npz",
                f"{file.name}: none of {images[file.task.name]} images is in this split: are they "
                "few, or all of one group, or of one official split?",
            )


def moved_since(
    directory: Path, paths: NDArray[Any], splits: NDArray[np.int8], tasks: Collection[str]
) -> Iterator[Note]:
    """Notes files of other tasks with images that this run has put into another split.

    Args:
        directory: where the files are.
        paths: StringDType (N,), of all images.
        splits: int8 (N,), positions in `SPLITS`.
        tasks: names of the tasks of this run, whose files are made anew.
    """
    others = [task for task in TASKS if task not in tasks]
    names = {f"{split}_{task}": i for i, split in enumerate(SPLITS) for task in others}
    files = {name: npz_path(directory, name) for name in names}
    if not any(npz.exists() for npz in files.values()):
        return
    # Not numpy.searchsorted: on StringDType it reads wrong memory for longer strings (numpy#31533).
    split_of = dict(zip(paths.tolist(), splits.tolist(), strict=True))
    for name, npz in files.items():
        try:
            stored = set(MappedNPZ(npz)["image_paths"].tolist())
        except (NPZFormatError, KeyError, FileNotFoundError):
            continue  # a file that cannot be read trains no model
        count = sum(split_of.get(path, names[name]) != names[name] for path in stored)
        if count:
            yield Note(
                "moved_since",
                npz.name,
                f"{npz}: {count} of its {len(stored)} images are in another split of "
                f"{', '.join(sorted(tasks))}: make the {task_of(npz)}'s files again with the same "
                "data, train_split, seed and group_by",
                count,
            )


def notes_on_splits(
    directory: Path,
    paths: NDArray[Any],
    splits: NDArray[np.int8],
    files: Collection[PlannedFile],
    group_by: str | None,
) -> Iterator[Note]:
    """Notes everything about a division into splits that may mislead.

    Args:
        directory: the output directory.
        paths: StringDType (N,), of all images.
        splits: int8 (N,), positions in `SPLITS`.
        files: the plan.
        group_by: as in `assign_splits`.
    """
    yield from empty_splits(files)
    yield from moved_since(directory, paths, splits, {file.task.name for file in files})
    yield from ungrouped(paths.tolist(), group_by)
