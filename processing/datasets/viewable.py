"""Viewable: a dataset as people look at it: a summary, a row as a picture, and in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from processing.npz.contents import Contents
    from processing.npz.shown_rows import ShownRow
    from processing.npz.summary import Summary

_MOST_ROWS: Final = 1 << 20
_MOST_FILES: Final = 64


class Viewable(ABC):
    """Methods to look at a dataset. All show rows as they are stored, before any transform."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def file_offsets(self) -> NDArray[Any]:
        """int64 (F + 1,): file f holds samples ``offsets[f]:offsets[f + 1]``."""

    @property
    @abstractmethod
    def is_remote(self) -> bool:
        """Whether samples are read from URLs."""

    @abstractmethod
    def _locate(self, index: int) -> tuple[Contents, int]:
        """Returns the file of a sample in ``[0, len)``, and its row there."""

    def _place(self, index: int) -> str:
        """Returns file and row of a sample, for error messages."""
        file, row = self._locate(index)
        return f"{file.path}, row {row}"

    @abstractmethod
    def info(self) -> Summary:
        """Returns a summary: rows, images, objects by category, members, options, lists.

        Counts labels and offsets of all rows, but reads no image. It prints nicely, and
        `Summary.as_dict` has all facts for programs.

        Raises:
            DatasetClosedError: the dataset was closed.
            NPZFormatError: a file is damaged.
        """

    @abstractmethod
    def shown_rows(self, indices: Iterable[SupportsIndex]) -> list[ShownRow]:
        """Returns samples with boxes and points in pixels of the stored image.

        Args:
            indices: B indices in ``[-len, len)``.

        Raises:
            IndexError: an index is outside ``[-len, len)``.
            NPZFormatError: a row is damaged.
        """

    def plot(self, index: int, ax: Axes | None = None) -> Axes:
        """Draws a sample with its boxes, points and categories.

        The image is the stored one, before any transform.

        Args:
            index: the sample, in ``[-len, len)``.
            ax: matplotlib axes to draw on; None: those of a new figure, which a notebook shows.
                The figure is not known to `matplotlib.pyplot`, so nothing has to close it.

        Returns:
            The axes, in pixels of the stored image. ``ax.figure.savefig(path)`` saves the picture.

        Raises:
            IndexError: `index` is outside ``[-len, len)``.
            NPZFormatError: the row is damaged.

        Example:
            >>> dataset.plot(3).figure.savefig("row.png")  # doctest: +SKIP
        """
        from processing.datasets.plotting import plot_row  # imports matplotlib

        (row,) = self.shown_rows([index])
        return plot_row(row, ax)

    def info_if_quick(self) -> Summary | None:
        """Returns the summary if counting takes less than about a second; otherwise None."""
        many = len(self) > _MOST_ROWS or len(self.file_offsets) > _MOST_FILES
        return None if many or self.is_remote else self.info()

    def _repr_html_(self) -> str:
        """Returns a table and eight thumbnails for a notebook; never raises."""
        from processing.datasets.notebook import dataset_html  # imports OpenCV

        return dataset_html(self)
