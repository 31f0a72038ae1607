"""CachedRows: the rows of a file or set; the most recently used ones are kept in memory."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.core.merging import merge_rows
from processing.datasets.layout import CacheInfo
from processing.datasets.sample_dataset import Rows
from processing.npz.contents import Contents
from processing.npz.set_contents import SetContents


class CachedRows:
    """Gathers rows of a file, through a cache for each of images and annotations.

    They have one each, because a loader gathers the annotations of several batches together. Safe
    from several threads.

    Args:
        contents: the file or set.
        size: number of rows to keep; 0 for none.
        verify: whether to compare images with the checksums of their rows.
    """

    def __init__(self, contents: Contents | SetContents, size: int, *, verify: bool) -> None:
        self._contents, self._size, self._verify = contents, size, verify

        # The cached functions do not hold `self`: with a reference cycle, the file would stay
        # mapped until the next garbage collection.
        @functools.lru_cache(maxsize=size)
        def read_image(index: int) -> NDArray[Any]:
            images = np.empty((1, *contents.image_shape), contents.image_dtype)
            contents.gather_images(np.array([index]), images, verify=verify)
            return images

        @functools.lru_cache(maxsize=size)
        def read_annotations(index: int) -> Rows:
            return contents.gather_annotations(np.array([index]))

        self._image, self._annotations = read_image, read_annotations

    def gather_images(self, indices: NDArray[np.intp], images_out: NDArray[Any]) -> None:
        """Copies images; see `Contents.gather_images`."""
        if self._size == 0:
            self._contents.gather_images(indices, images_out, verify=self._verify)
            return
        for position, index in enumerate(indices.tolist()):
            images_out[position] = self._image(index)

    def gather_annotations(self, indices: NDArray[np.intp]) -> Rows:
        """Copies annotations and paths; see `Contents.gather_annotations`."""
        if self._size == 0 or len(indices) == 0:
            return self._contents.gather_annotations(indices)
        rows = map(self._annotations, indices.tolist())
        return merge_rows([(np.array([position]), row) for position, row in enumerate(rows)])

    def info(self) -> CacheInfo:
        """Returns hits, misses, and the largest and current size of the cache of images."""
        hits, misses, _, currsize = self._image.cache_info()
        return CacheInfo(hits, misses, self._size, currsize)

    def clear(self) -> None:
        """Empties both caches and resets their counters."""
        self._image.cache_clear()
        self._annotations.cache_clear()
