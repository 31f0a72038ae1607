"""Batches of the detector in the form that other trainers ask for.

Each function takes a batch as `LazyNPZDataModule` delivers it, or as a loader of `processing`
yields it, and returns new containers; the batch stays as it is. All functions are pure.

The stored image is the image of all targets: boxes are in its pixels, or fractions of its width and
height, and a letterbox's grey border is a part of it. `LazyNPZDataset.to_source` maps boxes, and
the boxes that a trainer predicts, to pixels of the photograph.

Samples that `valid` marks as repeated are left out. Flagged boxes, such as COCO's crowds, are left
out when data is processed, so none is a crowd (see `keep_flagged` of `DataProcessor` to keep them
as ordinary boxes). The files hold no masks, so an area is the area of a box.

On an accelerator each call waits once for the device, if the batch has `valid` or a result holds
plain numbers: which samples are left out decides the shape of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from datamodules.detector_batch import (
    DetectorBatch,
    cxcywh_to_xyxy,
    read_detector_batch,
    xyxy_to_cxcywh,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "cxcywh_to_xyxy",
    "to_detr",
    "to_rfdetr",
    "to_torchvision",
    "to_ultralytics",
    "xyxy_to_cxcywh",
]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
"""Mean of each channel, of images from 0 to 1, that DETR's backbones were trained with."""
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Standard deviation that belongs to `IMAGENET_MEAN`."""


def to_torchvision(
    batch: Mapping[str, Any], *, image_ids: Mapping[str, int] | None = None
) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Converts a batch for torchvision's detection models, such as Faster R-CNN.

    The contract is that of `torchvision.models.detection.fasterrcnn_resnet50_fpn` (images, boxes,
    labels) and of torchvision's tutorial "TorchVision Object Detection Finetuning" (image_id, area,
    iscrowd, which its evaluation reads). A model has ``datamodule.num_classes + 1`` classes,
    because class 0 is the background.

    Args:
        batch: a detector's batch.
        image_ids: the id of each image by its `image_path`, for example from a COCO file. None: the
            position in the split's dataset (`index`).

    Returns:
        The images, each float (3, H, W), 0 to 1, views of the batch's; and for each a dict:
        ``boxes`` float32 (k, 4), x1, y1, x2, y2 in pixels; ``labels`` int64 (k,), 1 for the first
        category; ``image_id`` int; ``area`` float32 (k,), square pixels; ``iscrowd`` uint8 (k,),
        zeros.

    Raises:
        TypeError: images or boxes have another type than a detector's.
        ValueError: they have another shape, or `image_ids` lacks an image.

    Example:
        >>> batch = {
        ...     "image": torch.zeros(1, 3, 8, 8),
        ...     "bboxes": [torch.tensor([[1.0, 2, 5, 4]])],
        ...     "index": torch.tensor([7]),
        ... }
        >>> images, targets = to_torchvision(batch)
        >>> targets[0]["labels"], targets[0]["image_id"], targets[0]["area"]
        (tensor([1]), 7, tensor([8.]))
    """
    given = read_detector_batch(batch)
    boxes = given.boxes
    areas = _areas(boxes)
    targets = []
    for number, (start, end) in zip(given.ids(image_ids), given.spans, strict=True):
        targets.append(
            {
                "boxes": boxes[start:end],
                "labels": given.labels[start:end] + 1,
                "image_id": number,
                "area": areas[start:end],
                "iscrowd": boxes.new_zeros(end - start, dtype=torch.uint8),
            }
        )
    return list(given.float_images()), targets


