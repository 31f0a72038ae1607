"""Decodes pickled object arrays without running anything that the pickle asks for.

numpy writes object arrays as a pickle, and unpickling calls whatever the file names. Here every
name a numpy array needs stands for an inert record of ours and any other name is refused; the
records are then turned into arrays, checking shape, dtype and length as for any untrusted input.
numpy's own restoring functions are not reached: they trust the state they are given.

Memory is bounded by a multiple of the file: opcodes are looked at before the unpickler sees them,
because some make it allocate what the file merely names, and what is stored once and referred to
many times is charged each time.
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

from processing.core.errors import NPZFormatError, UnsafePickleError
from processing.npz.format import REBUILD

_OPCODES: Final = {
    "PROTO", "FRAME", "MARK", "STOP", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2",
    "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE",
}  # fmt: skip
"""What arrays, lists, numbers and text are written with."""

_STORES: Final = ("PUT", "BINPUT", "LONG_BINPUT")
_MAX_EXPANSION: Final = 64  # values, or bytes of arrays, for each byte of the pickle

_DTYPE_CODE: Final = re.compile(r"[biufSU]\d{1,9}|O8?")


class _Array:
    """Stands for ``ndarray``, as `_reconstruct` and then ``__setstate__`` fill it."""

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
        _check_opcodes(data)
        array = _Restorer(len(data)).restore(_Unpickler(io.BytesIO(data)).load())
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{where}: an object array may hold arrays, lists, numbers and text only, and {error}: "
            "nothing of it was run; rebuild the file, or convert it if you trust its origin"
        ) from error
    except Exception as error:  # damaged pickles raise nearly everything
        raise NPZFormatError(
            f"{where}: its object array is damaged ({error!r}); {REBUILD}"
        ) from error
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise NPZFormatError(
            f"{where}: its object array is not of the header's shape {shape}; rebuild the file"
        )
    return array


def _check_opcodes(data: memoryview) -> None:
    """Refuses other opcodes, and memo numbers for which the unpickler would allocate a table."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
        if opcode.name not in _OPCODES:
            raise UnsafePickleError(f"its pickle uses {opcode.name}")
        if opcode.name in _STORES and int(argument or 0) > count:
            raise UnsafePickleError(f"its pickle has memo number {argument} as opcode {count}")


class _Restorer:
    """Replaces records by what they stand for.

    Args:
        pickle_bytes: length of the pickle, from which its values may expand so many times only.
    """

    def __init__(self, pickle_bytes: int) -> None:
        self._left = _MAX_EXPANSION * (pickle_bytes + 1024)

    def restore(self, value: Any) -> Any:
        """`value` with every record in it replaced."""
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
        self._charge(len(array.payload))
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
