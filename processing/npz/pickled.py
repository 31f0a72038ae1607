"""Decodes pickled object arrays without running anything that the pickle asks for.

numpy writes an object array as a pickle, and unpickling calls whatever function the file names.
Here each name that a numpy array needs stands for an inert record of this module, and every other
name is refused. The records are then converted to arrays, and their shapes, dtypes and lengths are
checked like any untrusted input. numpy's own restoring functions are not used: they trust the state
that the pickle gives them.

Memory is bounded by a multiple of the file's size. Opcodes are checked before the unpickler sees
them, because some make it allocate a size that the file merely states. A value that is stored once
and referred to many times counts each time.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from math import prod
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from processing.core.errors import REBUILD, NPZFormatError, UnsafePickleError, damaged

_OPCODES: Final = {
    "PROTO", "FRAME", "MARK", "STOP", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2",
    "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE",
}  # fmt: skip
"""Opcodes that arrays, lists, numbers and text need; those that call objects are left out."""

_STORES: Final = ("PUT", "BINPUT", "LONG_BINPUT")
_MAX_EXPANSION: Final = 64  # values, or bytes of arrays, for each byte of the pickle

_DTYPE_CODE: Final = re.compile(r"[biufSU]\d{1,9}|O8?")  # numbers, text and objects


class _Array:
    """Stands for ``ndarray``: `_reconstruct` creates it, ``__setstate__`` fills it."""

    __slots__ = ("dtype", "fortran_order", "payload", "shape")

    def __init__(self, *_: object) -> None:
        self.shape: tuple[int, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran_order, self.payload = state


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
        # Without this method, BUILD would let the pickle set any attribute.
        raise TypeError("a scalar has no state")

    def restore(self) -> Any:
        return np.frombuffer(self.payload, self.dtype.restore(), count=1)[0]


_STAND_INS: Final[dict[tuple[str, str], Any]] = {
    ("numpy", "ndarray"): "ndarray",  # text: it is only an argument of _reconstruct
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
        shape: the shape in the NPY header.
        where: file and member, for messages.

    Returns:
        An object array of lists, numbers, text and numpy arrays, owned by the caller.

    Raises:
        UnsafePickleError: the pickle holds any other object; none of it was run.
        NPZFormatError: the pickle is damaged, or holds an array of another shape.
    """
    try:
        _check_opcodes(data)
        array = _Restorer(len(data)).restore(_Unpickler(io.BytesIO(data)).load())
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{where}: an object array may hold arrays, lists, numbers and text only, and {error}: "
            "nothing of it was run; rebuild the file, or convert it if you trust its origin"
        ) from error
    except Exception as error:  # damaged pickles raise nearly every type
        raise NPZFormatError(
            f"{where}: its object array is damaged ({error!r}); {REBUILD}"
        ) from error
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise damaged(where, f"its object array is not of the header's shape {shape}")
    return array


def _check_opcodes(data: memoryview) -> None:
    """Refuses unknown opcodes, and memo numbers that would make the unpickler allocate a table."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
        if opcode.name not in _OPCODES:
            raise UnsafePickleError(f"its pickle uses {opcode.name}")
        # A sound pickle numbers its memo entries from 0, so a number never exceeds the opcodes.
        if opcode.name in _STORES and int(argument or 0) > count:
            raise UnsafePickleError(f"its pickle has memo number {argument} as opcode {count}")


class _Restorer:
    """Replaces records by the numpy objects that they stand for.

    Args:
        pickle_bytes: length of the pickle, which bounds the number of values that it may expand to.
    """

    def __init__(self, pickle_bytes: int) -> None:
        self._left = _MAX_EXPANSION * (pickle_bytes + 1024)

    def restore(self, value: Any) -> Any:
        """Returns `value` with every record in it replaced; lists and tuples become lists."""
        self._charge(1)
        if isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return [self.restore(item) for item in value]
        if isinstance(value, _Scalar):
            return value.restore()
        if isinstance(value, _Array):
            return self._restore_array(value)
        raise UnsafePickleError(f"it holds a {type(value).__name__}")

    def _restore_array(self, array: _Array) -> NDArray[Any]:
        dtype = array.dtype.restore()
        order: Literal["F", "C"] = "F" if array.fortran_order else "C"
        self._charge(len(array.payload))  # before any memory is allocated
        if dtype != np.object_:
            return np.frombuffer(array.payload, dtype).reshape(array.shape, order=order).copy()
        if prod(array.shape) != len(array.payload):
            raise ValueError(f"{len(array.payload)} objects for shape {array.shape}")
        flat = np.empty(len(array.payload), dtype=object)
        for i, value in enumerate(array.payload):
            flat[i] = self.restore(value)
        return flat.reshape(array.shape, order=order)

    def _charge(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise ValueError("a few bytes of it stand for too many values")
