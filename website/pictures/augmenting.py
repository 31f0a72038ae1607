"""A picture of augmentation: one training sample before and after each kind of change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datamodules import Augmentation, to_float
from website.pictures.demo import Demo
from website.pictures.svg import Drawing

_TILES: tuple[dict[str, Any], ...] = (
    {"horizontal_flip": 1.0},
    {"scale": 0.5},
    {"rotate": 20.0},
    {"translate": 0.2},
    {"brightness": 0.2},
    {"contrast": 0.5},
    {"saturation": 1.0},
    {"greyscale": 1.0},
)
_EPOCHS = 8
"""A tile shows the epoch, of these, in which its sample changes most."""
_DEFAULT: dict[str, Any] = {
    "horizontal_flip": 0.5, "scale": 0.5, "translate": 0.2, "brightness": 0.2, "contrast": 0.2,
    "saturation": 0.5, "greyscale": 0.2,
}  # fmt: skip
"""conf/augment/default.yaml for the detector."""


def before_and_after(demo: Demo) -> Drawing:
    """Show the sample, each argument by itself, and the example's setting in three epochs."""
    photo = demo.photograph(0)
    stored = demo.rows("detector", photo.path)[0]
    drawing = Drawing(
        760, 690, "Augmentation, before and after",
        "One training sample as it is stored, changed by each argument of Augmentation by itself, "
        "and changed by the example's setting in three epochs; the boxes move with the image.",
    )  # fmt: skip
    drawing.text(28, 42, "Before, and after each argument by itself", "bold", size=18)
    drawing.text(28, 64, "Boxes move with the image. Batches are changed on the device.", "soft")
    unchanged = _batch(stored)
    _tile(drawing, 0, 84, unchanged, "as stored")
    for number, arguments in enumerate(_TILES, start=1):
        ((name, value),) = arguments.items()
        settings = {"horizontal_flip": 0.0, **arguments}
        y = 84 + 176 * (number // 5)
        batch = _most_changed(unchanged, settings)
        _tile(drawing, number % 5, y, batch, f"{name}={value:g}")
    drawing.text(28, 468, "After, in three epochs", "bold", size=18)
    drawing.text(28, 490, "The example's setting for a detector, conf/augment/default.yaml", "soft")
    for place, epoch in enumerate((1, 2, 6)):
        batch = Augmentation(**_DEFAULT)(unchanged, seed=0, epoch=epoch)
        _tile(drawing, place, 508, batch, f"epoch {epoch}")
    drawing.lines(
        468, 534,
        ["The change depends only on seed,", "epoch and sample: any number of",
         "workers and GPUs gives the same.", "",
         "A box of which less than 40 %", "stays inside is dropped."],
        "soft", size=14,
    )  # fmt: skip
    return drawing


def _most_changed(batch: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the batch in the epoch in which its pixels change most."""
    augment = Augmentation(**settings)
    changed = [augment(batch, seed=0, epoch=epoch) for epoch in range(_EPOCHS)]
    return max(changed, key=lambda one: float((one["image"] - batch["image"]).abs().mean()))


def _batch(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a batch of one sample, as `Augmentation` gets it."""
    return {
        "image": to_float(torch.from_numpy(stored["image"][None])),
        "bboxes": [torch.from_numpy(stored["bboxes"])],
        "labels": [torch.zeros(len(stored["bboxes"]), dtype=torch.int64)],
        "index": torch.tensor([3]),
    }


def _tile(drawing: Drawing, column: int, y: float, batch: dict[str, Any], text: str) -> None:
    image = (batch["image"][0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    x = 28 + 143 * column
    drawing.image(x, y, 132, 132, np.ascontiguousarray(image), text)
    scale = 132 / image.shape[0]
    inside = np.clip(batch["bboxes"][0].numpy(), 0, image.shape[0])
    drawing.boxes(x, y, scale, inside, "#ff8a3d")
    drawing.text(x + 66, y + 152, text, "code", size=12, anchor="middle")
