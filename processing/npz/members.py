"""Finds images, annotations, paths and metadata among the members of an NPZ file, whatever its age.

Knows the members of `npz_format` and those of older files: object arrays of lists, regular box
arrays, no metadata. Looks at headers and at the ends of offsets only, except in object arrays.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import ColumnArray, RaggedArray
from processing.core.errors import NPZFormatError
from processing.npz.format import FORMAT_VERSION, REBUILD
from processing.npz.mapped import MappedNPZ

_ROW_SHAPES: Final[dict[str, tuple[int, ...]]] = {"bboxes": (4,), "keypoints": (3,), "labels": ()}
"""Shape of one box, point, label."""

_PER_IMAGE: Final[dict[str, tuple[int, ...]]] = {
    "image_crc32": (),
    "source_rects": (4,),
    "source_sizes": (2,),
}
"""Members that describe the images, and what each has of one: numbers."""

_ALWAYS_ALLOWED_BYTES: Final = 64 << 20  # bytes that paths may take whatever the file has
_MAX_EXPANSION: Final = 64
_LARGEST_METADATA: Final = 16 << 20  # bytes
_CHECKED_AT_ONCE: Final = 4 << 20  # bytes; half a millisecond

_DIMENSIONS: Final = {"bboxes": 2, "keypoints": 3, "labels": 1}
"""Of a member that is not ragged."""


def read_metadata(npz: MappedNPZ) -> dict[str, Any]:
    """The metadata of a file of ours; empty if there is none, or one of another kind.

    Raises:
        NPZFormatError: not a JSON object, or of a later format version.
    """
    if "metadata" not in npz or npz["metadata"].dtype.kind != "U" or npz["metadata"].ndim:
        return {}
    if npz["metadata"].nbytes > _LARGEST_METADATA:
        raise NPZFormatError(
            f"{npz.path}: member 'metadata': has {npz['metadata'].nbytes:,} bytes, at most "
            f"{_LARGEST_METADATA:,} are read; {REBUILD}"
        )
    try:
        metadata = json.loads(npz["metadata"].item())
    except (ValueError, RecursionError, SystemError) as error:  # the last of code points too large
        raise NPZFormatError(f"{npz.path}: member 'metadata': not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise NPZFormatError(f"{npz.path}: member 'metadata': a JSON object is expected")
    version = metadata.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise NPZFormatError(
            f"{npz.path}: has format version {version!r}, this program reads up to "
            f"{FORMAT_VERSION}: update it"
        )
    names = metadata.get("category_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise NPZFormatError(
            f"{npz.path}: member 'metadata': category_names: a list of names is expected, found "
            f"{reprlib.repr(names)}; {REBUILD}"
        )
    return metadata


def verify_small(npz: MappedNPZ, *, of_any_size: bool) -> None:
    """Compares what the file says of its images with its checksums, where that is little to read.

    Args:
        npz: the file.
        of_any_size: also where it is much.

    Raises:
        ChecksumError: some bytes differ.
    """
    names = ["image_paths", "metadata", *_PER_IMAGE]
    for name in (*names, *_ROW_SHAPES, *(f"{name}_offsets" for name in _ROW_SHAPES)):
        if name in npz and (of_any_size or npz.member_size(name) <= _CHECKED_AT_ONCE):
            npz.verify(name)


def _member(npz: MappedNPZ, name: str) -> NDArray[Any]:
    if name not in npz:
        raise NPZFormatError(
            f"{npz.path}: has no member {name!r}; expected images, image_paths, and bboxes or "
            f"keypoints, found {sorted(npz)}"
        )
    return npz[name]


def read_images(npz: MappedNPZ) -> NDArray[Any]:
    """The images, (N, H, W, C), as a view of the file.

    Raises:
        NPZFormatError: there are none, or they have another shape.
    """
    images = _member(npz, "images")
    if images.ndim != 4 or images.dtype.kind not in "buif" or 0 in images.shape[1:]:
        raise NPZFormatError(
            f"{npz.path}: member 'images': expected numbers (N, H, W, C), found {images.dtype} "
            f"{images.shape}"
        )
    return images


def read_per_image(npz: MappedNPZ, name: str) -> NDArray[Any] | None:
    """A member that describes the images, a row each: ``image_crc32`` and the like.

    Raises:
        NPZFormatError: not numbers, or of another shape.
    """
    if name not in npz:
        return None
    array = npz[name]
    kinds = "ui" if name == "image_crc32" else "uif"
    if array.ndim == 0 or array.dtype.kind not in kinds or array.shape[1:] != _PER_IMAGE[name]:
        raise NPZFormatError(
            f"{npz.path}: member {name!r}: expected numbers (N, *{_PER_IMAGE[name]}), found "
            f"{array.dtype} {array.shape}; {REBUILD}"
        )
    return array


def read_image_paths(npz: MappedNPZ) -> NDArray[np.str_]:
    """The paths, unicode (N,); a view of the file unless they were pickled.

    Raises:
        NPZFormatError: there are none, or they are not text.
    """
    paths = _member(npz, "image_paths")
    if paths.dtype == object and all(isinstance(path, str) for path in paths.flat):
        needed = 4 * paths.size * max(map(len, paths.flat), default=0)
        if needed > max(_ALWAYS_ALLOWED_BYTES, _MAX_EXPANSION * npz.member_size("image_paths")):
            raise NPZFormatError(
                f"{npz.path}: member 'image_paths': {paths.size:,} paths as long as the longest "
                f"take {needed:,} bytes: taken for a bomb; {REBUILD}"
            )
        paths = paths.astype(np.str_)
    if paths.ndim != 1 or paths.dtype.kind != "U":
        raise NPZFormatError(
            f"{npz.path}: member 'image_paths': expected text (N,), found {paths.dtype} "
            f"{paths.shape}"
        )
    return paths


def task_of(
    npz: MappedNPZ, metadata: Mapping[str, Any], annotations: Mapping[str, ColumnArray]
) -> str:
    """The task that metadata names and the members show.

    Raises:
        NPZFormatError: they differ, or there are neither boxes nor points.
    """
    if "keypoints" in annotations:
        seen = "landmarker"
    else:
        _member(npz, "bboxes")
        seen = "detector" if isinstance(annotations["bboxes"], RaggedArray) else "teacher"
    if metadata.get("task", seen) != seen:
        raise NPZFormatError(
            f"{npz.path}: its metadata says task {metadata['task']!r}, its members {sorted(npz)} "
            f"are those of a {seen}: the file is damaged"
        )
    return seen


def read_annotations(npz: MappedNPZ, rows: int) -> dict[str, ColumnArray]:
    """``bboxes``, ``keypoints`` and ``labels``, those that the file has.

    Args:
        npz: the file.
        rows: how many images it has.

    Returns:
        Views of the file, (N, ...) or ragged; converted copies of object arrays.

    Raises:
        NPZFormatError: not numbers, or not of the shape that boxes, points or labels have.
    """
    return {name: _annotation(npz, name, rows) for name in _ROW_SHAPES if name in npz}


def _annotation(npz: MappedNPZ, name: str, rows: int) -> ColumnArray:
    """One annotation member in whichever of its forms the file has it."""
    array, row_shape = npz[name], _ROW_SHAPES[name]
    where = f"{npz.path}: member {name!r}"
    if array.dtype == object:
        return _from_objects(array, row_shape, where)
    if array.dtype.kind not in "uif":
        raise NPZFormatError(f"{where}: expected numbers, found {array.dtype}")
    if f"{name}_offsets" in npz:
        return _ragged(array, npz[f"{name}_offsets"], row_shape, where)
    if name == "bboxes" and array.ndim == 3 and array.shape[::2] == (rows, 4):
        # As many boxes in each image: a detector's file that never needed to be ragged.
        n, k, _ = array.shape
        return RaggedArray(array.reshape(n * k, 4), np.arange(n + 1) * k, check=False)
    if array.ndim != _DIMENSIONS[name] or array.shape[array.ndim - len(row_shape) :] != row_shape:
        raise NPZFormatError(
            f"{where}: expected {_DIMENSIONS[name]} dimensions, the last {row_shape}, found "
            f"{array.dtype} {array.shape}"
        )
    return array


def _ragged(
    values: NDArray[Any], offsets: NDArray[Any], row_shape: tuple[int, ...], where: str
) -> RaggedArray:
    """Checks the ends of the offsets only; opening must not read them all."""
    if values.ndim == 0 or values.shape[1:] != row_shape:
        raise NPZFormatError(f"{where}: expected values of {row_shape}, found {values.shape}")
    if (
        offsets.ndim != 1
        or offsets.dtype.kind not in "ui"
        or len(offsets) == 0
        or offsets[0] != 0
        or offsets[-1] != len(values)
    ):
        raise NPZFormatError(
            f"{where}: its offsets {offsets.dtype} {offsets.shape} do not run from 0 to the "
            f"{len(values)} values: the file is damaged"
        )
    return RaggedArray(values, offsets, check=False)


def _from_objects(array: NDArray[Any], row_shape: tuple[int, ...], where: str) -> ColumnArray:
    """Converts an object array of lists, as files had it before there were offsets."""
    dtype = np.int64 if row_shape == () else np.float32
    if array.ndim == 0:
        raise NPZFormatError(f"{where}: expected a list a row, found one object; {REBUILD}")
    rows = []
    for index, value in enumerate(array):
        try:
            row = np.asarray(value, dtype=dtype)
            rows.append(row.reshape(0, *row_shape) if row.size == 0 else row)
        except (ValueError, TypeError, OverflowError) as error:
            raise NPZFormatError(f"{where}, row {index}: not numbers ({error})") from error
    shapes = {row.shape for row in rows}
    ndim = len(row_shape)
    if shapes == {row_shape}:
        return np.stack(rows)
    for index, row in enumerate(rows):
        if row.ndim != ndim + 1 or row.shape[1:] != row_shape:
            raise NPZFormatError(
                f"{where}, row {index}: expected (k, *{row_shape}) numbers, found {row.shape}"
            )
    if row_shape == (3,) and len(shapes) == 1:
        return np.stack(rows)  # as many points in each image
    return RaggedArray.from_rows(rows, dtype=dtype, row_shape=row_shape)
