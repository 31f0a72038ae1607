"""Curves: loss, score and learning rate of a training, recorded and drawn."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final

import lightning as L
from torch import Tensor

MOST_POINTS: Final = 2000
"""Points of a curve; with more, neighbours are averaged. A checkpoint holds the points."""


class Curve:
    """Values over steps, in memory that does not grow with the number of steps.

    If there are too many points, each two neighbours become their mean, and from then on twice as
    many values become one point.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {"points": [], "per_point": 1, "open": []}
        self.points: list[tuple[float, float]] = [(x, y) for x, y in state["points"]]
        self.per_point: int = state["per_point"]
        self._open: list[tuple[float, float]] = [(x, y) for x, y in state["open"]]

    def add(self, step: float, value: float) -> None:
        """Append a value; one that is not finite is left out."""
        if not math.isfinite(value):
            return
        self._open.append((step, value))
        if len(self._open) == self.per_point:
            self.points.append(_mean(self._open))
            self._open.clear()
        if len(self.points) > MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            rest = self.points[len(self.points) & ~1 :]
            self.points = [_mean(list(pair)) for pair in pairs]
            self.per_point *= 2
            self._open = rest * (self.per_point // 2)

    def all(self) -> list[tuple[float, float]]:
        """Return (step, value) of each point; the last is of the values that fill no point yet."""
        return [*self.points, *([_mean(self._open)] if self._open else [])]

    def state_dict(self) -> dict[str, Any]:
        """Return the curve as lists and numbers."""
        return {"points": self.points, "per_point": self.per_point, "open": self._open}


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    steps, values = zip(*points, strict=True)
    return sum(steps) / len(steps), sum(values) / len(values)


class CurveRecorder(L.Callback):
    """Records the curves of a training; a run that continues a checkpoint continues them.

    Works without a logger. Losses are fetched from the device only at the end of an epoch and
    before a validation. The picture is drawn when the training ends, also by an exception.

    Args:
        path: the PNG file to write; None: record only.

    Attributes:
        curves: by name: ``train_loss``, ``learning_rate``, and whatever a validation logs, such as
            ``val_loss`` and the score.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self.path = None if path is None else Path(path)
        self.curves: dict[str, Curve] = {}
        self._pending: list[tuple[int, Tensor]] = []

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the loss and the learning rate."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            # Lightning has divided the loss by the number of accumulated batches.
            whole = loss.detach() * trainer.accumulate_grad_batches
            self._pending.append((trainer.global_step, whole))
        if trainer.optimizers:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._add("learning_rate", trainer.global_step, float(rate))
        if len(self._pending) >= MOST_POINTS:
            self._fetch()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fetch the losses of the epoch."""
        self._fetch()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note everything that the validation has logged."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._fetch()
        # Losses and learning rates of training steps are among them, and are noted already.
        for name, value in trainer.callback_metrics.items():
            if not name.startswith(("train_", "lr-")):
                self._add(name, trainer.global_step, float(value))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the curves."""
        self._draw(trainer, pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Draw the curves of a training that was stopped."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._fetch()
        if self.path is not None and self.curves and trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draw_curves(self.curves, str(getattr(pl_module, "metric", "")), self.path)

    def _fetch(self) -> None:
        for step, loss in self._pending:
            self._add("train_loss", step, float(loss))
        self._pending.clear()

    def _add(self, name: str, step: int, value: float) -> None:
        self.curves.setdefault(name, Curve()).add(step, value)

    def state_dict(self) -> dict[str, Any]:
        """Return the curves, for a checkpoint."""
        self._fetch()
        return {name: curve.state_dict() for name, curve in self.curves.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curves of a checkpoint."""
        self.curves = {name: Curve(state) for name, state in state_dict.items()}


def draw_curves(curves: dict[str, Curve], metric: str, path: Path, title: str = "") -> None:
    """Draw loss, scores and learning rate over the steps, below each other, as a PNG.

    Args:
        curves: as `CurveRecorder` records them.
        metric: name of the monitored score, drawn with a thicker line.
        path: the file to write.
        title: written at the top.
    """
    # Imported here: only a training that has ended needs matplotlib. Figure is used without pyplot,
    # which would keep a global state.
    from matplotlib.figure import Figure

    losses: list[str] = [name for name in ("train_loss", "val_loss") if name in curves]
    scores = [name for name in curves if name not in (*losses, "learning_rate")]
    rates: list[str] = [name for name in ("learning_rate",) if name in curves]
    every: dict[str, list[str]] = {"loss": losses, "score": scores, "learning rate": rates}
    panels = {label: names for label, names in every.items() if names}
    figure = Figure(figsize=(8, 2.6 * max(1, len(panels))), layout="constrained")
    axes = figure.subplots(max(1, len(panels)), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (label, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            steps, values = zip(*curves[name].all(), strict=True)
            few = len(steps) <= 60
            width = 2.0 if name in (metric, "val_loss") else 1.0
            axis.plot(steps, values, label=name, linewidth=width, marker="." if few else None)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        if label == "score" and metric.startswith("AP"):
            axis.set_ylim(-0.02, 1.02)
        if label == "loss" and min(v for n in names for _, v in curves[n].all()) > 0:
            axis.set_yscale("log")
        if len(names) > 1 or label == "score":
            axis.legend(loc="best", fontsize="small")
    axes[-1].set_xlabel("optimizer steps")
    axes[0].set_title(title)
    figure.savefig(path, dpi=100)
