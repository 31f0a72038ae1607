"""Checks the checkpoint to start from, before data is processed for it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.exit_status import SettingsError

SHARDED = ("meta.pt", ".metadata", "checkpoint")
"""One of these is in a checkpoint that is a directory, of FSDP or DeepSpeed."""


def existing_checkpoint(ckpt_path: str | None) -> Path | None:
    """Return the checkpoint to start from, or None.

    Raises:
        SettingsError: there is no such file, or it is no checkpoint.
    """
    if not ckpt_path:
        return None
    path = Path(ckpt_path).expanduser()
    if not path.exists():
        raise SettingsError(f"ckpt_path={ckpt_path}: there is no such checkpoint")
    is_sharded = any((path / name).exists() for name in SHARDED)
    if not is_sharded and not (path.is_file() and zipfile.is_zipfile(path)):
        raise SettingsError(f"ckpt_path={ckpt_path}: is no checkpoint of Lightning")
    return path


def check_checkpoint(path: Path, model: Any) -> None:
    """Check that a checkpoint was saved by a model like this one.

    Raises:
        SettingsError: it was saved by another model, or with another architecture.
    """
    if path.is_dir():  # sharded: only its strategy can read it
        return
    import torch

    try:
        # Like Lightning, this trusts the file: a checkpoint may hold any object of Python.
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=False)
    except Exception as error:
        raise SettingsError(f"ckpt_path={path}: cannot be read: {error}") from error
    if not isinstance(checkpoint, Mapping) or "state_dict" not in checkpoint:
        raise SettingsError(f"ckpt_path={path}: is no checkpoint of Lightning")
    differences = list(_differences(checkpoint, model))
    if differences:
        name = type(model).__name__
        raise SettingsError(
            f"ckpt_path={path}: does not fit {name} with these settings: {differences[0]}"
        )


def _has(model: Any, weight: str) -> bool:
    """Return whether a model has the part of a weight, or will make it when it knows the data."""
    return hasattr(model, weight.partition(".")[0])


def _differences(checkpoint: Mapping[str, Any], model: Any) -> Iterator[str]:
    """Yield how the weights of a checkpoint differ from a model's, the likely cause first."""
    saved, own = checkpoint["state_dict"], model.state_dict()
    wrong = [name for name in own if name not in saved or saved[name].shape != own[name].shape]
    # Layers that depend on the data are made later; all others must be there.
    unknown = sorted({name.partition(".")[0] for name in saved if not _has(model, name)})
    if not wrong and not unknown:
        return
    settings = checkpoint.get("hyper_parameters", {})
    for key, value in getattr(model, "hparams", {}).items():
        if key in settings and settings[key] != value and key != "learning_rate":
            yield f"it was saved with model.{key}={settings[key]}, this model has {value}"
    for name in wrong:
        found = f"shape {tuple(saved[name].shape)}" if name in saved else "nothing"
        yield f"{name} has {found}, this model needs {tuple(own[name].shape)}"
    for name in unknown:
        yield f"it has a layer {name}, which this model lacks"
