"""Reads the metadata of an NPZ file, and checks the fields that readers use.

Files of other programs may have a member of this name; of their fields, only the names are checked.
"""

from __future__ import annotations

import json
import reprlib
from typing import Any, Final

import msgspec

from processing.core.errors import REBUILD, NPZFormatError
from processing.npz.format import FORMAT_VERSION
from processing.npz.mapped import MappedNPZ

_MAX_METADATA: Final = 16 << 20  # bytes; parsed JSON takes several times as much memory


class _Promised(msgspec.Struct):
    """Fields of `format.py` that readers use, with their types. Older files may lack some."""

    split: str = ""
    fingerprint: str = ""
    options: dict[str, Any] = {}
    encoding: dict[str, Any] = {}
    counts: dict[str, int | dict[str, int]] = {}


def read_metadata(npz: MappedNPZ) -> dict[str, Any]:
    """Returns the metadata; empty if the file has none, or a member of that name but another kind.

    Raises:
        NPZFormatError: the metadata is not a JSON object, is of a later format version, or has a
            field of another type.
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
    for field in ("category_names", "keypoint_names"):
        names = metadata.get(field, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise NPZFormatError(
                f"{where}: {field}: a list of names is expected, found "
                f"{reprlib.repr(names)}; {REBUILD}"
            )
    if "format_version" in metadata:
        try:
            msgspec.convert(metadata, _Promised)
        except msgspec.ValidationError as error:
            raise NPZFormatError(f"{where}: {error}; {REBUILD}") from error
    return metadata
