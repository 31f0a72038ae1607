"""The results of a run: the picture of the last validation, the score, and how to continue."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

from processing.commands.console import print_error, print_result
from training.verdict import FactsRecorder, TrainingFacts, verdict

if TYPE_CHECKING:
    import lightning as L

    from training.build import Run


class Picture(Callback):
    """Draws ``predictions.png`` after every validation, so that a stopped run has it too.

    Args:
        path: the picture.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the samples of this validation."""
        if trainer.is_global_zero and not trainer.sanity_checking:
            save_picture(pl_module, self.path)


class Score(Callback):
    """Prints the score of `Trainer.validate`, with its number of images and its picture.

    A callback, because with the strategy ``ddp_spawn`` only the child processes have the samples.

    Args:
        picture: the picture that `Picture` draws.
        recorder: knows the facts about the training that explain a bad score.
    """

    def __init__(self, picture: str | os.PathLike[str], recorder: FactsRecorder) -> None:
        self.picture = Path(picture)
        self.recorder = recorder

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line, unless the validation is part of a training."""
        if trainer.state.fn == "validate" and trainer.is_global_zero:
            print_score(pl_module, self.picture, self.recorder.facts)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line, and draw the samples of the test."""
        if trainer.is_global_zero:
            save_picture(pl_module, self.picture)
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
            print_score(pl_module, self.picture, None, _tested_split(datamodule))


def save_picture(model: Any, path: Path) -> None:
    """Draw the samples of the last validation; a model of another project may have no picture."""
    if not hasattr(model, "picture") or not getattr(model, "records", None):
        return
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), model.picture()[..., ::-1])  # OpenCV writes BGR


def _tested_split(datamodule: Any) -> str:
    """Return the kind of images that a test has read."""
    dataset = getattr(datamodule, "datasets", {}).get("test")
    files = getattr(dataset, "datasets", (dataset,))  # several files may be read as one
    if all(Path(getattr(file, "path", "")).name.startswith("val_") for file in files):
        return "validation images (there is no test split)"
    return "test images"


def print_score(
    model: Any, picture: Path, facts: TrainingFacts | None, images: str = "validation images"
) -> None:
    """Print the score of the model's last validation or test, and what a bad score means.

    Args:
        model: the model.
        picture: the picture of its samples.
        facts: the facts about the training that explain a bad score, if they are known.
        images: the kind of images it was scored on.
    """
    records = getattr(model, "records", None)
    if records is None:  # a model of another project: Lightning has its metrics
        return
    if not records:
        print_result(
            f"{model.task}: training finished; no score, because there are no validation images"
        )
        return
    meaning = ""
    if facts is not None:
        meaning = verdict(model.metric, model.last_scores[model.metric], facts)
    explained = f" ({meaning})" if meaning else ""
    shown = os.path.relpath(picture)
    print_result(
        f"{model.task}: {model.score_text()} on {len(records)} {images}{explained}; "
        f"predictions: {shown}"
    )


def report_stop(run: Run, signum: int, notes: Sequence[str] = ()) -> None:
    """Print what a stopped training has reached, and how to continue it.

    Args:
        run: the parts of the run.
        signum: the signal that stopped it.
        notes: how far the processing has come, if it was stopped.
    """
    trainer, last = run.trainer, run.last
    if not trainer.is_global_zero:
        return
    name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
    step = trainer.global_step
    if not trainer.fit_loop.epoch_progress.current.ready:
        reached = "".join(f"; {note}" for note in notes)
        print_error(f"stopped by {name} before the first step{reached}; the same command continues")
        return
    print_error(f"stopped by {name} in epoch {trainer.current_epoch}, after {step} steps")
    best, metric = run.best, getattr(run.model, "metric", "score")
    if best is not None and best.best_model_score is not None:
        print_error(
            f"best {best.monitor or metric} so far: {float(best.best_model_score):.4g}, in "
            f"{_shown(best.best_model_path)}"
        )
    if run.picture.exists():
        print_error(f"predictions of the last validation: {_shown(run.picture)}")
    if last is not None and last.saved_step is not None:
        print_error(
            f"checkpoint after {last.saved_step} steps: {_shown(last.path)}; to continue:\n"
            f"    {continue_command(last.path)}"
        )
    elif run.ckpt_path:
        print_error("no step was taken since the checkpoint: the same command continues there")
    else:
        print_error("there is no checkpoint yet: the same command starts again")


def continue_command(checkpoint: Path) -> str:
    """Return this command with the checkpoint to continue from."""
    arguments = [one for one in sys.argv[1:] if not one.startswith("ckpt_path=")]
    words = ["python", sys.argv[0], *arguments, f"ckpt_path={_shown(checkpoint)}"]
    return shlex.join(words)


def _shown(path: str | os.PathLike[str]) -> str:
    """Return a path relative to the working directory, if it is inside."""
    relative = os.path.relpath(path)
    return os.fspath(path) if relative.startswith("..") else relative
