"""Checks that an output directory can be written, and that its files get a place of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from processing.core.outputs import refuse_unwritable
from processing.core.urls import URL, Location
from processing.remote.files import list_files

_OWN = "give the NPZ files a directory of their own, so that they can be deleted without the data"


def check_output_place(
    raw: Location, output: Location, local: Path, is_image_name: Callable[[str], bool]
) -> None:
    """Checks an output directory before a run reads anything.

    A folder of the raw directory may get the files if there is no photograph in it.

    Args:
        raw: the raw directory.
        output: the output directory.
        local: the directory in which a run works: `output`, unless that is a URL.
        is_image_name: whether a path is that of a photograph.

    Raises:
        ValueError: the output directory is the raw directory, or a folder of it with photographs.
        OSError: this user cannot write there.
    """
    if _real(raw) == _real(output):
        raise ValueError(f"output_dir {output}: is raw_data_dir, too; {_OWN}")
    if isinstance(raw, URL) == isinstance(output, URL) and _is_below(_real(output), _real(raw)):
        photograph = next(filter(is_image_name, _names(output)), None)
        if photograph is not None:
            raise ValueError(
                f"output_dir {output}: is a folder of raw_data_dir {raw} with photographs, such as "
                f"{photograph}; {_OWN}"
            )
    refuse_unwritable("output_dir", local, is_directory=True)


def _real(place: Location) -> str:
    """Returns a place without links and dots, to be compared with others."""
    return place.text if isinstance(place, URL) else os.path.normcase(os.path.realpath(place))


def _is_below(inner: str, outer: str) -> bool:
    separator = "/" if "://" in outer else os.sep
    return inner.startswith(outer.rstrip(separator) + separator)


def _names(directory: Location) -> Iterator[str]:
    """Yields the files of a directory and of all directories in it."""
    if isinstance(directory, URL):
        yield from (listed.name for listed in list_files(directory))
        return
    for folder, _, names in os.walk(directory):
        yield from (os.path.relpath(Path(folder) / name, directory) for name in names)
