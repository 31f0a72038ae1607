"""Detector: finds boxes of any number of categories.

Centres are trained as in CenterNet (Zhou et al. 2019). The sides of a box are trained in all cells
near its centre, weighted by a Gaussian, as in TTFNet (Liu et al. 2020): this needs few epochs.
There are no anchors and no non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import check_count
from models.drawing import Image, draw_box, enlarge
from models.layers import FeaturePyramid
from models.metrics import Detections, Truth, average_precision
from models.model import PREDICTION, TILE_HEIGHT, TRUTH, Batch, Model, to_numpy

STRIDE = FeaturePyramid.STRIDE


class Detector(Model):
    """Predicts a heat map of box centres per category, and in each cell the sides of a box.

    Args:
        width: channels at a quarter of the image's resolution.
        learning_rate: peak learning rate of the schedule.
        num_classes: number of categories; None: taken from the training data.
    """

    task = "detector"
    metric = "AP@0.5"

    def __init__(
        self, width: int = 24, learning_rate: float = 4e-3, num_classes: int | None = None
    ) -> None:
        super().__init__(learning_rate)
        self.save_hyperparameters()
        self.pyramid = FeaturePyramid(width)
        self.sides = nn.Conv2d(self.pyramid.channels, 4, 1)
        self.heat = None if num_classes is None else self.heat_maps(num_classes)

    def setup(self, stage: str) -> None:
        """Create the heat maps, one for each category of the data.

        Raises:
            ValueError: the data has more categories than the model.
        """
        super().setup(stage)
        if self.heat is None:
            self.hparams["num_classes"] = max(1, len(self.training_data().category_names))
            self.heat = self.heat_maps(self.hparams["num_classes"])
        elif stage == "fit" and len(self.training_data().category_names) > self.heat.out_channels:
            names = self.training_data().category_names
            raise ValueError(
                f"the detector has {self.heat.out_channels} categories, the data {len(names)}: "
                "omit num_classes, or load a checkpoint that was trained on these categories"
            )

    def heat_maps(self, num_classes: int) -> nn.Conv2d:
        """Return the last layer: one heat map for each category."""
        check_count("num_classes", num_classes, least=1)
        layer = nn.Conv2d(self.pyramid.channels, num_classes, 1)
        # At the start every cell is background with a probability of 0.98, as most cells are.
        nn.init.constant_(layer.bias, -4.0)  # type: ignore[arg-type]  # Conv2d has a bias by default
        return layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images to logits of centres and to boxes.

        Returns:
            Logits float (B, num_classes, h, w), and the box of each cell as x1, y1, x2, y2 in
            pixels, float (B, 4, h, w).
        """
        if self.heat is None:
            raise RuntimeError("num_classes is not known: give it, or train with a data module")
        features = self.pyramid(images)
        height, width = features.shape[-2:]
        columns = torch.arange(width, device=features.device)
        rows = torch.arange(height, device=features.device)
        centres = (torch.stack(torch.meshgrid(columns, rows, indexing="xy")) + 0.5) * STRIDE
        # Softplus keeps the distances positive; scaled, they start at a few cells.
        sides = F.softplus(self.sides(features).float()) * (4 * STRIDE)
        boxes = torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], dim=1)
        return self.heat(features).float(), boxes

    def loss(self, batch: Batch) -> Tensor:
        """Return the focal loss of the heat maps plus the GIoU loss of the boxes, per true box."""
        logits, boxes = self(batch["image"])
        heat = logits.new_zeros(logits.shape)
        error = logits.new_zeros(())
        for i, (truth, labels) in enumerate(zip(batch["bboxes"], labels_of(batch), strict=True)):
            if not len(truth):
                continue
            gaussians = self.gaussians(truth, logits.shape[-2:])
            index = labels[:, None].expand(-1, gaussians[0].numel())
            # Where Gaussians of one category overlap, the highest value counts.
            heat[i].flatten(1).scatter_reduce_(0, index, gaussians.flatten(1), "amax")
            weight, owner = gaussians.max(dim=0)
            inside = weight > 0.1  # cells near a centre; each trains the box that is nearest
            # The weights of an image add up to its number of boxes, whatever their sizes.
            share = len(truth) * weight[inside] / weight[inside].sum()
            error = error + (share * giou_loss(boxes[i, :, inside].T, truth[owner[inside]])).sum()
        total: Tensor = focal_loss(logits, heat) + 2 * error
        return total / max(1, sum(map(len, batch["bboxes"])))

    def gaussians(self, boxes: Tensor, size: Sequence[int]) -> Tensor:
        """Return a Gaussian for each box (k, 4), with 1 in the cell of the centre: (k, h, w)."""
        low, high = boxes[:, :2] / STRIDE, boxes[:, 2:] / STRIDE
        profiles = []
        for axis, cells in ((1, size[0]), (0, size[1])):
            centre = ((low + high)[:, axis, None] / 2).floor().clamp(0, cells - 1)
            # TTFNet's width: three sigma are 0.54 of half the box.
            sigma = (0.09 * (high - low)[:, axis, None]).clamp(min=0.4)
            offset = torch.arange(cells, device=boxes.device) - centre
            profiles.append(torch.exp(-((offset / sigma) ** 2) / 2))
        return profiles[0][:, :, None] * profiles[1][:, None, :]

    def predict(self, batch: Batch) -> list[Any]:
        """Return (detections, truth) per sample; detections in order of descending score."""
        logits, boxes = self(batch["image"])
        # Only local maxima count: this takes the place of non-maximum suppression.
        peaks = logits.where(logits == F.max_pool2d(logits, 3, 1, 1), -torch.inf).flatten(1)
        scores, places = peaks.topk(min(100, peaks.shape[1]))  # at most 100, as COCO counts
        labels, cells = places // logits[0, 0].numel(), places % logits[0, 0].numel()
        found = boxes.flatten(2).gather(2, cells[:, None].expand(-1, 4, -1)).transpose(1, 2)
        records = []
        for i, truth in enumerate(zip(batch["bboxes"], labels_of(batch), strict=True)):
            sure = scores[i].sigmoid() > 0.02  # the others would hardly change the AP
            detections = found[i][sure], scores[i][sure].sigmoid(), labels[i][sure]
            records.append((Detections(*map(to_numpy, detections)), Truth(*map(to_numpy, truth))))
        return records

    def score(self, records: Sequence[Any]) -> float:
        """Return AP@0.5, the mean over the categories in the data."""
        found = [detections for detections, _ in records]
        return average_precision(found, [truth for _, truth in records])

    def draw(self, image: Image, record: tuple[Detections, Truth]) -> Image:
        """Draw the true boxes, and the predicted ones that have a score of at least 0.3."""
        tile, scale = enlarge(image, TILE_HEIGHT)
        found, truth = record
        for box in truth.boxes:
            draw_box(tile, box * scale, TRUTH)
        for box, score in zip(found.boxes, found.scores, strict=True):
            if score >= 0.3:
                draw_box(tile, box * scale, PREDICTION, f"{score:.2f}")
        return tile


