"""Reads a checkpoint, or says in one line why a file is not one."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from training.exit_status import SettingsError
from training.hints import first_line


def read_checkpoint(path: str | os.PathLike[str], *, trusted: bool = False) -> Mapping[str, Any]:
    """Return the content of a checkpoint; its weights stay on the disk until they are used.

    Args:
        path: the file.
        trusted: whether to create any Python object in the file. Doing so can run code.

    Raises:
        SettingsError: the file cannot be read, or is not a checkpoint of Lightning.
    """
    path = Path(path)
    if not path.exists():
        raise SettingsError(f"ckpt_path={path}: there is no such checkpoint")
    if path.is_dir():
        raise SettingsError(f"ckpt_path={path}: is a folder, not a checkpoint; give a .ckpt file")
    content: Any = None
    try:
        if _saved_by_torch(path):
            content = torch.load(path, "cpu", mmap=True, weights_only=not trusted)
    except Exception as error:  # pickle raises whatever the classes of the objects raise
        reason = first_line(error)
        if isinstance(error, pickle.UnpicklingError) and not trusted:
            reason = "it holds objects other than weights, numbers and texts"
        raise SettingsError(f"ckpt_path={path}: cannot be read: {reason}") from error
    if not isinstance(content, Mapping) or "state_dict" not in content:
        raise SettingsError(
            f"ckpt_path={path}: is not a checkpoint of Lightning, or it is damaged; give a .ckpt "
            "file"
        )
    return content


def _saved_by_torch(path: Path) -> bool:
    """Check for the entry of `torch.save`; .npz and .pt2 files are ZIP files, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
