"""The actions that run a trainer: fit and test; `answers` has those that only need a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from processing.commands.console import print_result

if TYPE_CHECKING:
    from training.build import Run


def fit(run: Run) -> float | None:
    """Train the model, validate its best checkpoint and return its score."""
    trainer, model, data = run.trainer, run.model, run.datamodule
    trainer.fit(model, datamodule=data, ckpt_path=run.ckpt_path)
    finished = run.finished_before.message
    weights = run.best_weights()
    if finished and weights is None:
        weights = str(run.ckpt_path)
    # The epochs are over: this validation is no row of their metrics.
    trainer.loggers = []
    results = trainer.validate(model, datamodule=data, ckpt_path=weights, verbose=False)
    if finished and trainer.is_global_zero:
        print_result(finished)
    return run.score(results)


def test(run: Run) -> float | None:
    """Score a checkpoint on the test split and return the score."""
    # `Score` prints the score, so that the table of Lightning would only repeat it.
    results = run.trainer.test(
        run.model, datamodule=run.datamodule, ckpt_path=run.ckpt_path, verbose=False
    )
    return run.score(results)


ACTIONS: dict[str, Callable[[Run], float | None]] = {"fit": fit, "test": test}
"""Each action by its name, the values of ``action``."""