def to_detr(
    batch: Mapping[str, Any],
    *,
    image_ids: Mapping[str, int] | None = None,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> dict[str, Any]:
    """Converts a batch for the DETR family of Hugging Face transformers: ``model(**result)``.

    The contract is that of `DetrForObjectDetection.forward` (pixel_values, pixel_mask, labels with
    class_labels and boxes) and of the encodings that `DetrImageProcessor` makes of COCO's
    annotations (all other fields). ``orig_size`` is the stored image's size, so that
    `post_process_object_detection` with it returns pixels of the stored image.

    Args:
        batch: a detector's batch.
        image_ids: as for `to_torchvision`.
        mean: of each channel, subtracted from images that go from 0 to 1; the default is that of
            `DetrImageProcessor`. None leaves images from 0 to 1, as RT-DETR expects them.
        std: of each channel, to divide by.

    Returns:
        ``pixel_values`` float (B, 3, H, W); ``pixel_mask`` int64 (B, H, W), ones, because no image
        is padded to the size of another one; ``labels``, a list of B dicts with ``class_labels``
        int64 (k,), 0 for the first category; ``boxes`` float32 (k, 4), centre x, centre y, width
        and height as fractions of the image's width and height; ``image_id`` int64 (1,); ``area``
        float32 (k,), square pixels; ``iscrowd`` int64 (k,), zeros; ``orig_size`` and ``size`` int64
        (2,), height and width.

    Raises:
        TypeError: images or boxes have another type than a detector's.
        ValueError: they have another shape, or `image_ids` lacks an image.
    """
    given = read_detector_batch(batch)
    pixels = _normalized(given.float_images(), mean, std)
    mask = torch.ones_like(pixels[:, 0], dtype=torch.int64)
    return {
        "pixel_values": pixels,
        "pixel_mask": mask,
        "labels": _detr_targets(given, image_ids, labels_name="class_labels"),
    }


def to_rfdetr(
    batch: Mapping[str, Any],
    *,
    image_ids: Mapping[str, int] | None = None,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> tuple[Tensor, Tensor, list[dict[str, Tensor]]]:
    """Converts a batch for the original DETR and for rf-detr.

    The contract is that of ``datasets/coco.py`` and ``util/misc.py`` (`NestedTensor`) in
    facebookresearch/detr and roboflow/rf-detr. It differs from `to_detr` in two names, and in the
    meaning of the mask.

    Args:
        batch: a detector's batch.
        image_ids: as for `to_torchvision`.
        mean: as for `to_detr`.
        std: as for `to_detr`.

    Returns:
        Images float (B, 3, H, W); mask bool (B, H, W), True where a pixel is padding, so False
        everywhere: the two arguments of `NestedTensor`; and B dicts as in `to_detr`, with
        ``labels`` instead of ``class_labels``.

    Raises:
        TypeError: images or boxes have another type than a detector's.
        ValueError: they have another shape, or `image_ids` lacks an image.
    """
    given = read_detector_batch(batch)
    pixels = _normalized(given.float_images(), mean, std)
    mask = torch.zeros_like(pixels[:, 0], dtype=torch.bool)
    return pixels, mask, _detr_targets(given, image_ids, labels_name="labels")


def to_ultralytics(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a batch for Ultralytics' detection models and trainers.

    The contract is that of `YOLODataset.collate_fn` (ultralytics/data/dataset.py) and of
    `v8DetectionLoss`, which `model.loss` calls. Images keep their scale: floats from 0 to 1 of the
    datamodule are ready for `model.loss`; uint8 images of a loader are ready for
    `DetectionTrainer.preprocess_batch`, which divides by 255.

    Args:
        batch: a detector's batch.

    Returns:
        ``img`` (B, 3, H, W), float or uint8 as the batch; ``cls`` float32 (n, 1), 0 for the first
        category; ``bboxes`` float32 (n, 4), centre x, centre y, width and height as fractions of
        the image's width and height; ``batch_idx`` float32 (n,), the position in ``img`` of the
        image that each of the n boxes belongs to; ``im_file``, a list of paths, and, for the
        validator, ``ori_shape`` and ``resized_shape``, lists of (height, width), and ``ratio_pad``,
        a list of ((1.0, 1.0), (0.0, 0.0)): neither scaled nor padded.

    Raises:
        TypeError: images or boxes have another type than a detector's.
        ValueError: they have another shape.

    Example:
        >>> batch = {
        ...     "image": torch.zeros(2, 3, 10, 20),
        ...     "bboxes": [torch.zeros(0, 4), torch.tensor([[0.0, 0, 10, 5]])],
        ... }
        >>> result = to_ultralytics(batch)
        >>> result["batch_idx"], result["bboxes"]
        (tensor([1.]), tensor([[0.2500, 0.2500, 0.5000, 0.5000]]))
    """
    given = read_detector_batch(batch)
    numbers = [
        float(position)
        for position, (start, end) in enumerate(given.spans)
        for _ in range(start, end)
    ]
    shape = (given.height, given.width)
    count = len(given.spans)
    return {
        "img": given.images,
        "cls": given.labels.float()[:, None],
        "bboxes": given.fractions(),
        # Such a small copy does not wait for the device.
        "batch_idx": torch.tensor(numbers).to(given.boxes.device, non_blocking=True),
        "im_file": given.paths,
        "ori_shape": [shape] * count,
        "resized_shape": [shape] * count,
        "ratio_pad": [((1.0, 1.0), (0.0, 0.0))] * count,
    }


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _normalized(images: Tensor, mean: Sequence[float] | None, std: Sequence[float]) -> Tensor:
    """Subtracts the mean of each channel and divides by its standard deviation."""
    if mean is None:
        return images
    centre, spread = (images.new_tensor(values)[:, None, None] for values in (mean, std))
    return (images - centre) / spread


def _detr_targets(
    given: DetectorBatch, image_ids: Mapping[str, int] | None, *, labels_name: str
) -> list[dict[str, Tensor]]:
    """Returns the targets that all members of the DETR family share."""
    device = given.boxes.device
    numbers = torch.tensor(given.ids(image_ids), dtype=torch.int64).to(device, non_blocking=True)
    size = torch.tensor([given.height, given.width]).to(device, non_blocking=True)
    boxes, areas = given.fractions(), _areas(given.boxes)
    targets = []
    for position, (start, end) in enumerate(given.spans):
        targets.append(
            {
                "image_id": numbers[position : position + 1],
                labels_name: given.labels[start:end],
                "boxes": boxes[start:end],
                "area": areas[start:end],
                "iscrowd": areas.new_zeros(end - start, dtype=torch.int64),
                "orig_size": size.clone(),
                "size": size.clone(),
            }
        )
    return targets
