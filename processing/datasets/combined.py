"""CombinedLazyDataset: several datasets of one kind, read as one.

It opens no files itself, and is as safe from several threads and processes as its parts are.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.core.arguments import check_number, repeated_path
from processing.core.columns import offsets_of
from processing.core.merging import merge_rows
from processing.core.parts import parts_of
from processing.datasets.balance import BALANCE, REPEAT_THRESHOLD
from processing.datasets.layout import CacheInfo, Layout
from processing.datasets.names import check_same_names
from processing.datasets.sample_dataset import Rows, SampleDataset, T_co, Transform, check_dataset
from processing.datasets.selected import SelectableDataset
from processing.npz.summary import Summary, add_summaries

if TYPE_CHECKING:
    from processing.npz.contents import Contents

_LOG = logging.getLogger(__name__)
_SHOWN: Final = 3  # files in a `repr`


class _Part(NamedTuple, Generic[T_co]):
    """Samples of a batch that lie in one part.

    Args:
        dataset: the part.
        positions: intp (P,), their positions in the batch.
        rows: intp (P,), their indices in the part.
    """

    dataset: SampleDataset[T_co]
    positions: NDArray[np.intp]
    rows: NDArray[np.intp]


def checked_weights(weights: Sequence[float], sizes: Sequence[int]) -> tuple[float, ...]:
    """Checks the weights of datasets.

    Args:
        weights: one for each dataset.
        sizes: samples of each dataset.

    Raises:
        TypeError: a weight is no number.
        ValueError: there are too many or too few, all are 0, or an empty dataset has one above 0.
    """
    if len(weights) != len(sizes):
        raise ValueError(f"weights: expected {len(sizes)}, one for each dataset, got {weights!r}")
    checked = tuple(
        check_number(f"weights[{i}]", weight, least=0, most=2**31)
        for i, weight in enumerate(weights)
    )
    if not any(checked):
        raise ValueError(f"weights: at least one must be above 0, got {list(weights)}")
    for i, (weight, size) in enumerate(zip(checked, sizes, strict=True)):
        if weight and not size:
            raise ValueError(f"weights[{i}] is {weight}, but dataset {i} has no sample")
    return checked


class CombinedLazyDataset(SelectableDataset[T_co]):
    """The samples of several datasets, one dataset after the other.

    Each part keeps its own cache and transform; ``index`` counts through all parts.

    Args:
        datasets: at least one. All must have the same task, image size, categories, names of
            keypoints and annotations. `close` closes them.

        weights: share of each dataset in a random order, in any unit; see `BatchLoader`. An epoch
            has as many samples as all datasets have together: those of a dataset with a large
            weight come several times, and not all of the others. ``"balance"``: images of rare
            categories come more often, by the repeat factors of LVIS (`balance.repeat_factors`).
            None: each sample comes once.
        repeat_threshold: for ``"balance"``: share of images, in (0, 1], below which a category is
            repeated.

    Attributes:
        datasets: the parts.
        weights: the same.
        repeat_threshold: the same.
        offsets: int64 (D + 1,): part d holds samples ``offsets[d]:offsets[d + 1]``.

    Raises:
        ValueError: there is no dataset, two of them differ, or the weights do not fit.
        TypeError: a weight is no number.

    Example:
        >>> combined = CombinedLazyDataset([train, val])  # doctest: +SKIP
        >>> combined[len(train)]["image_path"] == val[0]["image_path"]  # doctest: +SKIP
        True
    """

    def __init__(
        self,
        datasets: Iterable[SampleDataset[T_co]],
        weights: Sequence[float] | Literal["balance"] | None = None,
        repeat_threshold: float = REPEAT_THRESHOLD,
    ) -> None:
        super().__init__()
        self.datasets = tuple(datasets)
        if not self.datasets:
            raise ValueError("at least one dataset is needed to combine")
        for dataset in self.datasets:
            check_dataset(dataset)
        # A dataset that is given twice is wanted twice; a file opened twice may be a mistake.
        distinct = {id(dataset): dataset for dataset in self.datasets}
        repeated = repeated_path(file for one in distinct.values() for file in one._files)
        if repeated is not None:
            _LOG.warning("combined datasets name %s: each of its samples counts twice", repeated)
        self.offsets = offsets_of([len(dataset) for dataset in self.datasets])
        self._layout = self._common_layout()
        self.repeat_threshold = check_number(
            "repeat_threshold", repeat_threshold, least=1e-9, most=1
        )
        if isinstance(weights, str):
            if weights != BALANCE:
                raise ValueError(f"weights must be numbers or 'balance', got {weights!r}")
            self.weights = BALANCE
        elif weights is not None:
            self.weights = checked_weights(weights, [len(dataset) for dataset in self.datasets])

    def _common_layout(self) -> Layout:
        """Returns the layout of all parts; its names of keypoints are those of any part."""
        check_same_names([(dataset._file, dataset.layout) for dataset in self.datasets])
        first, *others = self.datasets
        common = first.layout
        for position, dataset in enumerate(others, start=1):
            found = dataset.layout
            if common.keypoint_names is None:  # a file of another writer, which fits any names
                common = common._replace(keypoint_names=found.keypoint_names)
            found = found._replace(keypoint_names=common.keypoint_names)
            for field, value, expected in zip(Layout._fields, found, common, strict=True):
                if value != expected:
                    raise ValueError(
                        f"dataset {position} cannot be combined with dataset 0: its {field} is "
                        f"{value!r}, that of dataset 0 is {expected!r}"
                    )
        return common

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def file_offsets(self) -> NDArray[np.int64]:
        """int64 (F + 1,): file f holds samples ``offsets[f]:offsets[f + 1]``."""
        ends = [
            begin + dataset.file_offsets[1:]
            for begin, dataset in zip(self.offsets[:-1], self.datasets, strict=True)
        ]
        return np.concatenate([[0], *ends])

    @property
    def stored_image_bytes(self) -> int:
        """Mean bytes of an image in the files; at least 1."""
        total = sum(len(dataset) * dataset.stored_image_bytes for dataset in self.datasets)
        return max(1, total // max(1, len(self)))

    def __repr__(self) -> str:
        files = self._files
        shown = ", ".join(map(repr, files[:_SHOWN])) + (", …" if len(files) > _SHOWN else "")
        return self._described(None, f"{len(self.datasets)} parts: {shown}")

    def close(self) -> None:
        """Closes all parts."""
        super().close()
        for dataset in self.datasets:
            dataset.close()

    def cache_info(self) -> CacheInfo:
        """Returns the sums over the caches of all parts."""
        infos = [dataset.cache_info() for dataset in self.datasets]
        return CacheInfo(*map(sum, zip(*infos, strict=True)))

    def cache_clear(self) -> None:
        """Empties the caches of all parts and resets their counters."""
        for dataset in self.datasets:
            dataset.cache_clear()

    @property
    def _files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(file for dataset in self.datasets for file in dataset._files))

    def annotation_parts(self) -> Iterator[Rows]:
        """Yields the annotations of all parts; see `SampleDataset.annotation_parts`."""
        return itertools.chain.from_iterable(one.annotation_parts() for one in self.datasets)

    def _locate(self, index: int) -> tuple[Contents, int]:
        ((dataset, _, rows),) = self._parts_of(np.array([index]))
        return dataset._locate(int(rows[0]))

    def info(self) -> Summary:
        """Returns a summary of all parts together; see `Viewable.info`."""
        return functools.reduce(add_summaries, (dataset.info() for dataset in self.datasets))

    def advise(self, indices: NDArray[np.intp]) -> None:
        """Announces the samples that will be fetched soon; see `SampleDataset.advise`."""
        for dataset, _, rows in self._parts_of(indices):
            dataset.advise(rows)

    def _transforms_of(self, indices: NDArray[np.intp]) -> Sequence[Transform | None] | None:
        transforms: list[Transform | None] = [None] * len(indices)
        for dataset, positions, rows in self._parts_of(indices):
            found = dataset._transforms_of(rows) or []
            for position, transform in zip(positions.tolist(), found, strict=False):
                transforms[position] = transform
        return transforms if any(transforms) else None

    def _parts_of(self, indices: NDArray[np.intp]) -> list[_Part[T_co]]:
        """Returns the parts that samples lie in, each once; at least one."""
        return [
            _Part(self.datasets[part.number], part.positions, part.rows)
            for part in parts_of(self.offsets, indices)
        ]

    def gather_images(self, indices: NDArray[np.intp], images_out: NDArray[Any]) -> None:
        """Copies the images of samples; see `SampleDataset.gather_images`."""
        parts = self._parts_of(indices)
        if len(parts) == 1:  # gather straight into the batch's memory
            parts[0].dataset.gather_images(parts[0].rows, images_out)
            return
        for dataset, positions, rows in parts:
            # The memory of a whole batch, which every part of every batch fits into.
            buffer = self._buffers.empty(images_out.shape, images_out.dtype)[: len(rows)]
            dataset.gather_images(rows, buffer)
            images_out[positions] = buffer
            del buffer  # the next part uses the same memory

    def _gather_annotations(self, indices: NDArray[np.intp]) -> Rows:
        parts = self._parts_of(indices)
        if len(parts) == 1:
            return parts[0].dataset._gather_annotations(parts[0].rows)
        return merge_rows(
            [(positions, dataset._gather_annotations(rows)) for dataset, positions, rows in parts]
        )
