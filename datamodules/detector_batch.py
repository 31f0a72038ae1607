"""Reads and checks the batch that `datamodules.targets` converts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datamodules.transforms import to_float


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Converts boxes (..., 4) from x1, y1, x2, y2 to centre x, centre y, width, height.

    Example:
        >>> xyxy_to_cxcywh(torch.tensor([[10.0, 20.0, 30.0, 60.0]]))
        tensor([[20., 40., 20., 40.]])
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Converts boxes (..., 4) from centre x, centre y, width, height to x1, y1, x2, y2.

    Example:
        >>> cxcywh_to_xyxy(torch.tensor([[20.0, 40.0, 20.0, 40.0]]))
        tensor([[10., 20., 30., 60.]])
    """
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), dim=-1)


@dataclass(frozen=True)
class DetectorBatch:
    """The valid samples of a batch, with the boxes and labels of all of them in one tensor each.

    Args:
        images: (B, 3, H, W), uint8 or float.
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels.
        labels: int64 (n,).
        spans: where the boxes of each of the B images begin and end in `boxes`.
        paths: of the images; empty if the batch has none.
        index: int64 (B,) positions in the dataset; None if the batch has none.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    spans: list[tuple[int, int]]
    paths: list[str]
    index: Tensor | None

    @property
    def height(self) -> int:
        """Height of the images, pixels."""
        return self.images.shape[2]

    @property
    def width(self) -> int:
        """Width of the images, pixels."""
        return self.images.shape[3]

    def float_images(self) -> Tensor:
        """Returns the images as floats from 0 to 1."""
        if self.images.dtype == torch.uint8:
            return to_float(self.images.permute(0, 2, 3, 1))
        return self.images

    def fractions(self) -> Tensor:
        """Returns the boxes as centre, width and height, in fractions of the image's size."""
        # Python numbers become arguments of a kernel: a tensor would have to be copied first.
        x, y, width, height = xyxy_to_cxcywh(self.boxes).unbind(-1)
        return torch.stack(
            (x / self.width, y / self.height, width / self.width, height / self.height), dim=-1
        )

    def ids(self, image_ids: Mapping[str, int] | None) -> list[int]:
        """Returns the id of each image, from `image_ids` or else from `index`."""
        if image_ids is None:
            if self.index is None:
                raise ValueError(
                    "the batch has no 'index' to number its images: open the dataset with "
                    "return_index=True, as the datamodule does, or give image_ids"
                )
            return [int(number) for number in self.index.tolist()]
        if len(self.paths) != len(self.spans):
            raise ValueError("the batch has no 'image_path' to look up in image_ids")
        missing = [path for path in self.paths if path not in image_ids]
        if missing:
            raise ValueError(
                f"image_ids has no id for {missing[0]!r}; its keys must be the paths in "
                "'image_path', which are relative to the raw directory"
            )
        return [image_ids[path] for path in self.paths]


def read_detector_batch(batch: Mapping[str, Any]) -> DetectorBatch:
    """Checks a batch and joins the annotations of its valid samples."""
    images = _channels_first(batch["image"])
    boxes = batch.get("bboxes")
    if not isinstance(boxes, Sequence):
        found = "no 'bboxes'" if boxes is None else f"'bboxes' of type {type(boxes).__name__}"
        raise TypeError(
            f"expected a batch of the detector, whose 'bboxes' is a list of tensors (k, 4), got "
            f"{found}; boxes of the teacher are pixels of the photograph, not of its image"
        )
    kept, index = _valid_samples(batch, len(images))
    if len(kept) < len(images):
        images = images[torch.tensor(kept, dtype=torch.int64).to(images.device)]
        index = None if index is None else index[kept]
    kept_boxes = [boxes[i] for i in kept]
    labels = batch.get("labels")
    kept_labels = [] if labels is None else [labels[i] for i in kept]
    for position, tensor in zip(kept, kept_boxes, strict=True):
        if tensor.shape[1:] != (4,):
            raise ValueError(f"bboxes[{position}] has shape {tuple(tensor.shape)}, expected (k, 4)")
        if labels is not None and len(labels[position]) != len(tensor):
            raise ValueError(
                f"sample {position} has {len(tensor)} boxes and {len(labels[position])} labels"
            )
    flat = torch.cat([images.new_zeros((0, 4), dtype=torch.float32), *kept_boxes]).float()
    flat_labels = flat.new_zeros(len(flat), dtype=torch.int64)  # one category has no labels
    if kept_labels:
        flat_labels = torch.cat(kept_labels).to(torch.int64)
    paths = batch.get("image_path", ())
    return DetectorBatch(
        images=images,
        boxes=flat,
        labels=flat_labels,
        spans=_spans([len(tensor) for tensor in kept_boxes]),
        paths=[paths[i] for i in kept] if paths else [],
        index=index,
    )


def _valid_samples(batch: Mapping[str, Any], count: int) -> tuple[list[int], Tensor | None]:
    """Returns the positions of the valid samples, and `index` on the host.

    Both travel to the host together, because each copy from an accelerator waits for it.
    """
    valid, index = batch.get("valid"), batch.get("index")
    given = [tensor.to(torch.int64) for tensor in (valid, index) if tensor is not None]
    if not given:
        return list(range(count)), None
    on_host = torch.stack(given).cpu()
    kept = list(range(count))
    if valid is not None:
        kept = [i for i, is_valid in enumerate(on_host[0].tolist()) if is_valid]
    return kept, None if index is None else on_host[-1]


def _channels_first(images: Any) -> Tensor:
    """Returns images as (B, C, H, W), a view; only images of the loaders are (B, H, W, C)."""
    if not isinstance(images, Tensor) or not (
        images.dtype == torch.uint8 or images.is_floating_point()
    ):
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"'image' must be a tensor of uint8 or floats, got {found}")
    expected = "(B, H, W, 3)" if images.dtype == torch.uint8 else "(B, 3, H, W)"
    channels = images.shape[-1 if images.dtype == torch.uint8 else 1] if images.ndim == 4 else 0
    if channels != 3:
        raise ValueError(f"'image' has shape {tuple(images.shape)}, expected {expected}")
    return images.permute(0, 3, 1, 2) if images.dtype == torch.uint8 else images


def _spans(lengths: Sequence[int]) -> list[tuple[int, int]]:
    spans, start = [], 0
    for length in lengths:
        spans.append((start, start + length))
        start += length
    return spans
