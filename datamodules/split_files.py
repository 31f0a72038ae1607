"""Finds and opens the files of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datamodules.settings import Split
from processing.core.urls import URL, Location
from processing.lazy_dataset import open_dataset
from processing.npz.sets import dataset_path, is_at, is_set

if TYPE_CHECKING:
    from datamodules.keypoint_names import AnyDataset


def split_paths(directories: Sequence[Location], split: Split, task: str) -> list[Location]:
    """Returns the files of a split; those of test are the files of val if no directory has one.

    Raises:
        NPZFormatError: a directory has a file and a set, or a set that is not complete.
    """
    paths = [_path(directory, f"{split}_{task}") for directory in directories]
    if split == "test":
        return [path for path in paths if is_there(path)] or split_paths(directories, "val", task)
    return paths


def is_there(path: Location) -> bool:
    """Whether a path of `split_paths` names a file, or a set of shards."""
    is_file = is_at(path) if isinstance(path, URL) else path.is_file()
    return is_file or is_set(path)


def _path(directory: Location, name: str) -> Location:
    """Returns the file or set of this name; the file if there is neither."""
    try:
        return dataset_path(directory, name)
    except FileNotFoundError:
        return directory / f"{name}.npz"


def open_split(paths: Sequence[Location], task: str, **options: Any) -> AnyDataset:
    """Opens the files of a split as one dataset.

    Args:
        paths: at least one.
        task: that the files must hold.
        options: of `open_dataset`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file holds another task.
    """
    missing = [str(path) for path in paths if not is_there(path)]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)}: not there. Give the datamodule a processor, run `python -m "
            f"processing.data_processor --{task}`, or point data_dir at its output"
        )
    is_one = len(paths) == 1 and options.get("weights") is None
    dataset: AnyDataset = open_dataset(paths[0] if is_one else paths, **options)
    if (found := dataset.task) != task:
        dataset.close()
        raise ValueError(f"{paths[0]}: expected samples of task {task!r}, found {found!r}")
    return dataset
