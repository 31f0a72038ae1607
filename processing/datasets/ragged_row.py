"""RaggedRow: an array that remembers that its first dimension differs from sample to sample.

torch's `default_collate` sees only values, once a user has put them into a dict, a tuple or under
another name. `processing.datasets.collate` registers this class, so that such values become a
`TensorList` wherever they are. Imports numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RaggedRow(np.ndarray[Any, np.dtype[Any]]):
    """The boxes, points or labels of one sample; `ragged_row` makes one.

    It behaves like a plain array. Copies, results of element-wise operations, and rows selected by
    a mask are ragged again, since they have one row per object. All other results are not: the
    first box has four numbers in every sample, and the mean over the boxes has too.

    Attributes:
        is_ragged: whether collating keeps the arrays of a batch apart.
    """

    # torch's `default_convert` makes tensors only of types of this module.
    __module__ = "numpy"

    is_ragged = False

    def __getitem__(self, key: Any) -> Any:
        """Returns a plain view or value; rows that a mask selects are ragged."""
        found = self.view(np.ndarray)[key]
        is_mask = isinstance(key, np.ndarray) and key.dtype == np.bool_ and key.ndim == 1
        return ragged_row(found) if is_mask and self.is_ragged else found

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Returns the result of an operation; without a context it is not element-wise."""
        if array is self:
            return self
        plain = np.asarray(array)
        if context is not None and self.is_ragged and plain.shape == self.shape:
            return ragged_row(plain)
        return plain[()] if return_scalar else plain

    def copy(self, order: Any = "C") -> Any:
        """Returns a copy that is ragged too."""
        return self._like(self.view(np.ndarray).copy(order))

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        """Returns an array of another dtype that is ragged too."""
        return self._like(self.view(np.ndarray).astype(*args, **kwargs))

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Any:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain = self.view(np.ndarray)
        return (ragged_row, (plain,)) if self.is_ragged else plain.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return repr(self.view(np.ndarray))

    def _like(self, array: NDArray[Any]) -> NDArray[Any]:
        return ragged_row(array) if self.is_ragged else array


def ragged_row(array: NDArray[Any]) -> RaggedRow:
    """Returns a view of an array (k, ...) that is ragged in its first dimension."""
    row = array.view(RaggedRow)
    row.is_ragged = True
    return row
