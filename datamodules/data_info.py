"""DescribedData: the categories and keypoints of the data, as a model needs them to be built."""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.keypoint_names import AnyDataset, files_of
from datamodules.notebook import datamodule_html
from datamodules.settings import Split
from datamodules.split_files import is_there
from datamodules.transforms import Augmentation, mirrored_order
from processing.core.columns import RaggedArray
from processing.core.urls import Location
from processing.lazy_dataset import LazyNPZDataset

_ONLY_CATEGORY = "object"  # its name in a file that names no category


@dataclass(frozen=True)
class DataInfo:
    """The names and numbers that all splits of a data set have in common.

    Args:
        category_names: at least one name; a label is a position in this tuple.
        keypoint_names: empty if the keypoints have no names.
        keypoint_counts: the numbers of keypoints that samples have, each once; empty if the data
            has no keypoints.
    """

    category_names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    keypoint_counts: tuple[int, ...]


class NoDataError(AttributeError, RuntimeError):
    """A fact about the data was asked for before there were files to read it from.

    An `AttributeError` too, so that `hasattr` and inspecting tools work on a new datamodule.
    """


class DescribedData(ABC):
    """Attributes of a datamodule that describe its data.

    They are known after `setup`. Before it, the headers of the files are read, if there are any.
    """

    task: str
    augment: Any
    data_dirs: list[Location]
    datasets: dict[Split, AnyDataset]
    _info: DataInfo | None = None

    def __repr__(self) -> str:
        """Returns task, directories, and a line for each open split."""
        directories = ", ".join(map(str, self.data_dirs))
        head = f"{type(self).__name__}(task={self.task!r}, data_dir={directories!r}"
        if not self.datasets:
            return f"{head}, no split is open: setup() opens them)"
        lines = [f"  {split}: {dataset!r}," for split, dataset in self.datasets.items()]
        return "\n".join([f"{head},", *lines, ")"])

    __str__ = __repr__  # Lightning's own would make all loaders to count their samples

    def _repr_html_(self) -> str:
        """Returns a table of the splits for a notebook; reads headers of splits that are closed."""
        directories = ", ".join(map(str, self.data_dirs))
        title = f"{type(self).__name__}: {self.task}, {directories}"
        return datamodule_html(title, self.datasets, self._paths)

    @abstractmethod
    def _paths(self, split: Split) -> list[Location]:
        """Returns the files of a split."""

    @abstractmethod
    def _describe(self) -> DataInfo:
        """Returns the facts about the data, from its files."""

    def _known_info(self) -> DataInfo:
        if self._info is None:
            self._info = self._describe()
        return self._info

    @property
    def num_classes(self) -> int:
        """Number of categories, at least 1."""
        return len(self._known_info().category_names)

    @property
    def category_names(self) -> list[str]:
        """Names of the categories; numbers, or "object", where the files have no names."""
        return list(self._known_info().category_names)

    @property
    def num_keypoints(self) -> int:
        """Number of keypoints of every sample; 0 if the data has none.

        Raises:
            ValueError: samples have different numbers of keypoints.
        """
        counts = self._known_info().keypoint_counts
        if len(counts) > 1:
            raise ValueError(
                f"num_keypoints: samples have {', '.join(map(str, counts))} keypoints, so there is "
                "no single number: process sources with equal numbers, or take each sample's "
                "number from its batch"
            )
        return counts[0] if counts else 0

    @property
    def keypoint_names(self) -> list[str]:
        """Names of the keypoints: those of the files, or else those given to `augment`."""
        names: Sequence[str] = self._known_info().keypoint_names
        if not names and isinstance(self.augment, Augmentation):
            names = self.augment.keypoint_names or ()
        return list(names)

    @property
    def flip_indices(self) -> list[int]:
        """For each keypoint, the position of the one that takes its place in a mirrored image.

        Raises:
            ValueError: the names do not tell left from right, or there are no names.
        """
        names = self.keypoint_names
        if names:
            return mirrored_order(names)
        if self.num_keypoints <= 1:  # a single point is its own mirror image
            return list(range(self.num_keypoints))
        return mirrored_order(())  # raises, and says what to do


def describe(
    opened: Mapping[Split, AnyDataset], paths: Mapping[Split, Sequence[Location]], task: str
) -> DataInfo:
    """Describes the data; files of splits that are not open are read if the others have no names.

    Args:
        opened: the open datasets by split; their names agree.
        paths: the files of all splits, as far as they exist.
        task: for the error's message.

    Raises:
        AttributeError: no dataset is open, and no file exists.
    """
    datasets = list(opened.values())
    if any(dataset.category_names for dataset in datasets):
        return _describe_open(datasets)
    with contextlib.ExitStack() as closing:
        closed = [file for split in paths if split not in opened for file in paths[split]]
        files = [file for file in dict.fromkeys(closed) if is_there(file)]  # val stands in for test
        datasets += [closing.enter_context(LazyNPZDataset[Any](file)) for file in files]
        if not datasets:
            folders = dict.fromkeys(str(file.parent) for files in paths.values() for file in files)
            raise NoDataError(
                f"the categories and keypoints are not known yet: there is no {task} file in "
                f"{', '.join(folders)}. Call prepare_data() and setup() first, as a Trainer does. "
                "For a link of LightningCLI, process the data before the program starts"
            )
        return _describe_open(datasets)


def _describe_open(datasets: Sequence[AnyDataset]) -> DataInfo:
    """Describes open datasets.

    Reads headers. Files of other writers have no names: their labels are read too, and the names
    are then the numbers from 0 to the largest label.
    """
    files = [file for dataset in datasets for file in files_of(dataset)]
    categories = next((file.category_names for file in files if file.category_names), None)
    points = next((names for file in files if (names := file.layout.keypoint_names)), ())
    counts = sorted({count for file in files for count in _keypoint_counts(file)})
    return DataInfo(categories or _numbered_categories(files), points, tuple(counts))


def _numbered_categories(files: Sequence[LazyNPZDataset]) -> tuple[str, ...]:
    """Returns a name for each label in files that name no category."""
    largest = 0
    has_labels = False
    for part in itertools.chain.from_iterable(file.columns.parts() for file in files):
        if (labels := part.annotations.get("labels")) is not None:
            has_labels = True
            values = labels.values if isinstance(labels, RaggedArray) else labels
            largest = max(largest, int(values.max(initial=0)))
    return tuple(map(str, range(largest + 1))) if has_labels else (_ONLY_CATEGORY,)


def _keypoint_counts(file: LazyNPZDataset) -> set[int]:
    row_shape = dict(file.layout.row_shapes).get("keypoints")
    if row_shape is None:
        return set()
    if not isinstance(row_shape, str):
        return {row_shape[0]}
    counts: set[int] = set()
    for part in file.columns.parts():
        points = part.annotations["keypoints"]
        assert isinstance(points, RaggedArray)  # says the shape of its rows
        counts.update(np.unique(points.lengths).tolist())
    return counts
