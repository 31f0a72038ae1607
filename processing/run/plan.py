"""The plan of a processing run: the files it will write, decided before any image is read.

A pure function of annotations and options. The recipe of a file is a hash of everything that
decides its bytes, except the images; its fingerprint adds their content. Neither depends on the
location of the raw directory, on dates or on the number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import IMAGE_COLUMNS, INSTANCE_COLUMNS, SPLITS, AnnotationTable
from processing.core.columns import Column, RaggedArray
from processing.core.errors import Rejection
from processing.imaging.encoding import RAW, Encoding
from processing.imaging.tasks import PIXELS_VERSION, Task, common_columns
from processing.npz.format import FORMAT_VERSION, RAW_VERSION
from processing.npz.sets import Shard
from processing.run.image_member import ImageMember

ONE_FILE: Final = Shard(0, 1)
"""The only part of a split that is stored as one file."""


class TaskLayout(NamedTuple):
    """Everything that all files of a task have in common.

    Args:
        columns: the per-row members other than the images, in order.
        category_names: the names that `labels` refers to.
    """

    columns: tuple[Column, ...]
    category_names: list[str]


@dataclass(frozen=True, slots=True)
class Output:
    """One file to write.

    Args:
        name: file name without suffix, ``train_detector``.
        image_size: height, width of its images.
        columns: its other per-row members, in order.
        encoding: how its images are stored.
    """

    name: str
    image_size: tuple[int, int]
    columns: tuple[Column, ...]
    encoding: Encoding = RAW

    @property
    def images(self) -> ImageMember:
        """The member with its images."""
        return ImageMember.of(self.image_size, self.encoding)


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file to write: the rows of one task in one split.

    Args:
        output: its name, image size and columns.
        task: makes its rows.
        split: name of the split.
        images: int64 (M,), positions in the table, ascending.
        recipe: hash of options and annotations.
        metadata: the part of the file's metadata that does not depend on images.
    """

    output: Output
    task: Task
    split: str
    images: NDArray[np.int64]
    recipe: str
    metadata: Mapping[str, Any]

    @property
    def name(self) -> str:
        """File name without suffix."""
        return self.output.name

    def fingerprint(self, input_crc32: NDArray[np.uint32]) -> str:
        """Hash of the recipe and of the content of the file's images.

        Args:
            input_crc32: uint32 (N,), of each image of the table; 0 for one that cannot be read.
        """
        content = np.ascontiguousarray(input_crc32[self.images], dtype="<u4")
        return _hash(self.recipe.encode(), content)


def plan_files(
    table: AnnotationTable,
    splits: NDArray[np.int8],
    tasks: Sequence[Task],
    options: Mapping[str, Any],
    rejections: Sequence[Rejection] = (),
) -> list[PlannedFile]:
    """Plans the files of the given tasks: train and val always, test if the data has one.

    Args:
        table: the annotations, in the order in which rows are to be stored.
        splits: int8 (N,), positions in `SPLITS`.
        tasks: each must find images in the table.
        options: everything else that decides the output, as plain JSON values.
        rejections: annotations left out. The train files list them, so they depend on them.
    """
    # Sorted, because the order in which sources are read must not change the recipe.
    rejected = sorted(rejection.identity for rejection in rejections)
    files = []
    for task in tasks:
        wanted = task.images(table)
        layout = layout_of(task, table)
        for position, split in enumerate(SPLITS):
            images = np.flatnonzero(wanted & (splits == position))
            if len(images) or split != "test":  # loaders expect train and val, even if empty
                listed = rejected if split == "train" else []
                files.append(_plan_file(table, images, layout, task, split, options, listed))
    return files


