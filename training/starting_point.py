"""The checkpoint to start from: is checked before data is processed, and may be finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L

from models.data_facts import stored_facts
from training.checkpoint_file import read_checkpoint
from training.exit_status import SettingsError


def check_checkpoint(path: Path, model: Any) -> None:
    """Check that a checkpoint was saved by a model like this one.

    Raises:
        SettingsError: it was saved by another model, or with another architecture.
    """
    if path.is_dir():  # sharded: only its strategy can read it
        return
    # Like Lightning, this trusts the file: a checkpoint may hold any object of Python.
    checkpoint = read_checkpoint(path, trusted=True)
    differences = list(_differences(checkpoint, model))
    if not differences:
        return
    name, other = type(model).__name__, _other_model(checkpoint, model)
    if other:
        raise SettingsError(f"ckpt_path={path}: was saved by another model ({other}), not {name}")
    raise SettingsError(
        f"ckpt_path={path}: does not fit {name} with these settings: {differences[0]}"
    )


def _other_model(checkpoint: Mapping[str, Any], model: Any) -> str:
    """Return what is known about the model that saved a checkpoint; empty if it is this one."""
    facts = stored_facts(checkpoint)
    if facts is not None:
        saved_by: str = facts["model"]
        return "" if saved_by == type(model).__name__ else saved_by
    # Lightning does not store the name of a class.
    layers = dict.fromkeys(name.partition(".")[0] for name in checkpoint["state_dict"])
    if any(_has(model, layer) for layer in layers):
        return ""
    return f"with the layers {', '.join(list(layers)[:3])}" if layers else "without weights"


def _has(model: Any, weight: str) -> bool:
    """Return whether a model has the layer of a weight, or will make it when it knows the data."""
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


class FinishedBefore(L.Callback):
    """Notes that a training took no step, because its checkpoint has all epochs or steps.

    Attributes:
        message: says so, and how to train longer; empty if there were steps.
    """

    def __init__(self) -> None:
        self.message = ""
        self._has_begun = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that there are steps to take."""
        self._has_begun = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find out why there was no step, if there was none."""
        if self._has_begun:
            return
        progress: Any = trainer.fit_loop.epoch_progress.current
        epochs, steps = progress.processed, trainer.global_step
        if 0 < trainer.max_steps <= steps:
            self.message = _finished("steps", steps, trainer.max_steps)
        elif trainer.max_epochs is not None and 0 < trainer.max_epochs <= epochs:
            self.message = _finished("epochs", epochs, trainer.max_epochs)


def _finished(unit: str, found: int, wanted: int) -> str:
    return (
        f"nothing was trained: the checkpoint has {found} {unit} already, of {wanted}; give a "
        f"larger trainer.max_{unit}, such as {2 * found}, or leave out ckpt_path to start anew"
    )
