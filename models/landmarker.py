"""Landmarker: finds the same K landmarks in every image.

Each landmark is the mean position under its own heat map (Sun et al. 2018), so that the error
itself is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.drawing import Image, draw_lines, draw_points, enlarge
from models.layers import FeaturePyramid
from models.metrics import normalized_mean_error
from models.model import PREDICTION, TILE_HEIGHT, TRUTH, WHITE, Batch, Model, to_numpy


class Landmarker(Model):
    """A heat map for each landmark, and the mean position under it.

    Args:
        width: channels at a quarter of the image's resolution.
        learning_rate: the highest of the schedule.
        num_keypoints: landmarks a sample; None takes it from the training data.
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
        """Adds the heat maps, as many as the data has landmarks."""
        super().setup(stage)
        if self.heat is None:
            self.hparams["num_keypoints"] = len(self.training_data()[0]["keypoints"])
            self.heat = self.heat_maps(self.hparams["num_keypoints"])

    def heat_maps(self, num_keypoints: int) -> nn.Module:
        """The last layer."""
        return nn.Conv2d(self.pyramid.channels, num_keypoints, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images to points x, y in pixels: (B, K, 2)."""
        if self.heat is None:
            raise RuntimeError("num_keypoints is not known: give it, or train with a data module")
        logits = self.heat(self.pyramid(images)).float()
        share = logits.flatten(2).softmax(dim=2).view_as(logits)
        y, x = (
            (share.sum(dim=other) * (torch.arange(n, device=share.device) + 0.5)).sum(dim=2)
            for other, n in ((3, share.shape[2]), (2, share.shape[3]))
        )
        return torch.stack([x, y], dim=2) * FeaturePyramid.STRIDE

    def loss(self, batch: Batch) -> Tensor:
        """Mean distance of the labelled points, in percent of the image's height."""
        truth = keypoints_of(batch)
        points: Tensor = self(batch["image"])
        distances = (points - truth[..., :2]).norm(dim=2)
        labelled = truth[..., 2] > 0
        mean: Tensor = distances[labelled].sum() / labelled.sum().clamp(min=1)
        percent: Tensor = 100 * mean / batch["image"].shape[2]
        return percent

    def predict(self, batch: Batch) -> list[Any]:
        """Each sample's points with the true ones."""
        points, truth = to_numpy(self(batch["image"])), to_numpy(keypoints_of(batch))
        return list(zip(points, truth, strict=True))

    def score(self, records: Sequence[Any]) -> float:
        """NME, the mean over the samples that have a scale."""
        points, truth = (np.stack(column) for column in zip(*records, strict=True))
        return float(np.nanmean(normalized_mean_error(points, truth)))

    def draw(self, image: Image, record: tuple[Any, Any]) -> Image:
        """The labelled points, joined to the predicted ones."""
        tile, scale = enlarge(image, TILE_HEIGHT)
        points, truth = record
        labelled = truth[:, 2] > 0
        points, truth = points[labelled] * scale, truth[labelled, :2] * scale
        draw_lines(tile, truth, points, WHITE)
        draw_points(tile, truth, TRUTH)
        draw_points(tile, points, PREDICTION)
        return tile


def keypoints_of(batch: Batch) -> Tensor:
    """The samples' landmarks (B, K, 3)."""
    keypoints: Tensor | Sequence[Tensor] = batch["keypoints"]
    if isinstance(keypoints, Tensor):
        return keypoints
    lengths = sorted({len(points) for points in keypoints})
    raise ValueError(
        f"the Landmarker needs equally many landmarks in every sample, found samples with "
        f"{', '.join(map(str, lengths))} in the batch of {batch['image_path'][0]}: "
        "name sources that agree in `datamodule.processor.sources`"
    )
