"""Landmarker: finds the same K landmarks in every image.

The position of a landmark is the mean position under its own heat map (Sun et al. 2018). This is
differentiable, so that the error in pixels itself is the loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from models.arguments import check_count
from models.data_facts import DataFacts
from models.inputs import ImageInput, ModelInput
from models.layers import FeaturePyramid
from models.metrics import normalized_mean_error
from models.model import PREDICTION, TILE_HEIGHT, TRUTH, WHITE, Model, to_numpy, weights_of
from models.predictor import Batch
from models.results import LandmarkerResult
from processing.core.coordinates import stored_to_source
from processing.imaging.drawing import Image, draw_lines, draw_points, enlarge

UNKNOWN = (
    "num_keypoints is not known: give it, as in Landmarker(num_keypoints=5), train with a data "
    "module, or load a checkpoint"
)


class Landmarker(Model):
    """Predicts a heat map for each landmark and takes the mean position under it.

    Args:
        width: channels at a quarter of the image's resolution.
        learning_rate: peak learning rate of the schedule.
        num_keypoints: landmarks per sample; None: taken from the data module.
    """

    task = "landmarker"
    outputs = {  # noqa: RUF012 - declared as a class variable by the base class
        "points": "float32 (B, K, 2): x, y in pixels of the input, in the order of keypoint_names"
    }
    metric = "NME"
    min_steps = 3000
    warm_up = 900  # steps; the recipe is measured in docs/training.md
    mode = "min"
    unit = " of the diagonal of the box around the landmarks"

    def __init__(
        self, width: int = 16, learning_rate: float = 4e-3, num_keypoints: int | None = None
    ) -> None:
        super().__init__(learning_rate)
        self.save_hyperparameters()
        self.pyramid = FeaturePyramid(width)
        self.heat = None if num_keypoints is None else self.heat_maps(num_keypoints)

    def setup(self, stage: str) -> None:
        """Create the last layer, with one heat map for each landmark of the data.

        Raises:
            ValueError: the number of landmarks is not known.
        """
        super().setup(stage)
        if self.heat is None and stage == "fit":  # the optimizer needs all weights
            raise ValueError(UNKNOWN)

    def create_head(self, facts: DataFacts) -> None:
        """Create the heat maps."""
        if self.heat is None and facts.num_keypoints is not None:
            self.hparams["num_keypoints"] = facts.num_keypoints
            self.heat = self.heat_maps(facts.num_keypoints)

    def heat_maps(self, num_keypoints: int) -> nn.Module:
        """Return the last layer: one heat map for each landmark."""
        check_count("num_keypoints", num_keypoints, least=1)
        return nn.Conv2d(self.pyramid.channels, num_keypoints, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images to points x, y in pixels: (B, K, 2)."""
        if self.heat is None:
            raise RuntimeError(UNKNOWN)
        logits = self.heat(self.pyramid(images)).float()
        share = logits.flatten(2).softmax(dim=2).view_as(logits)
        height, width = share.shape[2:]
        # A cell's position is its centre: half a cell from its corner.
        rows = torch.arange(height, device=share.device) + 0.5
        columns = torch.arange(width, device=share.device) + 0.5
        y = (share.sum(dim=3) * rows).sum(dim=2)
        x = (share.sum(dim=2) * columns).sum(dim=2)
        return torch.stack([x, y], dim=2) * FeaturePyramid.STRIDE

    def loss(self, batch: Batch, output: Any = None) -> Tensor:
        """Return the mean error of the labelled points, in percent of the image's height."""
        truth = keypoints_of(batch)
        points: Tensor = self(batch["image"]) if output is None else output
        distances = (points - truth[..., :2]).norm(dim=2)
        labelled = (truth[..., 2] > 0) & (weights_of(batch)[:, None] > 0)
        # A batch may have no labelled point at all: its loss is 0, not NaN.
        mean: Tensor = distances[labelled].sum() / labelled.sum().clamp(min=1)
        percent: Tensor = 100 * mean / batch["image"].shape[2]
        return percent

    def evaluate(self, batch: Batch, output: Any = None) -> list[Any]:
        """Return (predicted points, true points) per sample."""
        output = self(batch["image"]) if output is None else output
        points, truth = to_numpy(output), to_numpy(keypoints_of(batch))
        return list(zip(points, truth, strict=True))

    def answer(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``points`` (B, K, 2): x, y in pixels."""
        return {"points": self(images)}

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput],
        boxes: ArrayLike | Sequence[ArrayLike] | None = None,
        *,
        batch_size: int = 16,
    ) -> list[LandmarkerResult]:
        """Find the landmarks in photographs of any size, without gradients, in evaluation mode.

        Args:
            images: as for `Detector.predict`.
            boxes: for each image (4,) or (k, 4) x1, y1, x2, y2, where the objects are, in pixels of
                the upright image; for a single image, its own. The crop is that of the processor:
                the box, grown by the margin of the training data. None: the whole image is the
                crop.
            batch_size: crops that go through the model at once.

        Returns:
            One result per image, in pixels of the image as it was given, upright.

        Raises:
            ImageError: a file is missing, unreadable or damaged.
            TypeError: an image is of a type that is not supported.
            ValueError: an image or a box has another shape or range, or the numbers of images and
                boxes differ.
        """
        return self.predict_images(images, boxes, batch_size)

    def result(self, values: Mapping[str, NDArray[Any]], source: ModelInput) -> LandmarkerResult:
        """Return the points in pixels of the image."""
        points = values["points"].astype(np.float32)
        for i, rect in enumerate(source.rects):
            points[i] = stored_to_source(points[i], rect, source.input_size)
        names = self.facts.keypoint_labels(points.shape[1])
        return LandmarkerResult(
            points[0] if source.is_single else points, names, source.size, source.path
        )

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        """Return the mean NME of the samples that have a scale; see `normalized_mean_error`.

        NaN if no sample has one.
        """
        errors = -np.array([self.quality(record) for record in records])
        known = errors[~np.isnan(errors)]
        return {self.metric: float(known.mean()) if len(known) else float("nan")}

    def quality(self, record: tuple[Any, Any]) -> float:
        """Return the negative NME of one sample; NaN if it has no scale."""
        points, truth = record
        return -float(normalized_mean_error(points[None], truth[None])[0])

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
