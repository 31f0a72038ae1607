"""Repeat factors: how much more often images of rare categories are read.

The formula is that of A. Gupta, P. Dollar and R. Girshick, "LVIS: A Dataset for Large Vocabulary
Instance Segmentation" (2019), appendix B.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import RaggedArray
from processing.datasets.sample_dataset import SampleDataset

BALANCE: Final = "balance"
REPEAT_THRESHOLD: Final = 0.001
"""That of the paper."""


def repeat_factors(dataset: SampleDataset[Any], threshold: float) -> NDArray[np.float64]:
    """Returns the repeat factor of each image, float64 (N,), at least 1.

    A category c in the share f(c) of the images has the factor ``max(1, sqrt(t / f(c)))``, where t
    is the threshold. An image has the largest factor of its categories, and 1 without an object.

    Args:
        dataset: its labels are all read.
        threshold: share of images below which a category is repeated, above 0.

    Raises:
        ValueError: the dataset has no labels, because it has one category.
    """
    images_with = np.zeros(len(dataset.layout.category_names), np.int64)
    for _, labels in _categories_of_images(dataset):
        images_with += np.bincount(labels, minlength=len(images_with))
    share = images_with / max(1, len(dataset))
    of_category = np.ones(len(share))
    found = share > 0
    of_category[found] = np.maximum(1, np.sqrt(threshold / share[found]))
    factors = np.ones(len(dataset))
    for images, labels in _categories_of_images(dataset):
        np.maximum.at(factors, images, of_category[labels])
    return factors


def _categories_of_images(
    dataset: SampleDataset[Any],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yields pairs of arrays: images, and a category of each; every pair once."""
    begin = 0
    for rows in dataset.annotation_parts():
        labels = rows.get("labels")
        if labels is None:
            raise ValueError(
                f"{dataset._file}: weights='balance' needs labels of several categories, and this "
                "dataset has one category: leave out weights"
            )
        if isinstance(labels, RaggedArray):
            images, values = np.repeat(np.arange(len(labels)), labels.lengths), labels.values
        else:
            images, values = np.arange(len(labels)), labels
        pairs = np.unique(np.stack([images, values.astype(np.int64)]), axis=1)
        yield pairs[0] + begin, pairs[1]
        begin += len(labels)
