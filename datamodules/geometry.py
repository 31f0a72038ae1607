"""Random geometric changes of a batch: scale, rotation and shift of images, boxes and points.

Pure functions. Coordinates are pixels, with y downwards; (0, 0) is the upper left corner of the
image, so the centre of its first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from processing.datasets.batch import TensorList

PADDING: Final = 114 / 255
"""Grey of the area that an image does not cover: that of letterboxes."""
LEAST_VISIBLE: Final = 0.4
"""Fraction of a box's area that must stay inside the image; other boxes are dropped."""
LEAST_SIDE: Final = 2.0
"""Pixels of the shorter side of a box that stays."""


def random_transforms(
    draws: Tensor, size: Sequence[int], *, scale: float, rotate: float, translate: float
) -> Tensor:
    """Returns one affine transform per sample, around the centre of the image.

    Args:
        draws: float (4, B) in [0, 1): for scale, rotation, shift right and shift down.
        size: height and width of the images in pixels.
        scale: largest relative enlargement; the factor is between 1 / (1 + scale) and 1 + scale.
        rotate: largest angle in degrees, in both directions.
        translate: largest shift, as a fraction of the width and of the height.

    Returns:
        float (B, 2, 3): maps the points of an image to those of the changed image.
    """
    factor = torch.exp((2 * draws[0] - 1) * math.log1p(scale))
    angle = (2 * draws[1] - 1) * math.radians(rotate)
    height, width = size
    right = (2 * draws[2] - 1) * (translate * width)
    down = (2 * draws[3] - 1) * (translate * height)
    cos, sin = factor * torch.cos(angle), factor * torch.sin(angle)
    # The centre stays where it is, but for the shift.
    x = width / 2 - cos * (width / 2) + sin * (height / 2) + right
    y = height / 2 - sin * (width / 2) - cos * (height / 2) + down
    rows = [torch.stack([cos, -sin, x], dim=1), torch.stack([sin, cos, y], dim=1)]
    return torch.stack(rows, dim=1)


def warp_images(images: Tensor, transforms: Tensor) -> Tensor:
    """Returns the changed images, float (B, C, H, W), with bilinear interpolation.

    Args:
        images: float (B, C, H, W).
        transforms: (B, 2, 3), as `random_transforms` returns them.
    """
    height, width = images.shape[2:]
    # `grid_sample` asks where in the source each pixel of the result lies. Its coordinates run from
    # -1 to 1 between the outer edges of the image.
    to_pixels = images.new_tensor(
        [[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]], dtype=torch.float32
    )
    bottom = transforms.new_tensor([[[0.0, 0.0, 1.0]]]).expand(len(transforms), -1, -1)
    whole = torch.cat([transforms, bottom], dim=1)
    inverse = torch.linalg.inv(to_pixels) @ torch.linalg.inv(whole) @ to_pixels
    grid = F.affine_grid(inverse[:, :2], list(images.shape), align_corners=False)
    # The area around the image is 0 to `grid_sample`.
    moved = F.grid_sample(images - PADDING, grid.to(images.dtype), align_corners=False)
    return moved.add_(PADDING).contiguous(memory_format=torch.channels_last)


def warp_points(points: Tensor, transforms: Tensor, size: Sequence[int]) -> Tensor:
    """Returns the changed points, float (B, K, 3).

    Points that are not labelled (visibility 0) stay. Points that leave the image become unlabelled.

    Args:
        points: float (B, K, 3) x, y, visibility.
        transforms: (B, 2, 3).
        size: height and width of the images in pixels.
    """
    moved = _apply(points[..., :2], transforms)
    limits = moved.new_tensor([size[1], size[0]])
    inside = ((moved >= 0) & (moved <= limits)).all(dim=-1, keepdim=True)
    labelled = points[..., 2:] > 0
    moved = torch.cat([moved, points[..., 2:]], dim=-1)
    return torch.where(labelled, torch.where(inside, moved, torch.zeros_like(moved)), points)


def warp_boxes(
    boxes: Sequence[Tensor], transforms: Tensor, size: Sequence[int]
) -> tuple[TensorList, list[Tensor]]:
    """Returns the changed boxes of each sample, clipped to the image, and which are kept.

    A rotated box is replaced by the smallest box around it. Boxes that are mostly outside are
    dropped: this needs their number on the host, which waits for the device.

    Args:
        boxes: (k_i, 4) x1, y1, x2, y2 of each of the B samples.
        transforms: (B, 2, 3).
        size: height and width of the images in pixels.

    Returns:
        The boxes that are left, and bool (k_i,) for each sample: whether a box is among them.
    """
    lengths = [one.shape[0] for one in boxes]
    flat = torch.cat(list(boxes))
    repeats = torch.tensor(lengths).to(flat.device, non_blocking=True)
    own = transforms.repeat_interleave(repeats, dim=0, output_size=len(flat)).to(flat.dtype)
    corners = flat[:, [0, 1, 2, 1, 0, 3, 2, 3]].view(-1, 4, 2)
    moved = _apply(corners, own)
    low, high = moved.amin(dim=1), moved.amax(dim=1)
    limits = flat.new_tensor([size[1], size[0]])
    clipped = torch.cat([low.clamp(min=0).minimum(limits), high.clamp(min=0).minimum(limits)], 1)
    sides = clipped[:, 2:] - clipped[:, :2]
    visible = sides.prod(dim=1) >= LEAST_VISIBLE * (high - low).prod(dim=1)
    kept = (visible & (sides.amin(dim=1) >= LEAST_SIDE)).cpu()
    masks = list(torch.split_with_sizes(kept, lengths))
    left = clipped[kept.to(flat.device)]
    return TensorList.split(left, [int(mask.sum()) for mask in masks]), masks


def kept_labels(labels: Sequence[Tensor], kept: Sequence[Tensor]) -> TensorList:
    """Returns the labels of the boxes that `warp_boxes` has kept."""
    lengths = [int(mask.sum()) for mask in kept]
    flat = torch.cat(list(labels))
    return TensorList.split(flat[torch.cat(list(kept)).to(flat.device)], lengths)


def _apply(points: Tensor, transforms: Tensor) -> Tensor:
    """Maps the points (n, k, 2) by the transform (n, 2, 3) of their row."""
    matrices = transforms.to(points.dtype)
    return points @ matrices[:, :, :2].transpose(1, 2) + matrices[:, None, :, 2]
