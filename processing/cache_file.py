"""Cache files: arrays that only save work, beside the NPZ files. Losing one does no harm."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.durable import write_durably


def read_cache(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a cache file, by name; none, and no file, where it cannot be read."""
    if not path.exists():
        return {}
    try:
        # Opened here, since np.load leaves a file open that is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        path.unlink()  # it will be made anew
        return {}


def write_cache(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replaces a cache file, atomically."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_durably(path, buffer.getvalue())
