"""SelectedDataset: some samples of a dataset, with some of their objects.

A view: it holds a row number for each sample and a new label for each category. Nothing is copied
until a sample is read. As safe from several threads and processes as the dataset below.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.core.arguments import check_flag, check_integer, check_number
from processing.core.columns import ColumnArray, RaggedArray, offsets_of
from processing.datasets.layout import CacheInfo
from processing.datasets.orders import Shuffled
from processing.datasets.sample_dataset import Rows, SampleDataset, T_co, Transform
from processing.npz.object_counts import count_objects
from processing.npz.summary import Summary

if TYPE_CHECKING:
    from processing.npz.contents import Contents

_LOG = logging.getLogger(__name__)
_ROWS_AT_ONCE: Final = 1 << 18
"""Rows that are looked at together, so that memory does not grow with the dataset."""


class Counts(NamedTuple):
    """Samples or objects that a selection keeps, and of how many."""

    kept: int
    total: int


class SelectableDataset(SampleDataset[T_co]):
    """A dataset with the method `select`."""

    def select(
        self,
        *,
        classes: Sequence[str | int] | None = None,
        min_box: float = 0.0,
        limit: int | None = None,
        background: bool = False,
        seed: int = 0,
    ) -> SelectedDataset[T_co]:
        """Returns a view of some samples, with some of their objects.

        Args:
            classes: names of the categories to keep, or their numbers. Their order gives the new
                labels. None: all.
            min_box: least length of a box's shorter side, in pixels of the stored image.
            limit: most samples to keep; they are chosen at random.
            background: whether to keep samples without a selected object. Objects that are not
                selected are still to be seen in them.
            seed: chooses the samples that `limit` keeps.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: a category does not exist, a number is out of range, or there are no boxes.

        Example:
            >>> cats = dataset.select(classes=["cat"], min_box=8)  # doctest: +SKIP
            >>> cats.samples, cats.objects  # doctest: +SKIP
            (Counts(kept=210, total=900), Counts(kept=256, total=4100))
        """
        return SelectedDataset(
            self,
            classes=classes,
            min_box=min_box,
            limit=limit,
            background=background,
            seed=seed,
        )


class SelectedDataset(SelectableDataset[T_co]):
    """The result of `SelectableDataset.select`, whose arguments it has.

    Args:
        dataset: the dataset to select from; `close` closes it.
        classes: see `select`; so are the others.
        min_box: see `select`.
        limit: see `select`.
        background: see `select`.
        seed: see `select`.

    Attributes:
        dataset: the same.
        rows: int64 (M,): the sample of `dataset` at each index, ascending.
        samples: how many samples are kept.
        objects: how many objects they have, of those of all samples.
    """

    def __init__(
        self,
        dataset: SampleDataset[T_co],
        *,
        classes: Sequence[str | int] | None,
        min_box: float,
        limit: int | None,
        background: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self._min_box = check_number("min_box", min_box, least=0, most=2**31)
        self._background = check_flag("background", background)
        most = None if limit is None else check_integer("limit", limit, least=1)
        layout = dataset.layout
        shapes = dict(layout.row_shapes)
        if self._min_box and "bboxes" not in shapes:
            raise ValueError(f"{dataset._file}: min_box needs boxes, and there are none")
        self._new_labels = self._label_map(classes)
        names = layout.category_names
        if classes is not None and names:
            names = tuple(names[old] for old in self._chosen(classes))
        self._layout = layout._replace(category_names=names)
        counts = self._count_objects()
        kept = np.ones(len(counts), bool) if self._background else counts > 0
        rows = np.flatnonzero(kept)
        if most is not None and len(rows) > most:
            chosen = Shuffled(len(rows), seed=check_integer("seed", seed, least=0), epoch=0)
            rows = np.sort(rows[chosen.at(np.arange(most))])
        self.rows = rows
        self.samples = Counts(len(rows), len(counts))
        self.objects = Counts(int(counts[rows].sum(dtype=np.int64)), self._all_objects)
        _LOG.info("selected %d of %d samples, with %d of %d objects", *self.samples, *self.objects)

    def _chosen(self, classes: Sequence[str | int]) -> list[int]:
        """Returns the old label of each chosen category.

        Raises:
            ValueError: a category does not exist, or is named twice.
            TypeError: `classes` is a single text.
        """
        names = self.dataset.category_names
        if isinstance(classes, str) or not len(classes):
            raise TypeError(f"classes must be a list of categories, got {classes!r}")
        chosen = []
        for one in classes:
            if isinstance(one, str):
                if one not in names:
                    raise ValueError(f"classes: no category {one!r}; there are {', '.join(names)}")
                chosen.append(names.index(one))
            else:
                most = len(names) - 1 if names else 2**31
                number = check_integer("classes", one, least=0)
                if number > most:
                    raise ValueError(f"classes: no category {number}; the last one is {most}")
                chosen.append(number)
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"classes: names a category twice: {list(classes)}")
        return chosen

    def _label_map(self, classes: Sequence[str | int] | None) -> NDArray[np.int64] | None:
        """Returns the new label of each old one, int64; -1 for those that are left out."""
        if classes is None:
            return None
        chosen = self._chosen(classes)
        new = np.full(max(len(self.dataset.category_names), max(chosen) + 1), -1, np.int64)
        new[chosen] = np.arange(len(chosen))
        return new

    def _count_objects(self) -> NDArray[np.int32]:
        """Returns the number of selected objects of each sample, int32 (N,)."""
        counts = np.zeros(len(self.dataset), np.int32)
        self._all_objects = 0
        begin = 0
        for rows in self.dataset.annotation_parts():
            first = next(iter(rows.values()))
            for start in range(0, len(first), _ROWS_AT_ONCE):
                part = {
                    name: column[start : start + _ROWS_AT_ONCE] for name, column in rows.items()
                }
                found, total = self._count(part)
                counts[begin : begin + len(found)] = found
                self._all_objects += total
                begin += len(found)
        return counts

    def _count(self, rows: Rows) -> tuple[NDArray[np.int64], int]:
        """Returns the number of selected objects of each row, and of all objects."""
        boxes = rows.get("bboxes")
        if not isinstance(boxes, RaggedArray):  # one object in each row
            selected = self._selected(rows)
            return selected.astype(np.int64), len(selected)
        lengths = boxes.lengths
        if self._new_labels is None and not self._min_box:
            return lengths, int(lengths.sum())
        # How many selected objects there are before each object.
        selected = self._selected(rows)
        before = np.zeros(len(selected) + 1, np.int32)
        selected.cumsum(dtype=np.int32, out=before[1:])
        offsets = boxes.offsets - boxes.offsets[0]
        return before[offsets[1:]] - before[offsets[:-1]], int(lengths.sum())

    def _selected(self, rows: Rows) -> NDArray[np.bool_]:
        """Returns, for each object of some rows, whether it is selected."""
        objects = {name: _values(rows[name]) for name in ("bboxes", "labels") if name in rows}
        number = len(next(iter(objects.values()))) if objects else len(next(iter(rows.values())))
        selected = np.ones(number, bool)
        if self._new_labels is not None:
            labels = objects.get("labels", np.zeros(number, np.int64))  # one category has no labels
            # Labels that are too large meet the last entry.
            selected = np.append(self._new_labels >= 0, False).take(labels, mode="clip")
            if number and labels.min() < 0:
                selected &= labels >= 0
        if self._min_box:
            boxes = objects["bboxes"]
            sides = boxes[:, 2:] - boxes[:, :2]
            selected &= np.minimum(sides[:, 0], sides[:, 1]) >= self._min_box
        return selected

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def file_offsets(self) -> NDArray[np.int64]:
        """int64 (F + 1,): the selected samples of each file."""
        return np.searchsorted(self.rows, self.dataset.file_offsets)

    @property
    def stored_image_bytes(self) -> int:
        """Mean bytes of an image in the files; at least 1."""
        return self.dataset.stored_image_bytes

    def __repr__(self) -> str:
        return self._described(None, f"selected from {self.dataset!r}")

    def close(self) -> None:
        """Closes the dataset below."""
        super().close()
        self.dataset.close()

    def cache_info(self) -> CacheInfo:
        """Returns the state of the cache of the dataset below."""
        return self.dataset.cache_info()

    def cache_clear(self) -> None:
        """Empties the cache of the dataset below."""
        self.dataset.cache_clear()

    @property
    def _files(self) -> tuple[str, ...]:
        return self.dataset._files

    def _locate(self, index: int) -> tuple[Contents, int]:
        return self.dataset._locate(int(self.rows[index]))

    def info(self) -> Summary:
        """Returns the summary of the files, with the rows and objects that are selected."""
        names = self.category_names
        paths = [""]
        if len(self):
            ends = self._gather_annotations(np.array([0, len(self) - 1]))
            paths = [str(path) for path in ends["image_paths"]]
        whole = self.dataset.info()
        return replace(
            whole,
            rows=len(self),
            photographs=None,
            objects=count_objects(self.annotation_parts(), names, len(self), where=self._file),
            category_names=names,
            first_path=paths[0],
            last_path=paths[-1],
            selected_from=whole.rows if whole.selected_from is None else whole.selected_from,
        )

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Announces the samples that will be fetched soon; see `SampleDataset.advise`."""
        self.dataset.advise(self.rows[indices])

    def _transforms_of(self, indices: NDArray[np.intp]) -> Sequence[Transform | None] | None:
        return self.dataset._transforms_of(self.rows[indices])

    def gather_images(self, indices: NDArray[np.intp], images_out: NDArray[Any]) -> None:
        """Copies the images of samples; see `SampleDataset.gather_images`."""
        self.dataset.gather_images(self.rows[indices], images_out)

    def _gather_annotations(self, indices: NDArray[np.intp]) -> Rows:
        rows = self.dataset._gather_annotations(self.rows[indices])
        return self._filtered(rows)

    def annotation_parts(self) -> Iterator[Rows]:
        """Yields the annotations of the selected samples, in parts; see `SampleDataset`."""
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield self._gather_annotations(np.arange(start, min(start + _ROWS_AT_ONCE, len(self))))

    def _filtered(self, rows: Rows) -> Rows:
        """Returns rows without the objects that are not selected, and with new labels."""
        if self._new_labels is None and not self._min_box:
            return rows
        selected = self._selected(rows)
        result: dict[str, ColumnArray] = {}
        for name, column in rows.items():
            if name in ("bboxes", "labels") and isinstance(column, RaggedArray):
                offsets = offsets_of(selected.view(np.int8))[column.offsets - column.offsets[0]]
                column = RaggedArray(_values(column)[selected], offsets, check=False)
            if name == "labels" and self._new_labels is not None:
                column = _relabelled(column, self._new_labels)
            result[name] = column
        return result


def _values(column: ColumnArray) -> NDArray[Any]:
    """Returns the values of all rows of a column, one after the other."""
    if not isinstance(column, RaggedArray):
        return column
    return column.values[column.offsets[0] : column.offsets[-1]]


def _relabelled(column: ColumnArray, new_labels: NDArray[np.int64]) -> ColumnArray:
    if isinstance(column, RaggedArray):
        return RaggedArray(new_labels[column.values], column.offsets, check=False)
    return new_labels[column]
