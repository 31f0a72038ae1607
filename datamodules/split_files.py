"""Finds and opens the files of a split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.keypoint_names import AnyDataset
from datamodules.settings import Split
from processing.lazy_dataset import open_dataset


def split_paths(directories: Sequence[Path], split: Split, task: str) -> list[Path]:
    """Returns the files of a split; those of test are the files of val if no directory has one."""
    paths = [directory / f"{split}_{task}.npz" for directory in directories]
    if split == "test":
        return [path for path in paths if path.is_file()] or split_paths(directories, "val", task)
    return paths


def open_split(paths: Sequence[Path], task: str, **options: Any) -> AnyDataset:
    """Opens the files of a split as one dataset.

    Args:
        paths: at least one.
        task: that the files must hold.
        options: of `open_dataset`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file holds another task.
    """
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)}: not there. Give the datamodule a processor, run `python -m "
            f"processing.data_processor --{task}`, or point data_dir at its output"
        )
    dataset: AnyDataset = open_dataset(paths if len(paths) > 1 else paths[0], **options)
    if (found := dataset.task) != task:
        dataset.close()
        raise ValueError(f"{paths[0]}: expected samples of task {task!r}, found {found!r}")
    return dataset
