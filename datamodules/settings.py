"""Checks and conversions of the datamodule's arguments.

Every function raises a `TypeError` for an argument of the wrong type, and a `ValueError` for one
that is out of range. The message names the argument.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from processing.core.arguments import (
    StrPath,
    check_different,
    check_integer,
    check_location,
    check_path,
)
from processing.core.urls import URL, Location

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor

TaskName = Literal["detector", "landmarker", "teacher"]
Split = Literal["train", "val", "test"]
DataDir: TypeAlias = Sequence[str] | str | Path | Sequence[str | Path] | None
"""A directory or its URL, or several; other `os.PathLike` objects are accepted too.

LightningCLI takes the first type that fits. `os.PathLike` would make text of a list, and of None.
"""


def as_processors(
    processor: DataProcessor | Sequence[DataProcessor] | None,
) -> tuple[DataProcessor, ...]:
    """Returns one processor, several or none as a tuple."""
    if processor is None:
        return ()
    processors = tuple(processor) if isinstance(processor, Sequence) else (processor,)
    for one in processors:
        # Not `isinstance`, which would import the processor, and with it all that decodes images.
        if not hasattr(one, "output_dir"):
            raise TypeError(f"processor must be a DataProcessor, or several, got {one!r}")
    # The second would replace the files of the first.
    check_different("output_dir of the processors", (one.output_dir for one in processors))
    return processors


def data_directories(data_dir: DataDir, processors: Sequence[DataProcessor]) -> list[Location]:
    """Returns the directories to read: those given, or else the output of the processors.

    Raises:
        ValueError: there is no directory, or a processor writes to others than those that are read.
    """
    directories: Sequence[str | Path | URL]
    if data_dir is None:
        directories = [processor.output_dir for processor in processors]
    elif isinstance(data_dir, str | os.PathLike | URL):
        directories = [data_dir]
    else:
        directories = data_dir
    if not isinstance(directories, Sequence):
        raise TypeError(f"data_dir must be a path, or several, got {data_dir!r}")
    if not directories:
        raise ValueError("give data_dir, a processor, or both: there is nothing to read")
    paths = [check_location("data_dir", directory) for directory in directories]
    if processors:
        _check_same_directories(paths, [one.output_dir for one in processors])
    return paths


def _check_same_directories(read: Sequence[Location], written: Sequence[Location]) -> None:
    """Checks that the directories to read are those that the processors write, in any order."""
    places = [
        {path if isinstance(path, URL) else path.expanduser().resolve() for path in paths}
        for paths in (read, written)
    ]
    if places[0] != places[1]:
        raise ValueError(
            f"data_dir is {', '.join(map(str, read))}, but the processor writes to "
            f"{', '.join(map(str, written))}: one directory would be processed, and another one "
            "trained on. Leave out data_dir, or set the processor's output_dir to it; for files "
            "that are there already, set processor to None"
        )


def row_cache(cache_dir: StrPath | None, cache_bytes: int) -> tuple[Path | None, int]:
    """Returns directory and size of the cache for rows that are read from a URL."""
    nbytes = check_integer("cache_bytes", cache_bytes, least=0)
    if nbytes and cache_dir is None:
        raise ValueError(f"cache_bytes={nbytes} needs cache_dir, a local directory")
    return None if cache_dir is None else check_path("cache_dir", cache_dir), nbytes


def check_callable(name: str, value: Any) -> Any:
    """Returns a function that a user has given, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")
    return value


def transform_setting(split: Split) -> str:
    """Returns the name of the argument that takes the transform of a split."""
    return "train_transform" if split == "train" else "val_transform"


def cache_sizes(cache_size: int | Mapping[str, int]) -> dict[str, int]:
    """Returns the cache size of each split, in samples; a missing split has no cache."""
    splits = get_args(Split)
    if not isinstance(cache_size, Mapping):
        return dict.fromkeys(splits, check_integer("cache_size", cache_size, least=0))
    unknown = sorted(set(cache_size) - set(splits))
    if unknown:
        raise ValueError(f"cache_size names {unknown}; the splits are {', '.join(splits)}")
    sizes = {}
    for split, size in cache_size.items():
        sizes[split] = check_integer(f"cache_size.{split}", size, least=0)
    return sizes
