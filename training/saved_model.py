"""Loads a model of this project from a checkpoint alone: its class, its settings and its names."""

from __future__ import annotations

import os
from typing import Any

from models.data_facts import stored_facts
from models.detector import Detector
from models.landmarker import Landmarker
from models.model import Model
from models.teacher import Teacher
from training.checkpoint_file import read_checkpoint
from training.exit_status import SettingsError
from training.hints import first_line


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
        raise SettingsError(
            f"ckpt_path={path}: does not fit {name}: {first_line(error)}"
        ) from error
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
