"""The actions that answer from a checkpoint and need no training: predict and export."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from models.detector import Detector
from processing.commands.console import print_error, print_result
from processing.core.errors import ProcessingError
from training.exit_status import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_REJECTIONS
from training.export import TOLERANCE, export
from training.photographs import find_photographs
from training.predict import Prediction, Summary

if TYPE_CHECKING:
    from training.saved_run import SavedRun

_NAMED = 10
"""Bad photographs that are named on the terminal; the list has all."""
_REAL_IMAGES = 8
"""Photographs that an export is compared on."""


def answer(action: str, run: SavedRun) -> None:
    """Do an action.

    Args:
        action: a name in `ANSWERS`.
        run: the parts.

    Raises:
        SystemExit: photographs were left out (3), none could be read (1), or Ctrl-C (130).
        SettingsError: a setting is wrong.
    """
    ANSWERS[action](run)


def predict(run: SavedRun) -> None:
    """Predict on the user's photographs, and print where the results are."""
    photographs = find_photographs(run.source)
    info = {
        "description": f"predictions of {type(run.model).__name__}",
        "checkpoint": str(run.ckpt_path.absolute()),
        "source": str(photographs.root),
    }
    prediction = Prediction(
        run.model,
        photographs,
        run.run_dir,
        info,
        batch_size=run.batch_size,
        progress=run.progress,
    )
    summary = prediction.run()
    _report(run, summary, prediction.threshold, photographs.ignored)
    if summary.interrupted:
        raise SystemExit(EXIT_INTERRUPTED)
    if not summary.predicted:
        raise SystemExit(EXIT_FAILURE)
    if summary.left_out:
        raise SystemExit(EXIT_REJECTIONS)


def _report(run: SavedRun, summary: Summary, threshold: float, ignored: int) -> None:
    directory = os.path.relpath(run.run_dir)
    if summary.left_out:
        print_error(
            f"left out {len(summary.left_out)} of {summary.total} photographs, listed in "
            f"{directory}/predictions.rejected.jsonl:"
        )
        for name, reason, message in summary.left_out[:_NAMED]:
            print_error(f"  {name}: {reason}: {message}")
    if summary.interrupted:
        print_error(f"interrupted after {summary.predicted} of {summary.total} photographs")
    found = ""
    if isinstance(run.model, Detector):
        found = f"{summary.drawn} boxes with a score of at least {threshold:.2f} drawn; "
    skipped = f"; skipped {ignored} that have no name of an image" if ignored else ""
    print_result(
        f"{run.model.task}: {found}{summary.results} results for {summary.predicted} of "
        f"{summary.total} photographs in {directory}/predictions.json (ids: images.json); "
        f"drawings: {directory}/predictions{skipped}"
    )


def export_model(run: SavedRun) -> None:
    """Export the model, and print how far the file's outputs are from the model's own."""
    images, kind = _real_images(run)
    path, comparisons = export(run.model, run.run_dir, run.export_format, images)
    if images is None:
        print_result("no photographs to compare on: name some with source=FOLDER")
    for inputs, differences in comparisons:
        largest = ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
        print_result(f"largest difference from the model on {inputs}: {largest}")
    print_result(
        f"{run.model.task}: exported to {os.path.relpath(path)}; outputs agree to {TOLERANCE:g} of "
        f"their largest value{kind}"
    )


def _real_images(run: SavedRun) -> tuple[Tensor | None, str]:
    """Return real inputs of the model, from ``source`` or from the validation images."""
    if run.source:
        files = find_photographs(run.source).files[:_REAL_IMAGES]
        return torch.cat([run.model.prepare(file).pixels for file in files]), ""
    try:
        datamodule: Any = run.make_datamodule()
        datamodule.setup("validate")
    except (OSError, ProcessingError, ValueError):
        return None, ", on random images only"
    batch = next(iter(datamodule.val_dataloader()))
    images: Tensor = datamodule.on_after_batch_transfer(batch, 0)["image"][:_REAL_IMAGES]
    datamodule.teardown("validate")
    if tuple(images.shape[2:]) != run.model.facts.image_size:
        return None, ", on random images only"
    return images.contiguous(), ""


ANSWERS: dict[str, Callable[[SavedRun], None]] = {"predict": predict, "export": export_model}
"""Each action by its name, the values of ``action``."""