def plan_shard(
    table: AnnotationTable,
    shard: Shard,
    split: str,
    layouts: Mapping[Task, TaskLayout],
    options: Mapping[str, Any],
    rejections: Sequence[Rejection] = (),
) -> list[PlannedFile]:
    """Plans the files of one shard: one for each task, which may be empty.

    Args:
        table: the annotations of the shard's images, in the order in which rows are to be stored.
        shard: number of the part of the split, and of all parts.
        split: name of the split.
        layouts: for each task, its `layout_of` all annotations.
        options: as for `plan_files`.
        rejections: annotations left out, if this shard lists them.
    """
    rejected = sorted(rejection.identity for rejection in rejections)
    files = []
    for task, layout in layouts.items():
        images = np.flatnonzero(task.images(table))
        files.append(_plan_file(table, images, layout, task, split, options, rejected, shard))
    return files


def layout_of(task: Task, table: AnnotationTable) -> TaskLayout:
    """The columns and categories of all files of a task, which depend on all annotations."""
    columns = (*task.columns(table), *task.image_columns, *common_columns(table))
    return TaskLayout(columns, task.category_names(table))


def _plan_file(
    table: AnnotationTable,
    images: NDArray[np.int64],
    layout: TaskLayout,
    task: Task,
    split: str,
    options: Mapping[str, Any],
    rejected: Sequence[tuple[str, str, str]],
    shard: Shard = ONE_FILE,
) -> PlannedFile:
    metadata: dict[str, Any] = {
        "format_version": RAW_VERSION,
        "task": task.name,
        "split": split,
        "image_size": list(task.image_size),
        "category_names": layout.category_names,
        "keypoint_names": task.keypoint_names(table),
        "shard": list(shard),
        "options": {**options, "crop_margin": task.crop_margin},
    }
    # Files of pixels do not mention their encoding, so that their recipe is that of older programs.
    if not task.encoding.is_raw:
        metadata["format_version"] = FORMAT_VERSION
        metadata["encoding"] = task.encoding.metadata
        metadata["options"]["store"] = task.encoding.store
    # PIXELS_VERSION: a new version of this package that renders differently makes new files.
    description = [metadata, PIXELS_VERSION, layout.columns, rejected]
    recipe = _hash(msgspec.json.encode(description, order="sorted"), *_arrays(table.take(images)))
    output = Output(f"{split}_{task.name}", task.image_size, layout.columns, task.encoding)
    return PlannedFile(output, task, split, images, recipe, metadata)


def key_of_plan(files: Sequence[PlannedFile]) -> str:
    """A hash of the recipes of all files: all tasks decide how finely an image is decoded."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(file.recipe.encode())
    return digest.hexdigest()


def combined_fingerprint(fingerprints: Sequence[str]) -> str:
    """The fingerprint of a set: a hash of those of its shards, in order."""
    return _hash("\n".join(fingerprints).encode())


NOT_STORED: Final = {
    "splits",
    "set_ids",
    "instance_set_ids",
    "annotation_files",
    "entries",
    "found_by_name",
}
"""Columns that the recipe leaves out. The official splits only decide which images are in the file,
and the recipe covers the columns of exactly these images. The others say where annotations come
from, not what is stored."""


def _arrays(table: AnnotationTable) -> list[NDArray[Any]]:
    """The contents of all columns that decide the stored rows, as plain arrays."""
    arrays: list[NDArray[Any]] = []
    for name in (*IMAGE_COLUMNS, "offsets", *INSTANCE_COLUMNS):
        column = getattr(table, name)
        if name in NOT_STORED:
            continue
        if isinstance(column, RaggedArray):
            arrays += [column.offsets, column.values]
        elif isinstance(column.dtype, np.dtypes.StringDType):
            # The memory of a StringDType array holds pointers, which differ from run to run.
            text = "\0".join(column.tolist()).encode(errors="surrogateescape")
            arrays.append(np.frombuffer(text, dtype=np.uint8))
        else:
            arrays.append(column)
    return arrays


def _hash(text: bytes, *arrays: NDArray[Any]) -> str:
    digest = hashlib.blake2b(text, digest_size=16)
    for array in arrays:
        digest.update(len(array).to_bytes(8, "little"))  # keeps [1], [2, 3] apart from [1, 2], [3]
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()
