"""Reads images, annotations, paths and metadata from the members of an NPZ file, and checks them.

Reads headers and the ends of offsets only, so that opening does not depend on the number of rows.
Older files, and those of other programs, are converted. Before the format had offsets, rows of
different lengths were object arrays of lists, paths were object arrays of text, and a detector's
boxes were one regular array if every image had the same number of boxes. None of these files has
`metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import ColumnArray, RaggedArray
from processing.core.errors import REBUILD, NPZFormatError, damaged
from processing.npz.format import OFFSETS_MEMBER, RAW_MEMBER, REDUCTIONS_MEMBER
from processing.npz.mapped import MappedNPZ


class AnnotationMember(NamedTuple):
    """A kind of annotation that a file may hold.

    Args:
        value_shape: shape of one value: a box, a point, a label.
        dimensions: number of dimensions of the member if it is not ragged.
        dtype: dtype of gathered values, which models take, whatever the file stores.
    """

    value_shape: tuple[int, ...]
    dimensions: int
    dtype: type[np.generic]


ANNOTATIONS: Final = {
    "bboxes": AnnotationMember((4,), 2, np.float32),
    "keypoints": AnnotationMember((3,), 3, np.float32),
    "labels": AnnotationMember((), 1, np.int64),
}
"""All annotations that are read. Another one is declared here, and written by its task."""

_PER_IMAGE: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "image_crc32": ("ui", ()),
    "source_rects": ("uif", (4,)),
    "source_sizes": ("uif", (2,)),
    REDUCTIONS_MEMBER: ("u", ()),
}
"""Numeric members with one row per image: the kinds of dtype allowed, and the shape of one row."""

_ALWAYS_ALLOWED_BYTES: Final = 64 << 20  # of converted paths, however small the member is
_MAX_EXPANSION: Final = 64  # bytes of converted paths per byte of the member
_ALWAYS_VERIFIED: Final = 4 << 20  # bytes; half a millisecond


def verify_small_members(npz: MappedNPZ, *, also_large: bool) -> None:
    """Compares all known members but the images with their checksums.

    Args:
        npz: the file.
        also_large: include members of more than 4 MiB.

    Raises:
        ChecksumError: a member differs from its checksum.
    """
    names = ["image_paths", "metadata", OFFSETS_MEMBER, *_PER_IMAGE]
    for name in ANNOTATIONS:
        names += [name, f"{name}_offsets"]
    for name in names:
        if name in npz and (also_large or npz.entry(name).file_size <= _ALWAYS_VERIFIED):
            npz.verify(name)


def required_member(npz: MappedNPZ, name: str) -> NDArray[Any]:
    """Returns a member that every file has.

    Raises:
        NPZFormatError: the file does not have it.
    """
    if name not in npz:
        raise NPZFormatError(
            f"{npz.path}: has no member {name!r}; expected images, image_paths, and bboxes or "
            f"keypoints, found {sorted(npz)}"
        )
    return npz[name]


def read_images(npz: MappedNPZ) -> NDArray[Any]:
    """Returns the images, (N, H, W, C), as a view of the file; grey ones may lack the channel.

    Raises:
        NPZFormatError: the file has no images, or they have another shape.
    """
    images = required_member(npz, RAW_MEMBER)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype.kind not in "buif" or 0 in images.shape[1:]:
        raise NPZFormatError(
            f"{npz.path}: member 'images': expected numbers (N, H, W, C) or (N, H, W), found "
            f"{images.dtype} {images.shape}"
        )
    return images


def read_per_image(npz: MappedNPZ) -> dict[str, NDArray[Any]]:
    """Returns ``image_crc32``, ``source_rects`` and others, as far as the file has them.

    Raises:
        NPZFormatError: a member is not numeric, or has another shape.
    """
    found = {}
    for name, (kinds, row_shape) in _PER_IMAGE.items():
        if name not in npz:
            continue
        array = npz[name]
        if array.ndim == 0 or array.dtype.kind not in kinds or array.shape[1:] != row_shape:
            raise NPZFormatError(
                f"{npz.path}: member {name!r}: expected numbers (N, *{row_shape}), found "
                f"{array.dtype} {array.shape}; {REBUILD}"
            )
        found[name] = array
    return found


def read_image_paths(npz: MappedNPZ) -> NDArray[np.str_]:
    """Returns the paths, unicode (N,), as a view of the file; a copy of an object array.

    Raises:
        NPZFormatError: the file has no paths, or they are not text.
    """
    paths = required_member(npz, "image_paths")
    where = f"{npz.path}: member 'image_paths'"
    if paths.dtype == object:
        paths = _paths_from_objects(paths, npz.entry("image_paths").file_size, where)
    if paths.ndim != 1 or paths.dtype.kind != "U":
        raise NPZFormatError(f"{where}: expected text (N,), found {paths.dtype} {paths.shape}")
    return paths


def task_of(
    npz: MappedNPZ, metadata: Mapping[str, Any], annotations: Mapping[str, ColumnArray]
) -> str:
    """Returns the task, which the members show and the metadata confirms.

    Raises:
        NPZFormatError: metadata and members disagree, or the file has neither boxes nor points.
    """
    # Older files have no metadata, so the members decide.
    if "keypoints" in annotations:
        task = "landmarker"
    elif isinstance(annotations.get("bboxes"), RaggedArray):
        task = "detector"
    else:
        required_member(npz, "bboxes")
        task = "teacher"
    if metadata.get("task", task) != task:
        found = f"its metadata says task {metadata['task']!r}, its members {sorted(npz)}"
        raise damaged(f"{npz.path}", f"{found} are those of a {task}")
    return task


def read_annotations(npz: MappedNPZ, rows: int) -> dict[str, ColumnArray]:
    """Returns ``bboxes``, ``keypoints`` and ``labels``, as far as the file has them.

    Args:
        npz: the file.
        rows: number of its images.

    Returns:
        Views of the file, (N, ...) or ragged; converted copies of object arrays.

    Raises:
        NPZFormatError: a member is not numeric, or has another shape.
    """
    return {name: _annotation(npz, name, rows) for name in ANNOTATIONS if name in npz}


def _annotation(npz: MappedNPZ, name: str, rows: int) -> ColumnArray:
    array, (value_shape, dimensions, _) = npz[name], ANNOTATIONS[name]
    where = f"{npz.path}: member {name!r}"
    if array.dtype == object:
        return _from_objects(array, value_shape, where)
    if array.dtype.kind not in "uif":
        raise NPZFormatError(f"{where}: expected numbers, found {array.dtype}")
    if f"{name}_offsets" in npz:
        return ragged_member(array, npz[f"{name}_offsets"], value_shape, where)
    if name == "bboxes" and array.ndim == 3 and array.shape[::2] == (rows, 4):
        return _from_regular_boxes(array)
    if array.ndim != dimensions or array.shape[array.ndim - len(value_shape) :] != value_shape:
        raise NPZFormatError(
            f"{where}: expected {dimensions} dimensions, the last {value_shape}, found "
            f"{array.dtype} {array.shape}"
        )
    return array


def ragged_member(
    values: NDArray[Any], offsets: NDArray[Any], value_shape: tuple[int, ...], where: str
) -> RaggedArray:
    """Returns a member and its offsets as ragged rows.

    Args:
        values: the member.
        offsets: where its rows begin and end.
        value_shape: shape of one value.
        where: file and member, for messages.

    Raises:
        NPZFormatError: the values have another shape, or the offsets do not run over all of them.
    """
    if values.ndim == 0 or values.shape[1:] != value_shape:
        raise NPZFormatError(f"{where}: expected values of {value_shape}, found {values.shape}")
    # Only the ends of the offsets: opening must not read all of them.
    if (
        offsets.ndim != 1
        or offsets.dtype.kind not in "ui"
        or len(offsets) == 0
        or offsets[0] != 0
        or offsets[-1] != len(values)
    ):
        raise NPZFormatError(
            f"{where}: its offsets {offsets.dtype} {offsets.shape} do not run from 0 to the "
            f"{len(values)} values: the file is damaged; {REBUILD}"
        )
    return RaggedArray(values, offsets, check=False)


def _from_regular_boxes(array: NDArray[Any]) -> RaggedArray:
    """Returns boxes (N, K, 4), K in each image, as N ragged rows over the same memory."""
    rows, boxes, _ = array.shape
    return RaggedArray(array.reshape(rows * boxes, 4), np.arange(rows + 1) * boxes, check=False)


def _from_objects(array: NDArray[Any], row_shape: tuple[int, ...], where: str) -> ColumnArray:
    """Converts an object array of lists.

    Args:
        array: object (N,), each a list of values or one value.
        row_shape: shape of one value: box, point or label.
        where: file and member, for messages.

    Returns:
        A copy. If each row is one value: (N, *row_shape). If each row has K points: (N, K, 3).
        Otherwise N ragged rows. Labels are int64, all other values float32.

    Raises:
        NPZFormatError: a row is not numeric, or its values have another shape.
    """
    dtype = np.int64 if row_shape == () else np.float32
    if array.ndim == 0:
        raise NPZFormatError(f"{where}: expected a list a row, found one object; {REBUILD}")
    rows = []
    for index, value in enumerate(array):
        try:
            row = np.asarray(value, dtype=dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise NPZFormatError(f"{where}, row {index}: not numbers ({error})") from error
        if row.size == 0:
            row = row.reshape(0, *row_shape)  # an empty list has no second dimension yet
        rows.append(row)
    shapes = {row.shape for row in rows}
    if shapes == {row_shape}:
        return np.stack(rows)
    for index, row in enumerate(rows):
        if row.ndim != len(row_shape) + 1 or row.shape[1:] != row_shape:
            raise NPZFormatError(
                f"{where}, row {index}: expected (k, *{row_shape}) numbers, found {row.shape}"
            )
    if row_shape == (3,) and len(shapes) == 1:
        # The current format stores keypoints (N, K, 3) unless K varies.
        return np.stack(rows)
    return RaggedArray.from_rows(rows, dtype=dtype, row_shape=row_shape)


def _paths_from_objects(array: NDArray[Any], member_bytes: int, where: str) -> NDArray[np.str_]:
    """Converts an object array of text to unicode (N,).

    Args:
        array: object (N,).
        member_bytes: size of the member, unpacked.
        where: file and member, for messages.

    Raises:
        NPZFormatError: an object is not text, or the paths would take far more memory than the
            member.
    """
    longest = 0
    for path in array.flat:
        if not isinstance(path, str):
            raise NPZFormatError(f"{where}: expected text (N,), found {array.dtype} {array.shape}")
        longest = max(longest, len(path))
    # numpy gives every path the length of the longest, and four bytes per character.
    needed = 4 * array.size * longest
    if needed > max(_ALWAYS_ALLOWED_BYTES, _MAX_EXPANSION * member_bytes):
        raise NPZFormatError(
            f"{where}: {array.size:,} paths as long as the longest take {needed:,} bytes: taken "
            f"for a bomb; {REBUILD}"
        )
    return array.astype(np.str_)
