"""Detector: finds boxes of any number of categories.

Centres are trained as in CenterNet (Zhou et al. 2019), sides under a Gaussian around each centre as
in TTFNet (Liu et al. 2020), which needs few epochs. No anchors before, no suppression after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.drawing import Image, draw_box, enlarge
from models.layers import FeaturePyramid
from models.metrics import Detections, Truth, average_precision
from models.model import PREDICTION, TILE_HEIGHT, TRUTH, Batch, Model, to_numpy

STRIDE = FeaturePyramid.STRIDE


class Detector(Model):
    """A heat map of centres for each category, and in each cell the distances to the box's sides.

    Args:
        width: channels at a quarter of the image's resolution.
        learning_rate: the highest of the schedule.
        num_classes: how many categories; None takes it from the training data.
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
        """Adds the heat maps, as many as the data has categories."""
        super().setup(stage)
        if self.heat is None:
            self.hparams["num_classes"] = max(1, len(self.training_data().category_names))
            self.heat = self.heat_maps(self.hparams["num_classes"])
        elif stage == "fit" and len(self.training_data().category_names) > self.heat.out_channels:
            names = self.training_data().category_names
            raise ValueError(
                f"the detector has {self.heat.out_channels} categories, the data {len(names)}: "
                "leave num_classes out, or give a checkpoint of the same categories"
            )

    def heat_maps(self, num_classes: int) -> nn.Conv2d:
        """The last layer; its bias makes every cell background, with a probability of 0.98."""
        layer = nn.Conv2d(self.pyramid.channels, num_classes, 1)
        nn.init.constant_(layer.bias, -4.0)  # type: ignore[arg-type]  # a bias is there
        return layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images to logits of centres (B, classes, h, w) and cells' boxes, pixels (B, 4, h, w)."""
        if self.heat is None:
            raise RuntimeError("num_classes is not known: give it, or train with a data module")
        features = self.pyramid(images)
        height, width = features.shape[-2:]
        axes = (torch.arange(n, device=features.device) for n in (width, height))
        centres = (torch.stack(torch.meshgrid(*axes, indexing="xy")) + 0.5) * STRIDE
        sides = F.softplus(self.sides(features).float()) * (4 * STRIDE)
        boxes = torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], dim=1)
        return self.heat(features).float(), boxes

    def loss(self, batch: Batch) -> Tensor:
        """Focal loss of the heat maps and generalised IoU loss of the boxes, per true box."""
        logits, boxes = self(batch["image"])
        heat = logits.new_zeros(logits.shape)
        error = logits.new_zeros(())
        for i, (truth, labels) in enumerate(zip(batch["bboxes"], labels_of(batch), strict=True)):
            if not len(truth):
                continue
            near = self.bumps(truth, logits.shape[-2:])
            index = labels[:, None].expand(-1, near[0].numel())
            heat[i].flatten(1).scatter_reduce_(0, index, near.flatten(1), "amax")
            weight, owner = near.max(dim=0)
            inside = weight > 0.1
            share = len(truth) * weight[inside] / weight[inside].sum()
            error = error + (share * giou_loss(boxes[i, :, inside].T, truth[owner[inside]])).sum()
        total: Tensor = focal_loss(logits, heat) + 2 * error
        return total / max(1, sum(map(len, batch["bboxes"])))

    def bumps(self, boxes: Tensor, size: Sequence[int]) -> Tensor:
        """For each box (k, 4) a Gaussian that is 1 in its centre's cell: (k, h, w)."""
        low, high = boxes[:, :2] / STRIDE, boxes[:, 2:] / STRIDE
        profiles = []
        for axis, cells in ((1, size[0]), (0, size[1])):
            centre = ((low + high)[:, axis, None] / 2).floor().clamp(0, cells - 1)
            # TTFNet's width: 0.54 of half the box lies within three sigma.
            sigma = (0.09 * (high - low)[:, axis, None]).clamp(min=0.4)
            offset = torch.arange(cells, device=boxes.device) - centre
            profiles.append(torch.exp(-((offset / sigma) ** 2) / 2))
        return profiles[0][:, :, None] * profiles[1][:, None, :]

    def predict(self, batch: Batch) -> list[Any]:
        """The local maxima of the heat maps with their cells' boxes, surest first."""
        logits, boxes = self(batch["image"])
        peaks = logits.where(logits == F.max_pool2d(logits, 3, 1, 1), -torch.inf).flatten(1)
        scores, places = peaks.topk(min(100, peaks.shape[1]))
        labels, cells = places // logits[0, 0].numel(), places % logits[0, 0].numel()
        found = boxes.flatten(2).gather(2, cells[:, None].expand(-1, 4, -1)).transpose(1, 2)
        records = []
        for i, truth in enumerate(zip(batch["bboxes"], labels_of(batch), strict=True)):
            sure = scores[i].sigmoid() > 0.02
            detections = found[i][sure], scores[i][sure].sigmoid(), labels[i][sure]
            records.append((Detections(*map(to_numpy, detections)), Truth(*map(to_numpy, truth))))
        return records

    def score(self, records: Sequence[Any]) -> float:
        """AP@0.5, the mean over the categories that occur."""
        return average_precision([found for found, _ in records], [truth for _, truth in records])

    def draw(self, image: Image, record: tuple[Detections, Truth]) -> Image:
        """Boxes; predicted ones from a score of 0.3 up, with their score."""
        tile, scale = enlarge(image, TILE_HEIGHT)
        found, truth = record
        for box in truth.boxes:
            draw_box(tile, box * scale, TRUTH)
        for box, score in zip(found.boxes, found.scores, strict=True):
            if score >= 0.3:
                draw_box(tile, box * scale, PREDICTION, f"{score:.2f}")
        return tile


def labels_of(batch: Batch) -> Sequence[Tensor]:
    """Each box's category, int64; batches of a single category have no labels."""
    if "labels" in batch:
        return [labels.long() for labels in batch["labels"]]
    return [boxes.new_zeros(len(boxes), dtype=torch.int64) for boxes in batch["bboxes"]]


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """CenterNet's focal loss, summed: `heat` is 1 at centres, and near them lessens the penalty."""
    probability = logits.sigmoid()
    found = (1 - probability) ** 2 * F.logsigmoid(logits)
    spared = (1 - heat) ** 4 * probability**2 * F.logsigmoid(-logits)
    return -torch.where(heat == 1, found, spared).sum()


def giou_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - generalised IoU of matching boxes (n, 4) of positive size: (n,), 0 to 2."""
    near, far = torch.maximum(boxes, truth), torch.minimum(boxes, truth)
    overlap = (far[:, 2:] - near[:, :2]).clamp(min=0).prod(dim=1)
    hull = (near[:, 2:] - far[:, :2]).prod(dim=1)
    union = sum((b[:, 2:] - b[:, :2]).prod(dim=1) for b in (boxes, truth)) - overlap
    return 2 - overlap / union - union / hull
