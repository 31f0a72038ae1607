"""Trains a small model on annotated photographs and shows what it learned.

    python train_example.py                                    # a detector, on demo photographs
    python train_example.py datamodule=landmarker              # or: teacher
    python train_example.py raw_data_dir=~/wider trainer=gpu   # on real photographs

Everything in `conf/` can be overridden on the command line. The run's output folder gets the best
checkpoint, the logger's files and `predictions.png`; the last line printed is that checkpoint's
score on the validation split.
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

from models.drawing import sheet
from models.model import WHITE, Model
from processing.core.error_notes import format_error
from processing.core.errors import ProcessingError
from processing.demo import render_demo

DEMO_DIR = Path("data/raw")
"""The demo is rendered here only: another raw directory that is not there is a mistake."""


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Trains the configured model; what is wrong with data or settings ends it with one line."""
    try:
        train(cfg)
    except (ProcessingError, InstantiationException, OSError, ValueError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        cause = (isinstance(error, InstantiationException) and error.__cause__) or error
        raise SystemExit(
            f"{format_error(cause)}\n(HYDRA_FULL_ERROR=1 shows where it was raised)"
        ) from error
    except SIGTERMException as error:  # whose exit status is that of success
        print("ended by SIGTERM; ckpt_path=…/last.ckpt goes on", file=sys.stderr)  # noqa: T201 - a script
        raise SystemExit(128 + signal.SIGTERM) from error


def train(cfg: DictConfig) -> None:
    """Trains, then shows the best checkpoint at work."""
    raw_dir, run_dir = Path(cfg.raw_data_dir), Path(cfg.run_dir)
    if raw_dir == DEMO_DIR and not raw_dir.exists():
        print(f"{raw_dir}: not there, so rendering {cfg.demo_images} demo photographs")  # noqa: T201 - a script
        render_demo(raw_dir, images=cfg.demo_images)
    L.seed_everything(cfg.seed)
    datamodule = hydra.utils.instantiate(cfg.datamodule)
    model = hydra.utils.instantiate(cfg.model)
    best = ModelCheckpoint(
        run_dir / "checkpoints", "best", monitor=model.metric, mode=model.mode, save_last=True
    )
    logger = hydra.utils.instantiate(cfg.logger)
    trainer = hydra.utils.instantiate(cfg.trainer, logger=logger, callbacks=[best])
    trainer.fit(model, datamodule=datamodule, ckpt_path=cfg.ckpt_path)
    # Of equal scores the last counts: a detector that finds nothing yet has learned all the same.
    last_is_best = trainer.callback_metrics.get(model.metric) == best.best_model_score
    weights = best.last_model_path if last_is_best else best.best_model_path
    trainer.validate(model, datamodule=datamodule, ckpt_path=weights or None, verbose=False)
    if trainer.is_global_zero:
        report(model, datamodule.task, run_dir)


def report(model: Model, task: str, run_dir: Path) -> None:
    """Draws the validated samples and prints their score."""
    if not model.records:
        print(f"{task}: trained, but there are no validation images to score")  # noqa: T201 - as above
        return
    score = f"{model.metric} = {model.score(model.records):.4g}{model.unit}"
    caption = [(f"{task}: {score}", WHITE), *model.legend]
    picture = run_dir / "predictions.png"
    cv2.imwrite(str(picture), sheet(model.tiles, 4, caption)[..., ::-1])
    where = os.path.relpath(picture)
    seen = f"on {len(model.records)} validation images"
    print(f"{task}: {score} {seen}; predictions: {where}")  # noqa: T201 - as above


if __name__ == "__main__":
    main()
