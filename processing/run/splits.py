"""Which split an image belongs to, and warnings about divisions that mislead.

An official split is respected; all other images are divided by a keyed hash of their group. The
division is a pure function of paths, official splits, seed and grouping: the order of the input,
the machine and the number of calls do not matter. The warnings change nothing. A model that is
validated on what it was trained on looks better than it is, and nothing else shows it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
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
from processing.run.output_directory import npz_path
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
    """Gives every image a split.

    Images of one group are never divided, unless the data's own official splits divide them. Groups
    without an official split are ordered by their hash, and the first go to train until its share
    of those images is as near to `train_split` as whole groups allow (exact where a group is one
    image). Adding images moves only those at the border. With two groups or more, neither side is
    empty unless `train_split` is 0 or 1.

    Args:
        image_paths: (N,) paths relative to the raw directory.
        official: int8 (N,) positions in `SPLITS`, or `UNASSIGNED`.
        train_split: share of the images without an official split that go to train, in [0, 1].
        seed: key of the hash.
        group_by: regular expression; what the first of its groups that finds something (or else the
            whole match) finds in a path names the image's group. An image that it does not match is
            a group of its own. None: every image is.

    Returns:
        int8 (N,) positions in `SPLITS`.

    Raises:
        ValueError: `train_split` outside [0, 1], or `group_by` is no regular expression.
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
    """`group_by` compiled.

    Raises:
        TypeError: it is no text.
        ValueError: it is no regular expression.
    """
    if not isinstance(group_by, str):
        raise TypeError(f"group_by must be a regular expression, got {group_by!r}")
    try:
        return re.compile(group_by)
    except re.error as error:
        raise ValueError(f"group_by={group_by!r} is no regular expression: {error}") from error


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
    """int8 (n,): the official split that a group's other images follow; the first if several."""
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
    hashes = [
        int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8, key=key).digest(), "big")
        for group in groups.tolist()
    ]
    order = np.lexsort((np.arange(len(groups)), np.array(hashes, dtype=np.uint64)))
    in_train = np.concatenate(
        [[0], np.cumsum(sizes[order])]
    )  # images in train if the first g go there
    first_val = int(np.argmin(np.abs(in_train - train_split * in_train[-1])))
    if 0 < train_split < 1 and len(groups) > 1:
        first_val = min(max(first_val, 1), len(groups) - 1)
    split = np.full(len(groups), _VAL, dtype=np.int8)
    split[order[:first_val]] = _TRAIN
    return split


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
