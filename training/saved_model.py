"""Loads a model of this project from a checkpoint alone: its class, its settings and its names."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.data_facts import stored_facts
from models.detector import Detector
from models.landmarker import Landmarker
from models.model import Model
from models.teacher import Teacher
from training.exit_status import SettingsError


def load_model(path: str | os.PathLike[str], *others: Any) -> Model:
    """Return the model of a checkpoint, on the CPU and in evaluation mode.

    Args:
        path: the checkpoint.
        others: classes that the checkpoint may name, next to the three of `models`.

    Raises:
        SettingsError: the file is no checkpoint of these models.
    """
    facts = stored_facts(read_checkpoint(path))
    if facts is None:
        raise SettingsError(
            f"ckpt_path={path}: is a checkpoint of another project, or of a version that did not "
            "store names and sizes: give a checkpoint that train_example.py has written"
        )
    classes: dict[str, Any] = {}
    for one in (Detector, Landmarker, Teacher, *others):
        classes[one.__name__] = one
    name = facts["model"]
    if name not in classes:
        raise SettingsError(
            f"ckpt_path={path}: is a checkpoint of the model {name}; known are "
            f"{', '.join(classes)}: set model._target_ to its class"
        )
    try:
        model = classes[name].load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(f"ckpt_path={path}: does not fit {name}: {reason}") from error
    model.eval()
    loaded: Model = model
    return loaded


def check_task(model: Model, datamodule: Any, path: str | os.PathLike[str]) -> None:
    """Check that a data module serves the task of a checkpoint's model.

    Raises:
        SettingsError: it serves another.
    """
    served = getattr(datamodule, "task", model.task)
    if served != model.task:
        raise SettingsError(
            f"ckpt_path={path}: is a {model.task}, the data is for a {served}: add "
            f"datamodule={model.task}"
        )


def read_checkpoint(path: str | os.PathLike[str], *, trusted: bool = False) -> Mapping[str, Any]:
    """Return the content of a checkpoint; its weights stay on the disk until they are used.

    Args:
        path: the file.
        trusted: whether any object of Python in it is created, which can run code.

    Raises:
        SettingsError: the file cannot be read, or is not a checkpoint of Lightning.
    """
    path = Path(path)
    if not path.exists():
        raise SettingsError(f"ckpt_path={path}: there is no such checkpoint")
    if path.is_dir():
        raise SettingsError(f"ckpt_path={path}: is a folder, not a checkpoint; give a .ckpt file")
    try:
        content = (
            torch.load(path, "cpu", mmap=True, weights_only=not trusted)
            if _saved_by_torch(path)
            else None
        )
    except Exception as error:  # pickle raises whatever the classes of the objects raise
        reason = [*str(error).strip().splitlines(), type(error).__name__][0]
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
    """Check for the entry that `torch.save` writes; .npz and .pt2 files are ZIP files, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