def labels_of(batch: Batch) -> Sequence[Tensor]:
    """Return the category of each box, int64 (k,) per sample."""
    if "labels" in batch:
        return [labels.long() for labels in batch["labels"]]
    # The data has a single category: its batches have no labels.
    return [boxes.new_zeros(len(boxes), dtype=torch.int64) for boxes in batch["bboxes"]]


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Return CenterNet's focal loss, summed.

    Args:
        logits: any shape.
        heat: the same shape; 1 at centres, and between 0 and 1 near them, where a wrong detection
            is penalised less.
    """
    probability = logits.sigmoid()
    found = (1 - probability) ** 2 * F.logsigmoid(logits)
    spared = (1 - heat) ** 4 * probability**2 * F.logsigmoid(-logits)
    return -torch.where(heat == 1, found, spared).sum()


def giou_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - generalised IoU of pairs of boxes (n, 4) of positive size: (n,), 0 to 2."""
    near, far = torch.maximum(boxes, truth), torch.minimum(boxes, truth)
    overlap = (far[:, 2:] - near[:, :2]).clamp(min=0).prod(dim=1)
    # The smallest box that holds both, so that boxes far apart get a gradient as well.
    hull = (near[:, 2:] - far[:, :2]).prod(dim=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    true_area = (truth[:, 2:] - truth[:, :2]).prod(dim=1)
    union = area + true_area - overlap
    return 2 - overlap / union - union / hull
