"""Trains a small model on annotated photographs and draws its predictions.

    python train_example.py                                    # a detector, on demo photographs
    python train_example.py datamodule=landmarker              # or: teacher
    python train_example.py raw_data_dir=~/wider trainer=gpu   # on your own photographs

Every setting in `conf/` can be overridden on the command line; `--help` lists them. The best
checkpoint, the metrics and `predictions.png` are saved in `outputs/DATE/TIME`. The last line that
is printed is the score of the best checkpoint on the validation split.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import cv2
import hydra
import lightning as L
from hydra.errors import InstantiationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from models.model import Model
from processing.core.error_notes import format_error
from processing.core.errors import ProcessingError
from processing.demo import render_demo
from training.curves import CurveRecorder
from training.duration import UNLIMITED, Duration
from training.verdict import FactsRecorder, TrainingFacts, verdict

DEMO_DIR = Path("data/raw")
"""The only place where the demo is rendered: any other missing directory is a typing mistake."""


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Train the configured model; report an error in the data or the settings without a traceback.

    Raises:
        SystemExit: the data or a setting is wrong, or the process got SIGTERM.
    """
    try:
        train(cfg)
    except (ProcessingError, InstantiationException, OSError, ValueError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        # Hydra wraps an error of a constructor; the cause is the error that the user can mend.
        cause = (isinstance(error, InstantiationException) and error.__cause__) or error
        raise SystemExit(
            f"{format_error(cause)}\n(set HYDRA_FULL_ERROR=1 to see the traceback)"
        ) from error
    except SIGTERMException as error:
        # Lightning would exit with status 0, and a script would take the training for finished.
        last = Path(cfg.run_dir) / "checkpoints" / "last.ckpt"
        message = "stopped by SIGTERM before the first checkpoint; start again"
        if last.exists():
            message = f"stopped by SIGTERM; to continue, set ckpt_path={last}"
        print(message, file=sys.stderr)  # noqa: T201 - a script prints
        raise SystemExit(128 + signal.SIGTERM) from error


def train(cfg: DictConfig) -> None:
    """Train the model, validate its best checkpoint and report the score."""
    raw_dir, run_dir = Path(cfg.raw_data_dir), Path(cfg.run_dir)
    # Before anything is rendered or processed, which can take long.
    if cfg.ckpt_path and not Path(cfg.ckpt_path).exists():
        raise FileNotFoundError(f"ckpt_path={cfg.ckpt_path}: there is no such checkpoint")
    if raw_dir == DEMO_DIR and not raw_dir.exists():
        print(f"{raw_dir} does not exist: rendering {cfg.demo_images} demo photographs")  # noqa: T201 - a script prints
        render_demo(raw_dir, images=cfg.demo_images)
    L.seed_everything(cfg.seed)
    datamodule = hydra.utils.instantiate(cfg.datamodule)
    model = hydra.utils.instantiate(cfg.model)
    best = ModelCheckpoint(
        run_dir / "checkpoints", "best", monitor=model.metric, mode=model.mode, save_last=True
    )
    logger = hydra.utils.instantiate(cfg.logger)
    duration, facts = Duration(**cfg.duration), FactsRecorder()
    curves = CurveRecorder(run_dir / "curves.png")
    limits = {"max_epochs": UNLIMITED} if cfg.trainer.max_epochs is None else {}
    callbacks = [duration, curves, facts, best]
    trainer = hydra.utils.instantiate(cfg.trainer, logger=logger, callbacks=callbacks, **limits)
    trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.ckpt_path)
    # If the last epoch scores as high as the best, show the last: a detector may score 0 for some
    # epochs although it is learning.
    weights = best.best_model_path
    if trainer.callback_metrics.get(model.metric) == best.best_model_score:
        weights = best.last_model_path
    trainer.validate(model, datamodule=datamodule, ckpt_path=weights or None, verbose=False)
    if trainer.is_global_zero:  # under DDP one process reports for all
        report(model, datamodule.task, run_dir, facts.facts)


def report(model: Model, task: str, run_dir: Path, facts: TrainingFacts | None) -> None:
    """Print the score of the last validation and save the picture of its first samples."""
    if not model.records:
        print(f"{task}: training finished; no score, because there are no validation images")  # noqa: T201 - a script prints
        return
    picture = run_dir / "predictions.png"
    cv2.imwrite(str(picture), model.picture()[..., ::-1])  # OpenCV writes BGR
    meaning = facts and verdict(model.metric, model.last_scores[model.metric], facts)
    explained = f" ({meaning})" if meaning else ""
    images = f"on {len(model.records)} validation images{explained}"
    print(f"{task}: {model.score_text()} {images}; predictions: {os.path.relpath(picture)}")  # noqa: T201 - a script prints


if __name__ == "__main__":
    main()
