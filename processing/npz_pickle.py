"""Decodes pickled object arrays without running anything that the pickle asks for.

numpy writes object arrays as a pickle, and unpickling calls whatever the file names. Here every
name a numpy array needs stands for an inert record of ours and any other name is refused; the
records are then turned into arrays, checking shape, dtype and length as for any untrusted input.
numpy's own restoring functions are not reached: they trust the state they are given.
"""

from __future__ import annotations

import io
import pickle
import re
from math import prod
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from processing.errors import NPZFormatError, UnsafePickleError

_DTYPE_CODE: Final = re.compile(r"[biufSU]\d{1,9}|O8?")


class _Array:
    """Stands for ``ndarray``, as `_reconstruct` and then ``__setstate__`` fill it."""

    __slots__ = ("dtype", "fortran_order", "payload", "shape")

    def __init__(self, *_: object) -> None:
        self.shape: tuple[int, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran_order, self.payload = state

    def restore(self) -> NDArray[Any]:
        dtype = self.dtype.restore()
        order: Literal["F", "C"] = "F" if self.fortran_order else "C"
        if dtype != np.object_:
            return np.frombuffer(self.payload, dtype).reshape(self.shape, order=order).copy()
        if prod(self.shape) != len(self.payload):
            raise ValueError(f"{len(self.payload)} objects for shape {self.shape}")
        flat = np.empty(len(self.payload), dtype=object)
        for i, value in enumerate(self.payload):
            flat[i] = _restore(value)
        return flat.reshape(self.shape, order=order)


class _Dtype:
    """Stands for ``dtype``."""

    __slots__ = ("byteorder", "code")

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.byteorder = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byteorder = state[1]

    def restore(self) -> np.dtype[Any]:
        if not _DTYPE_CODE.fullmatch(self.code) or self.byteorder not in ("<", ">", "|", "="):
            raise UnsafePickleError(f"dtype {self.code!r} is not one of numbers, text and objects")
        return np.dtype(self.byteorder + self.code)


class _Scalar:
    """Stands for a numpy scalar."""

    __slots__ = ("dtype", "payload")

    def __init__(self, dtype: _Dtype, payload: bytes) -> None:
        self.dtype = dtype
        self.payload = payload

    def __setstate__(self, state: object) -> None:
        # Without it, a pickle could set attributes of this class itself.
        raise TypeError("a scalar has no state")

    def restore(self) -> Any:
        return np.frombuffer(self.payload, self.dtype.restore(), count=1)[0]


_STAND_INS: Final[dict[tuple[str, str], Any]] = {
    ("numpy", "ndarray"): "ndarray",  # only ever an argument of _reconstruct
    ("numpy", "dtype"): _Dtype,
    # numpy 2 and numpy 1 write different module names.
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy.core.multiarray", "scalar"): _Scalar,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _STAND_INS[module_name, global_name]
        except KeyError:
            raise UnsafePickleError(f"it names {module_name}.{global_name}") from None


def load_object_array(data: memoryview, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Decodes the pickle after an npy header.

    Args:
        data: the pickle.
        shape: the header's shape.
        where: file and member, for messages.

    Returns:
        An object array of lists, numbers, text and numpy arrays, owned by the caller.

    Raises:
        UnsafePickleError: the pickle holds anything else; nothing of it was run.
        NPZFormatError: the pickle is damaged, or not of that shape.
    """
    try:
        array = _restore(_Unpickler(io.BytesIO(data)).load())
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{where}: an object array may hold arrays, lists, numbers and text only, and {error}: "
            "nothing of it was run; rebuild the file, or convert it if you trust its origin"
        ) from error
    except Exception as error:  # damaged pickles raise nearly everything
        raise NPZFormatError(f"{where}: its object array is damaged ({error!r})") from error
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise NPZFormatError(f"{where}: its object array is not of the header's shape {shape}")
    return array


def _restore(value: Any) -> Any:
    """`value` with every record replaced by what it stands for."""
    if isinstance(value, _Array | _Scalar):
        return value.restore()
    if isinstance(value, list | tuple):
        return [_restore(item) for item in value]
    if isinstance(value, bool | int | float | str):
        return value
    raise UnsafePickleError(f"it holds a {type(value).__name__}")
