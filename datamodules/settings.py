"""Checks and conversions of the datamodule's arguments.

Every function raises a `TypeError` for an argument of the wrong type, and a `ValueError` for one
that is out of range. The message names the argument.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from processing.core.arguments import check_different, check_integer, check_path

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor

TaskName = Literal["detector", "landmarker", "teacher"]
Split = Literal["train", "val", "test"]
PathLike = str | os.PathLike[str]


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


def data_directories(
    data_dir: PathLike | Sequence[PathLike] | None, processors: Sequence[DataProcessor]
) -> list[Path]:
    """Returns the directories to read: those given, or else the output of the processors."""
    directories: Sequence[PathLike]
    if data_dir is None:
        directories = [processor.output_dir for processor in processors]
    elif isinstance(data_dir, str | os.PathLike):
        directories = [data_dir]
    else:
        directories = data_dir
    if not isinstance(directories, Sequence):
        raise TypeError(f"data_dir must be a path, or several, got {data_dir!r}")
    if not directories:
        raise ValueError("give data_dir, a processor, or both: there is nothing to read")
    paths = [check_path("data_dir", directory) for directory in directories]
    check_different("data_dir", paths)
    return paths


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
