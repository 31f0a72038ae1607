"""The split of each image, and warnings about splits that mislead.

An official split is respected; all other images are divided by a keyed hash of their group. The
division is a pure function of paths, official splits, seed and grouping: the order of the input,
the machine and the number of calls do not matter. The warnings change nothing. They are the only
sign that a model is validated on its own training images.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import SPLITS, UNASSIGNED
from processing.core.arguments import check_number
from processing.core.errors import NPZFormatError
from processing.imaging.tasks import TASKS
from processing.npz.mapped import MappedNPZ
from processing.run.output_directory import npz_path, task_of
from processing.run.plan import PlannedFile

_TRAIN, _VAL = SPLITS.index("train"), SPLITS.index("val")


def assign_splits(
    image_paths: NDArray[Any] | Sequence[str],
    official: NDArray[np.int8],
    *,
    train_split: float,
    seed: int = 0,
    group_by: str | None = None,
) -> NDArray[np.int8]:
    """Assigns a split to every image.

    Images of one group stay together, unless official splits of the data divide them. Groups
    without an official split are ordered by their hash. The first groups go to train, as many as
    bring its share of these images nearest to `train_split`. Adding images moves only images at the
    border. With two groups or more, neither side is empty unless `train_split` is 0 or 1.

    Args:
        image_paths: (N,) paths relative to the raw directory.
        official: int8 (N,) positions in `SPLITS`, or `UNASSIGNED`.
        train_split: share of the images without an official split that go to train, in [0, 1].
        seed: key of the hash.
        group_by: regular expression that is searched in each path. The text of its first group
            that is not empty, or of the whole match, names the image's group. An image without a
            match is a group of its own. None: every image is a group of its own.

    Returns:
        int8 (N,) positions in `SPLITS`.

    Raises:
        ValueError: `train_split` is outside [0, 1], or `group_by` is not a regular expression.
    """
    check_number("train_split", train_split, least=0, most=1)
    groups, members, sizes = np.unique(
        np.array(_groups(image_paths, group_by), dtype=np.dtypes.StringDType()),
        return_inverse=True,
        return_counts=True,
    )
    group_split = _official_of_groups(len(groups), members, official)
    free = np.flatnonzero(group_split == UNASSIGNED)
    group_split[free] = _divide(groups[free], sizes[free], train_split, seed)
    return np.where(official == UNASSIGNED, group_split[members], official).astype(np.int8)


def group_pattern(group_by: str) -> re.Pattern[str]:
    """Compiles `group_by`.

    Raises:
        TypeError: it is not a string.
        ValueError: it is not a regular expression.
    """
    if not isinstance(group_by, str):
        raise TypeError(f"group_by must be a regular expression, got {group_by!r}")
    try:
        return re.compile(group_by)
    except re.error as error:
        raise ValueError(f"group_by={group_by!r} is not a regular expression: {error}") from error


def _groups(image_paths: NDArray[Any] | Sequence[str], group_by: str | None) -> list[str]:
    if group_by is None:
        return [str(path) for path in image_paths]
    pattern = group_pattern(group_by)
    groups = []
    for path in map(str, image_paths):
        match = pattern.search(path)
        texts = () if match is None else match.groups() or (match.group(),)
        groups.append(next(filter(None, texts), path))
    return groups


def _official_of_groups(
    n: int, members: NDArray[np.intp], official: NDArray[np.int8]
) -> NDArray[np.int8]:
    """int8 (n,): the official split of each group; the first of several, `UNASSIGNED` if none."""
    group_split = np.full(n, len(SPLITS), dtype=np.int8)
    named = official != UNASSIGNED
    np.minimum.at(group_split, members[named], official[named])
    group_split[group_split == len(SPLITS)] = UNASSIGNED
    return group_split


def _divide(
    groups: NDArray[Any], sizes: NDArray[np.intp], train_split: float, seed: int
) -> NDArray[np.int8]:
    """int8 (G,): train or val for each group."""
    key = str(seed).encode()
    hashes = np.empty(len(groups), dtype=np.uint64)
    for i, group in enumerate(groups.tolist()):
        digest = hashlib.blake2b(group.encode(), digest_size=8, key=key).digest()
        hashes[i] = int.from_bytes(digest, "big")
    # The position decides between equal hashes, so that the order is always the same.
    order = np.lexsort((np.arange(len(groups)), hashes))
    # in_train[g]: images in train if the first g groups go there.
    in_train = np.concatenate([[0], np.cumsum(sizes[order])])
    first_val = int(np.argmin(np.abs(in_train - train_split * in_train[-1])))
    if 0 < train_split < 1 and len(groups) > 1:
        first_val = min(max(first_val, 1), len(groups) - 1)
    split = np.full(len(groups), _VAL, dtype=np.int8)
    split[order[:first_val]] = _TRAIN
    return split


def ungrouped(paths: Sequence[str], group_by: str) -> Iterator[str]:
    """Warns of images that are groups of their own, although groups are wanted."""
    pattern = group_pattern(group_by)
    unmatched = [path for path in paths if not pattern.search(path)]
    if unmatched:
        yield (
            f"group_by={group_by!r} finds nothing in {len(unmatched)} of {len(paths)} paths, such "
            f"as {unmatched[0]}: each of these images is a group of its own"
        )


def empty_splits(files: Collection[PlannedFile]) -> Iterator[str]:
    """Warns of files without images, unless `train_split` asks for an empty side.

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
            yield (
                f"{file.name}: none of {images[file.task.name]} images is in this split: are all "
                "of one group, or of one official split?"
            )


def moved_since(
    directory: Path, paths: NDArray[Any], splits: NDArray[np.int8], tasks: Collection[str]
) -> Iterator[str]:
    """Warns of files of other tasks with images that this run has put into another split.

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
            task = task_of(npz)
            yield (
                f"{npz}: {count} images are in another split of {', '.join(sorted(tasks))}: make "
                f"the {task}'s files again with the same data, train_split, seed and group_by"
            )


def split_warnings(
    directory: Path,
    paths: NDArray[Any],
    splits: NDArray[np.int8],
    files: Collection[PlannedFile],
    group_by: str | None,
) -> Iterator[str]:
    """Warns of everything about a division into splits that may mislead.

    Args:
        directory: the output directory.
        paths: StringDType (N,), of all images.
        splits: int8 (N,), positions in `SPLITS`.
        files: the plan.
        group_by: as in `assign_splits`.
    """
    if group_by is not None:
        yield from ungrouped(paths.tolist(), group_by)
    yield from empty_splits(files)
    yield from moved_since(directory, paths, splits, {file.task.name for file in files})
