"""Detector: finds boxes of any number of categories.

Centres are trained as in CenterNet (Zhou et al. 2019). The sides of a box are trained in all cells
near its centre, weighted by a Gaussian, as in TTFNet (Liu et al. 2020): this needs few epochs.
There are no anchors and no non-maximum suppression.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.arguments import check_count
from models.data_facts import DataFacts, stored_facts
from models.inputs import ImageInput, ModelInput
from models.layers import FeaturePyramid
from models.metrics import Detections, Truth, agreement, average_precision
from models.model import PREDICTION, TILE_HEIGHT, TRUTH, Model, to_numpy, weights_of
from models.predictor import Batch, to_arrays
from models.results import DetectorResult
from processing.core.arguments import check_number
from processing.core.coordinates import stored_to_source
from processing.imaging.drawing import Colour, Image, draw_box, enlarge

STRIDE = FeaturePyramid.STRIDE
UNKNOWN = (
    "num_classes is not known: give it, as in Detector(num_classes=3), train with a data module, "
    "or load a checkpoint"
)
LEAST_SCORE = 0.02
"""Detections with a lower score would hardly change the average precision."""


class Detector(Model):
    """Predicts a heat map of box centres per category, and in each cell the sides of a box.

    Args:
        width: channels at a quarter of the image's resolution.
        learning_rate: peak learning rate of the schedule.
        num_classes: number of categories; None: taken from the data module.

    Attributes:
        threshold: lowest score of a detection that is shown, and that `predict` returns; the last
            validation chose it.
    """

    task = "detector"
    outputs = {  # noqa: RUF012 - declared as a class variable by the base class
        "boxes": "float32 (B, k, 4): x1, y1, x2, y2 in pixels of the input; at most 100 per image",
        "scores": "float32 (B, k): 0 to 1, in descending order; 0 where an image has fewer boxes",
        "labels": "int64 (B, k): positions in category_names",
    }
    metric = "AP@0.5"
    good_enough = 0.99

    def __init__(
        self, width: int = 24, learning_rate: float = 4e-3, num_classes: int | None = None
    ) -> None:
        super().__init__(learning_rate)
        self.save_hyperparameters()
        self.pyramid = FeaturePyramid(width)
        self.sides = nn.Conv2d(self.pyramid.channels, 4, 1)
        self.heat = None if num_classes is None else self.heat_maps(num_classes)
        self.threshold = 0.3

    def setup(self, stage: str) -> None:
        """Create the heat maps, one for each category of the data.

        Raises:
            ValueError: the data has more categories than the model, or their number is not known.
        """
        super().setup(stage)
        if self.heat is None and stage == "fit":  # the optimizer needs all weights
            raise ValueError(UNKNOWN)
        found = self.facts.num_classes or 0
        if self.heat is not None and stage == "fit" and found > self.heat.out_channels:
            raise ValueError(
                f"the detector has {self.heat.out_channels} categories, the data {found}: "
                "omit num_classes, or load a checkpoint that was trained on these categories"
            )

    def create_head(self, facts: DataFacts) -> None:
        """Create the heat maps."""
        if self.heat is None and facts.num_classes is not None:
            self.hparams["num_classes"] = facts.num_classes
            self.heat = self.heat_maps(facts.num_classes)

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
            raise RuntimeError(UNKNOWN)
        features = self.pyramid(images)
        height, width = features.shape[-2:]
        columns = torch.arange(width, device=features.device)
        rows = torch.arange(height, device=features.device)
        centres = (torch.stack(torch.meshgrid(columns, rows, indexing="xy")) + 0.5) * STRIDE
        # Softplus keeps the distances positive; scaled, they start at a few cells.
        sides = F.softplus(self.sides(features).float()) * (4 * STRIDE)
        boxes = torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], dim=1)
        return self.heat(features).float(), boxes

    def loss(self, batch: Batch, output: Any = None) -> Tensor:
        """Return the focal loss of the heat maps plus the GIoU loss of the boxes, per true box."""
        logits, boxes = self(batch["image"]) if output is None else output
        heat = logits.new_zeros(logits.shape)
        error = logits.new_zeros(())
        weights = weights_of(batch)
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
            giou = giou_loss(boxes[i, :, inside].T, truth[owner[inside]])
            error = error + weights[i] * (share * giou).sum()
        total: Tensor = (weights * focal_loss(logits, heat)).sum() + 2 * error
        counts = weights.new_tensor([len(boxes) for boxes in batch["bboxes"]])
        return total / (weights * counts).sum().clamp(min=1)

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

    def answer(self, images: Tensor, most: int = 100) -> dict[str, Tensor]:
        """Return the boxes of the highest peaks, in order of descending score.

        Args:
            images: float (B, 3, H, W) in [0, 1].
            most: peaks per image; 100, as COCO counts.

        Returns:
            ``boxes`` (B, k, 4) x1, y1, x2, y2 in pixels, ``scores`` (B, k) in [0, 1], and
            ``labels`` int64 (B, k). If an image has fewer peaks than k, the others score 0.
        """
        return self.highest_peaks(self(images), most)

    def highest_peaks(self, output: tuple[Tensor, Tensor], most: int = 100) -> dict[str, Tensor]:
        """Return the boxes of the highest peaks in the output of `forward`, as `answer` does."""
        logits, boxes = output
        # Only local maxima count: this takes the place of non-maximum suppression.
        peaks = logits.where(logits == F.max_pool2d(logits, 3, 1, 1), -torch.inf).flatten(1)
        scores, places = peaks.topk(min(most, peaks.shape[1]))
        cells = logits.shape[2] * logits.shape[3]
        where = (places % cells)[:, None].expand(-1, 4, -1)
        found = boxes.flatten(2).gather(2, where).transpose(1, 2)
        return {"boxes": found, "scores": scores.sigmoid(), "labels": places // cells}

    def evaluate(self, batch: Batch, output: Any = None) -> list[Any]:
        """Return (detections, truth) per sample; detections in order of descending score."""
        output = self(batch["image"]) if output is None else output
        found = to_arrays(self.highest_peaks(output))
        records = []
        for i, truth in enumerate(zip(batch["bboxes"], labels_of(batch), strict=True)):
            sure = found["scores"][i] > LEAST_SCORE
            detections = (found[name][i][sure] for name in ("boxes", "scores", "labels"))
            records.append((Detections(*detections), Truth(*map(to_numpy, truth))))
        return records

    def settings(self) -> dict[str, float]:
        """Return the threshold."""
        return {"threshold": self.threshold}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the threshold from the checkpoint as well."""
        super().on_load_checkpoint(checkpoint)
        self.threshold = float((stored_facts(checkpoint) or {}).get("threshold", self.threshold))

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        threshold: float | None = None,
        batch_size: int = 16,
    ) -> list[DetectorResult]:
        """Find objects in photographs of any size, without gradients and in evaluation mode.

        Args:
            images: one image or several: paths, uint8 arrays (H, W, 3) in RGB, or tensors
                (3, H, W) or (B, 3, H, W), uint8 or float in [0, 1].
            threshold: the lowest score to return, in [0, 1]; None: the model's `threshold`.
            batch_size: images that go through the model at once.

        Returns:
            One result per image, in pixels of the image as it was given, upright.

        Raises:
            ImageError: a file is missing, unreadable or damaged.
            TypeError: an image is of a type that is not supported.
            ValueError: an image has another shape or range.
        """
        lowest = self.threshold if threshold is None else threshold
        with self.at_threshold(check_number("threshold", lowest, least=0, most=1)):
            return self.predict_images(images, batch_size=batch_size)

    @contextlib.contextmanager
    def at_threshold(self, threshold: float) -> Iterator[None]:
        """Use another threshold for a while."""
        before, self.threshold = self.threshold, threshold
        try:
            yield
        finally:
            self.threshold = before

    def result(self, values: Mapping[str, NDArray[Any]], source: ModelInput) -> DetectorResult:
        """Return the boxes that score at least `threshold`, cut off at the edges of the image."""
        boxes, scores, labels = (values[name][0] for name in ("boxes", "scores", "labels"))
        height, width = source.size
        boxes = stored_to_source(boxes, source.rects[0], source.input_size)
        boxes = boxes.clip(0, (width, height, width, height)).astype(np.float32)
        # A box that lies in the grey around the image has no part of the image.
        kept = (scores >= self.threshold) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        names = [self.facts.category_name(label) for label in labels[kept].tolist()]
        return DetectorResult(
            boxes[kept], scores[kept], labels[kept], names, source.size, source.path
        )

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        """Return AP@0.5 and AP@0.5:0.95, means over the categories; choose the threshold."""
        precision = average_precision([found for found, _ in records], [t for _, t in records])
        self.threshold = precision.threshold
        return {self.metric: precision.ap50, "AP@0.5:0.95": precision.ap50_95}

    def quality(self, record: tuple[Detections, Truth]) -> float:
        """Return how well the detections of one image agree with the truth."""
        return agreement(*record)

    def legend(self) -> Sequence[tuple[str, Colour]]:
        """Return the words of the picture's caption, with the threshold of drawn boxes."""
        predicted = f"prediction, score at least {self.threshold:.2f} (where F1 is highest)"
        return ("truth", TRUTH), (predicted, PREDICTION)

    def draw(self, image: Image, record: tuple[Detections, Truth]) -> Image:
        """Draw the true boxes, and the predicted ones whose score reaches the threshold."""
        tile, scale = enlarge(image, TILE_HEIGHT)
        found, truth = record
        for box, label in zip(truth.boxes, truth.labels, strict=True):
            draw_box(tile, box * scale, TRUTH, self.facts.category_name(label), below=True)
        sure = found.scores >= self.threshold
        for box, score, label in zip(*(field[sure] for field in found), strict=True):
            draw_box(
                tile,
                box * scale,
                PREDICTION,
                f"{self.facts.category_name(label)} {score:.2f}".strip(),
            )
        return tile


def labels_of(batch: Batch) -> Sequence[Tensor]:
    """Return the category of each box, int64 (k,) per sample."""
    if "labels" in batch:
        return [labels.long() for labels in batch["labels"]]
    # The data has a single category: its batches have no labels.
    return [boxes.new_zeros(len(boxes), dtype=torch.int64) for boxes in batch["bboxes"]]


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Return CenterNet's focal loss, summed over each sample: (B,).

    Args:
        logits: (B, ...).
        heat: the same shape; 1 at centres, and between 0 and 1 near them, where a wrong detection
            is penalised less.
    """
    # softplus(x) is -log(1 - sigmoid(x)); the first factor is 0 at centres, which are few.
    elsewhere = (1 - heat).square().square() * logits.sigmoid().square() * F.softplus(logits)
    centres = heat == 1
    at_centres = (-logits[centres]).sigmoid().square() * F.softplus(-logits[centres])
    samples = centres.nonzero()[:, 0]
    return elsewhere.flatten(1).sum(dim=1).index_add(0, samples, at_centres)


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
