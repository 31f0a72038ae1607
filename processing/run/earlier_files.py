"""Files ``NAME.npz.earlier``: rows of an abandoned run, which a later run may use.

`leftovers` makes them of the partial files of a killed run; `EarlierRows` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.core.errors import NPZFormatError
from processing.npz.mapped import MappedNPZ
from processing.run.output_directory import earlier_path, file_names, stored_metadata

IMAGE_KEYS: Final = "image_keys"
"""Member of a file ``NAME.npz.earlier``: uint64, ascending, the keys of all images of its run."""

RUN: Final = "abandoned_run"
"""Key of its metadata: which run made the file, how many images it had done, and its name."""


def earlier_paths(directory: Path) -> list[Path]:
    """The files of an abandoned run that exist."""
    paths = [earlier_path(directory, name) for name in file_names(directory)]
    return [path for path in paths if path.exists()]


def keys_of_earlier(path: Path) -> NDArray[np.uint64]:
    """The keys of all images of an abandoned run, ascending.

    They are empty if the file is damaged, or was made under another name: its rows would be those
    of another task.
    """
    nothing = np.zeros(0, np.uint64)
    run = stored_metadata(path).get(RUN)
    if not isinstance(run, list) or run[-1:] != [path.name]:
        return nothing
    try:
        keys = MappedNPZ(path)[IMAGE_KEYS]
    except (NPZFormatError, KeyError):
        return nothing
    return keys if keys.dtype == np.uint64 and keys.ndim == 1 else nothing


def delete_earlier(directory: Path) -> None:
    """Deletes the rows of an abandoned run."""
    for path in earlier_paths(directory):
        path.unlink()
