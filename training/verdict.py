"""Verdict: what a score means for a data set of this size, and what would raise it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import lightning as L
import numpy as np

from processing.core.columns import RaggedArray

GOOD: Final = {"AP@0.5": 0.5, "NME": 0.05, "PSNR": 18.0}
"""From this score on (NME: down to it) a model is no failure, and nothing is said."""
LOWER_IS_BETTER: Final = frozenset({"NME"})
FEW_STEPS: Final = 300
"""Optimizer steps below which a training has hardly begun."""
FEW_BOXES: Final = 100
"""Training boxes of a category below which a detector from scratch learns little of it."""
FEW_SAMPLES: Final = {"landmarker": 100, "teacher": 100}
"""Training samples below which a model from scratch learns little, for tasks without categories."""
SMALL_SIDE: Final = 8.0
"""Pixels of a stored image: two cells of the detector."""


@dataclass(frozen=True)
class TrainingFacts:
    """Facts about a training that explain its score.

    Args:
        task: ``detector``, ``landmarker`` or ``teacher``.
        samples: number of training samples: photographs of a detector, crops of the other tasks.
        steps: optimizer steps.
        boxes: training boxes of each category by name; other tasks have none.
        median_side: median of the boxes' shorter sides, in pixels of the stored images; NaN if
            there are none.
    """

    task: str
    samples: int
    steps: int
    boxes: Mapping[str, int] = field(default_factory=dict)
    median_side: float = math.nan


def verdict(metric: str, score: float, facts: TrainingFacts) -> str:
    """Return what a bad score means and what to do about it.

    Args:
        metric: name of the score.
        score: on the validation split.
        facts: about the training.

    Returns:
        One line without a full stop; empty if the score is good, unknown (NaN) or of a metric that
        this function does not know.

    Example:
        >>> boxes = {f"category {i}": 4 for i in range(80)}
        >>> print(verdict("AP@0.5", 0.01, TrainingFacts("detector", 33, 1500, boxes)))
        33 photographs for 80 categories: too few to learn from scratch; annotate at least 100 \
boxes of each category (half of them have 4 or fewer), or train on fewer categories
    """
    if metric not in GOOD or math.isnan(score) or is_good(metric, score):
        return ""
    if facts.steps < FEW_STEPS:
        return (
            f"{_count(facts.steps, 'step')}: too few to learn anything; train for at least "
            f"{FEW_STEPS}, with a larger trainer.max_epochs, or null to let the data decide"
        )
    reasons = [_small_data(facts), _small_boxes(facts)]
    found = "; ".join(reason for reason in reasons if reason)
    return found or (
        "the data is not small: compare the worst samples in predictions.png with their "
        "annotations, and the curves of both losses in curves.png; if both still fall, train "
        "longer (trainer.max_epochs), if only the training loss falls, add photographs"
    )


def is_good(metric: str, score: float) -> bool:
    """Return whether a score is at least as good as `GOOD` asks for."""
    if metric in LOWER_IS_BETTER:
        return score <= GOOD[metric]
    return score >= GOOD[metric]


def _small_data(facts: TrainingFacts) -> str:
    """Return what is missing in the data; empty if it is not small."""
    if facts.task != "detector":
        few = FEW_SAMPLES.get(facts.task, 0)
        if facts.samples >= few:
            return ""
        return (
            f"{_count(facts.samples, 'crop')}: too few to learn from scratch; collect at least "
            f"{few}, of different objects"
        )
    if not sum(facts.boxes.values()):
        return "the training photographs have no boxes: check the annotations"
    counts = sorted(facts.boxes.values())
    few_categories = sum(count < FEW_BOXES for count in counts)
    if 2 * few_categories < len(counts) or not few_categories:
        return ""
    photographs = _count(facts.samples, "photograph")
    if len(counts) == 1:
        return (
            f"{photographs} with {_count(counts[0], 'box', 'boxes')}: too few to learn from "
            f"scratch; annotate at least {FEW_BOXES} boxes"
        )
    return (
        f"{photographs} for {len(counts)} categories: too few to learn from scratch; annotate at "
        f"least {FEW_BOXES} boxes of each category (half of them have "
        f"{counts[(len(counts) - 1) // 2]} or fewer), or train on fewer categories"
    )


def _small_boxes(facts: TrainingFacts) -> str:
    """Return what to do about boxes that are tiny in the stored images; empty if they are not."""
    if not facts.median_side < SMALL_SIDE:
        return ""
    return (
        f"half of the boxes are narrower than {facts.median_side:.0f} pixels in the stored "
        "images: store larger images (datamodule.processor.image_size)"
    )


def _count(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun in singular or plural."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


class FactsRecorder(L.Callback):
    """Gathers the facts about a training when it ends, while its data is still open.

    Attributes:
        facts: None until a training has ended, or if the data module is of another project.
    """

    def __init__(self) -> None:
        super().__init__()
        self.facts: TrainingFacts | None = None

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the boxes of the training split."""
        datasets = getattr(trainer.datamodule, "datasets", None)  # type: ignore[attr-defined]  # set by Lightning
        if isinstance(datasets, Mapping) and "train" in datasets:
            train = datasets["train"]
            self.facts = facts_of(train, train.task, trainer.global_step)


def facts_of(dataset: Any, task: str, steps: int) -> TrainingFacts:
    """Return the facts about a training.

    Args:
        dataset: an open `LazyNPZDataset` or `CombinedLazyDataset`, the training split.
        task: its task.
        steps: optimizer steps of the training.
    """
    if task != "detector":
        return TrainingFacts(task, len(dataset), steps)
    names: Sequence[str] = dataset.category_names or ["object"]
    counts = np.zeros(len(names), dtype=np.int64)
    sides = []
    for file in getattr(dataset, "datasets", [dataset]):
        boxes = _flat(file.bboxes)
        labels = np.zeros(len(boxes), np.int64) if file.labels is None else _flat(file.labels)
        found = np.bincount(labels, minlength=len(counts))
        counts = np.pad(counts, (0, len(found) - len(counts))) + found
        sides.append((boxes[:, 2:] - boxes[:, :2]).min(axis=1))
    named = {names[i] if i < len(names) else str(i): int(count) for i, count in enumerate(counts)}
    every_side = np.concatenate(sides)
    median = float(np.median(every_side)) if len(every_side) else math.nan
    return TrainingFacts(task, len(dataset), steps, named, median)


def _flat(column: Any) -> Any:
    """Return the values of all rows one after the other."""
    return column.values if isinstance(column, RaggedArray) else np.asarray(column)
