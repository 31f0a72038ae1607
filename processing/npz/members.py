"""Reads images, annotations, paths and metadata from the members of an NPZ file, and checks them.

Reads headers and the ends of offsets only, so that opening does not depend on the number of rows.
Members that need a conversion go through `older_files.py`.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.core.columns import ColumnArray, RaggedArray
from processing.core.errors import NPZFormatError
from processing.npz.format import FORMAT_VERSION, REBUILD
from processing.npz.mapped import MappedNPZ
from processing.npz.older_files import (
    from_objects,
    from_regular_boxes,
    is_regular_boxes,
    paths_from_objects,
)


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

_PER_IMAGE: Final[dict[str, tuple[int, ...]]] = {
    "image_crc32": (),
    "source_rects": (4,),
    "source_sizes": (2,),
}
"""Numeric members with one row per image: shape of one row."""

_MAX_METADATA: Final = 16 << 20  # bytes; parsed JSON takes several times as much memory
_ALWAYS_VERIFIED: Final = 4 << 20  # bytes; half a millisecond


def read_metadata(npz: MappedNPZ) -> dict[str, Any]:
    """Returns the metadata; empty if the file has none, or a member of that name but another kind.

    Raises:
        NPZFormatError: the metadata is not a JSON object, or of a later format version.
    """
    # Other programs may have a member of this name.
    if "metadata" not in npz or npz["metadata"].dtype.kind != "U" or npz["metadata"].ndim:
        return {}
    where = f"{npz.path}: member 'metadata'"
    if npz["metadata"].nbytes > _MAX_METADATA:
        raise NPZFormatError(
            f"{where}: has {npz['metadata'].nbytes:,} bytes, at most {_MAX_METADATA:,} are read; "
            f"{REBUILD}"
        )
    try:
        metadata = json.loads(npz["metadata"].item())
    except (ValueError, RecursionError, SystemError) as error:  # SystemError: code points too large
        raise NPZFormatError(f"{where}: not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise NPZFormatError(f"{where}: a JSON object is expected")
    version = metadata.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise NPZFormatError(
            f"{npz.path}: has format version {version!r}, this program reads up to "
            f"{FORMAT_VERSION}: update it"
        )
    names = metadata.get("category_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise NPZFormatError(
            f"{where}: category_names: a list of names is expected, found "
            f"{reprlib.repr(names)}; {REBUILD}"
        )
    return metadata


def verify_small_members(npz: MappedNPZ, *, also_large: bool) -> None:
    """Compares all known members but the images with their checksums.

    Args:
        npz: the file.
        also_large: include members of more than 4 MiB.

    Raises:
        ChecksumError: a member differs from its checksum.
    """
    names = ["image_paths", "metadata", *_PER_IMAGE]
    for name in ANNOTATIONS:
        names += [name, f"{name}_offsets"]
    for name in names:
        if name in npz and (also_large or npz.member_size(name) <= _ALWAYS_VERIFIED):
            npz.verify(name)


def _member(npz: MappedNPZ, name: str) -> NDArray[Any]:
    if name not in npz:
        raise NPZFormatError(
            f"{npz.path}: has no member {name!r}; expected images, image_paths, and bboxes or "
            f"keypoints, found {sorted(npz)}"
        )
    return npz[name]


def read_images(npz: MappedNPZ) -> NDArray[Any]:
    """Returns the images, (N, H, W, C), as a view of the file.

    Raises:
        NPZFormatError: the file has no images, or they have another shape.
    """
    images = _member(npz, "images")
    if images.ndim != 4 or images.dtype.kind not in "buif" or 0 in images.shape[1:]:
        raise NPZFormatError(
            f"{npz.path}: member 'images': expected numbers (N, H, W, C), found {images.dtype} "
            f"{images.shape}"
        )
    return images


def read_per_image(npz: MappedNPZ, name: str) -> NDArray[Any] | None:
    """Returns ``image_crc32``, ``source_rects`` or ``source_sizes``; None if the file has none.

    Raises:
        NPZFormatError: the member is not numeric, or has another shape.
    """
    if name not in npz:
        return None
    array = npz[name]
    kinds = "uif"
    if name == "image_crc32":
        kinds = "ui"
    if array.ndim == 0 or array.dtype.kind not in kinds or array.shape[1:] != _PER_IMAGE[name]:
        raise NPZFormatError(
            f"{npz.path}: member {name!r}: expected numbers (N, *{_PER_IMAGE[name]}), found "
            f"{array.dtype} {array.shape}; {REBUILD}"
        )
    return array


def read_image_paths(npz: MappedNPZ) -> NDArray[np.str_]:
    """Returns the paths, unicode (N,), as a view of the file; a copy of an object array.

    Raises:
        NPZFormatError: the file has no paths, or they are not text.
    """
    paths = _member(npz, "image_paths")
    where = f"{npz.path}: member 'image_paths'"
    if paths.dtype == object:
        paths = paths_from_objects(paths, npz.member_size("image_paths"), where)
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
        _member(npz, "bboxes")
        task = "teacher"
    if metadata.get("task", task) != task:
        raise NPZFormatError(
            f"{npz.path}: its metadata says task {metadata['task']!r}, its members {sorted(npz)} "
            f"are those of a {task}: the file is damaged"
        )
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
        return from_objects(array, value_shape, where)
    if array.dtype.kind not in "uif":
        raise NPZFormatError(f"{where}: expected numbers, found {array.dtype}")
    if f"{name}_offsets" in npz:
        return _ragged(array, npz[f"{name}_offsets"], value_shape, where)
    if name == "bboxes" and is_regular_boxes(array, rows):
        return from_regular_boxes(array)
    if array.ndim != dimensions or array.shape[array.ndim - len(value_shape) :] != value_shape:
        raise NPZFormatError(
            f"{where}: expected {dimensions} dimensions, the last {value_shape}, found "
            f"{array.dtype} {array.shape}"
        )
    return array


def _ragged(
    values: NDArray[Any], offsets: NDArray[Any], value_shape: tuple[int, ...], where: str
) -> RaggedArray:
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
            f"{len(values)} values: the file is damaged"
        )
    return RaggedArray(values, offsets, check=False)
