"""Landmarker: finds the same K landmarks in every image.

The position of a landmark is the mean position under its own heat map (Sun et al. 2018). This is
differentiable, so that the error in pixels itself is the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.arguments import check_count
from models.drawing import Image, draw_lines, draw_points, enlarge
from models.layers import FeaturePyramid
from models.metrics import normalized_mean_error
from models.model import PREDICTION, TILE_HEIGHT, TRUTH, WHITE, Batch, Model, to_numpy


class Landmarker(Model):
    """Predicts a heat map for each landmark and takes the mean position under it.

    Args:
        width: channels at a quarter of the image's resolution.
        learning_rate: peak learning rate of the schedule.
        num_keypoints: landmarks per sample; None: taken from the training data.
    """

    task = "landmarker"
    metric = "NME"
    mode = "min"

    def __init__(
        self, width: int = 16, learning_rate: float = 4e-3, num_keypoints: int | None = None
    ) -> None:
        super().__init__(learning_rate)
        self.save_hyperparameters()
        self.pyramid = FeaturePyramid(width)
        self.heat = None if num_keypoints is None else self.heat_maps(num_keypoints)

    def setup(self, stage: str) -> None:
        """Create the last layer, with one heat map for each landmark of the data."""
        super().setup(stage)
        if self.heat is None:
            self.hparams["num_keypoints"] = len(self.training_data()[0]["keypoints"])
            self.heat = self.heat_maps(self.hparams["num_keypoints"])

    def heat_maps(self, num_keypoints: int) -> nn.Module:
        """Return the last layer: one heat map for each landmark."""
        check_count("num_keypoints", num_keypoints, least=1)
        return nn.Conv2d(self.pyramid.channels, num_keypoints, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images to points x, y in pixels: (B, K, 2)."""
        if self.heat is None:
            raise RuntimeError("num_keypoints is not known: give it, or train with a data module")
        logits = self.heat(self.pyramid(images)).float()
        share = logits.flatten(2).softmax(dim=2).view_as(logits)
        height, width = share.shape[2:]
        # A cell's position is its centre: half a cell from its corner.
        rows = torch.arange(height, device=share.device) + 0.5
        columns = torch.arange(width, device=share.device) + 0.5
        y = (share.sum(dim=3) * rows).sum(dim=2)
        x = (share.sum(dim=2) * columns).sum(dim=2)
        return torch.stack([x, y], dim=2) * FeaturePyramid.STRIDE

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean error of the labelled points, in percent of the image's height."""
        truth = keypoints_of(batch)
        points: Tensor = self(batch["image"])
        distances = (points - truth[..., :2]).norm(dim=2)
        labelled = truth[..., 2] > 0
        # A batch may have no labelled point at all: its loss is 0, not NaN.
        mean: Tensor = distances[labelled].sum() / labelled.sum().clamp(min=1)
        percent: Tensor = 100 * mean / batch["image"].shape[2]
        return percent

    def predict(self, batch: Batch) -> list[Any]:
        """Return (predicted points, true points) per sample."""
        points, truth = to_numpy(self(batch["image"])), to_numpy(keypoints_of(batch))
        return list(zip(points, truth, strict=True))

    def score(self, records: Sequence[Any]) -> float:
        """Return the mean NME of the samples that have a scale; see `normalized_mean_error`."""
        points = np.stack([predicted for predicted, _ in records])
        truth = np.stack([true for _, true in records])
        return float(np.nanmean(normalized_mean_error(points, truth)))

    def draw(self, image: Image, record: tuple[Any, Any]) -> Image:
        """Draw the labelled points, each joined to its prediction by a line."""
        tile, scale = enlarge(image, TILE_HEIGHT)
        points, truth = record
        labelled = truth[:, 2] > 0
        points, truth = points[labelled] * scale, truth[labelled, :2] * scale
        draw_lines(tile, truth, points, WHITE)
        draw_points(tile, truth, TRUTH)
        draw_points(tile, points, PREDICTION)
        return tile


def keypoints_of(batch: Batch) -> Tensor:
    """Return the samples' landmarks, float (B, K, 3).

    Raises:
        ValueError: the samples have different numbers of landmarks.
    """
    keypoints: Tensor | Sequence[Tensor] = batch["keypoints"]  # a list if the numbers differ
    if isinstance(keypoints, Tensor):
        return keypoints
    lengths = sorted({len(points) for points in keypoints})
    raise ValueError(
        f"the Landmarker needs the same number of landmarks in every sample, found samples with "
        f"{', '.join(map(str, lengths))} in the batch of {batch['image_path'][0]}: "
        "name sources with equal numbers in `datamodule.processor.sources`"
    )
