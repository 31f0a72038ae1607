"""Builds from the settings what an answer from a checkpoint needs: the model, and a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from models.model import Model
from training.exit_status import SettingsError
from training.log_lines import prepare_log
from training.saved_model import load_model


@dataclass
class SavedRun:
    """The parts of a run that answers from a checkpoint.

    Args:
        model: the model of the checkpoint.
        ckpt_path: the checkpoint.
        run_dir: directory of the results.
        source: photographs, as the user named them, or None.
        batch_size: images that go through the model at once.
        progress: whether to show a progress bar.
        export_format: ``torch`` or ``onnx``.
        make_datamodule: creates the data module, for real images to compare an export on.
    """

    model: Model
    ckpt_path: Path
    run_dir: Path
    source: str | list[str] | None
    batch_size: int
    progress: bool
    export_format: str
    make_datamodule: Callable[[], Any]


def build_saved_run(config: DictConfig) -> SavedRun:
    """Load the model of ``ckpt_path``, and move it to the device that ``trainer`` asks for.

    Raises:
        SettingsError: there is no such checkpoint, or it is of another project.
    """
    if not config.ckpt_path:
        raise SettingsError(
            f"ckpt_path is required for action={config.action}: the checkpoint of a training, such "
            "as outputs/DATE/TIME/checkpoints/best.ckpt"
        )
    prepare_log()
    path = Path(config.ckpt_path).expanduser()
    model = load_model(path, get_class(config.model._target_))
    source = config.source
    accelerator = config.trainer.get("accelerator", "auto")
    # An export is compared on the CPU, where the file will be read again.
    if config.action == "predict" and accelerator != "cpu" and torch.cuda.is_available():
        model.to("cuda")
    return SavedRun(
        model,
        path,
        Path(config.run_dir),
        source if source is None or isinstance(source, str) else list(source),
        int(config.datamodule.get("batch_size", 16)),
        bool(config.trainer.get("enable_progress_bar", True)),
        config.export.format,
        lambda: hydra.utils.instantiate(config.datamodule),
    )
