"""Processing of a batch on the device: conversion to float, and augmentation.

All functions are pure; none uses a global random generator. The random numbers of a sample are a
hash of (seed, epoch, sample index), so they do not depend on workers, ranks, batch size or device.
Only scale, rotate and translate wait for the device, and only where there are boxes: the number of
boxes that stay inside an image must be known on the host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from datamodules import geometry
from processing.core.arguments import check_number
from processing.core.channels import stored_channel_axis
from processing.datasets.batch import TensorList

_DRAWS: Final = 3
"""Random numbers per sample: for flip, brightness and contrast."""


def to_float(images: Tensor) -> Tensor:
    """Converts images to the input of a model.

    Args:
        images: uint8 from 0 to 255, or floats, which are not divided. (B, H, W, C), or (B, C, H, W)
            if only that can be meant: 1, 3 or 4 channels in the first place and not in the last.

    Returns:
        float32 (B, C, H, W) in channels_last memory; from uint8 it is 0 to 1. The permutation is
        only a view, so the pixels are passed over once. Grey images get three equal channels.
    """
    if stored_channel_axis(images.shape[1:]) == 2:
        images = images.permute(0, 3, 1, 2)
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    floats = images.div(255) if images.dtype == torch.uint8 else images.float()
    return floats.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Augmentation:
    """Changes training batches at random; boxes and points move with the images.

    Args:
        horizontal_flip: probability that a sample is mirrored left to right, 0 to 1. None: 0.5 if
            the data can be mirrored, else 0. Keypoints can if `keypoint_names` tell left from
            right; a datamodule gives the names of its data, and knows those of 68 unnamed points.
        brightness: largest shift of all values, as a fraction of white; not negative.
        contrast: largest relative change of the distance from mid-grey; not negative.
        keypoint_names: names of the points in their order, needed to mirror them: the points named
            left and right change places. None: the names in the data file.
        scale: largest relative enlargement; the factor is between 1 / (1 + scale) and 1 + scale.
        rotate: largest rotation in degrees, in both directions, 0 to 180. A rotated box becomes the
            smallest box around it, which is larger than the object.
        translate: largest shift in each direction, as a fraction of the image's sides, 0 to 1.
        saturation: largest relative change of the difference from grey, 0 to 1.
        greyscale: probability that a sample loses its colours, 0 to 1.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range. When called: the names do not tell left from right.

    Example:
        >>> augment = Augmentation(horizontal_flip=1.0)
        >>> image = torch.tensor([[[[0.0, 1.0]]]])
        >>> batch = augment({"image": image, "index": torch.tensor([0])}, seed=0, epoch=0)
        >>> batch["image"].flatten().tolist()
        [1.0, 0.0]
    """

    horizontal_flip: float | None = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    keypoint_names: Sequence[str] | None = None
    scale: float = 0.0
    rotate: float = 0.0
    translate: float = 0.0
    saturation: float = 0.0
    greyscale: float = 0.0

    def __post_init__(self) -> None:
        if self.horizontal_flip is not None:
            check_number("horizontal_flip", self.horizontal_flip, least=0, most=1)
        check_number("brightness", self.brightness, least=0)
        check_number("contrast", self.contrast, least=0)
        check_number("scale", self.scale, least=0)
        check_number("rotate", self.rotate, least=0, most=180)
        check_number("translate", self.translate, least=0, most=1)
        check_number("saturation", self.saturation, least=0, most=1)
        check_number("greyscale", self.greyscale, least=0, most=1)

    @cached_property
    def mirrored_order(self) -> list[int]:
        """For each point of a mirrored sample, the position of the point that takes its place."""
        return mirrored_order(self.keypoint_names or ())

    def __call__(self, batch: Mapping[str, Any], *, seed: int, epoch: int) -> dict[str, Any]:
        """Returns a changed copy of a batch.

        Args:
            batch: `image` float (B, C, H, W), 0 to 1; `index` int64 (B,); perhaps `keypoints` float
                (B, K, 3), `bboxes` and `labels`. A list of boxes is in pixels of these images and
                moves with them; boxes of which less than 40 % stay inside are dropped, with their
                labels. A tensor of boxes, as a teacher has it, is in pixels of the source image
                and stays. Everything else is passed on.
            seed: of the run; not negative.
            epoch: of the training; not negative.

        Returns:
            A new dict; the tensors of `batch` are unchanged.
        """
        flip, brightness, contrast = _uniform(batch["index"], seed=seed, epoch=epoch)
        changed = dict(batch)
        probability = self.horizontal_flip
        if probability is None:
            probability = (
                0.5 if "keypoints" not in batch or can_mirror(self.keypoint_names) else 0.0
            )
        if probability:
            changed |= self._mirror(batch, flip < probability)
        if self.scale or self.rotate or self.translate:
            changed |= self._warp(changed, seed=seed, epoch=epoch)
        if self.saturation or self.greyscale:
            changed["image"] = self._tint(changed["image"], batch["index"], seed=seed, epoch=epoch)
        if self.brightness or self.contrast:
            scale = 1 + self.contrast * (2 * contrast - 1)
            # Contrast is relative to 0.5 and not to the mean of the image. A mean is rounded in a
            # different way on each device and for each batch size.
            shift = self.brightness * (2 * brightness - 1) + (0.5 - 0.5 * scale)
            image = changed["image"]
            scale, shift = (x.to(image.dtype)[:, None, None, None] for x in (scale, shift))
            changed["image"] = image.mul(scale).add_(shift).clamp_(0, 1)
        return changed

    def _tint(self, image: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Changes how colourful the samples are; some become grey."""
        amount, grey = _uniform(index, seed=seed, epoch=epoch, draws=2, stream=(2,))
        factor = 1 + self.saturation * (2 * amount - 1)
        factor = torch.where(grey < self.greyscale, torch.zeros_like(factor), factor)
        mean = image.mean(dim=1, keepdim=True)
        return torch.lerp(mean, image, factor.to(image.dtype)[:, None, None, None]).clamp_(0, 1)

    def _warp(self, batch: Mapping[str, Any], *, seed: int, epoch: int) -> dict[str, Any]:
        """Scales, rotates and shifts the samples of a batch."""
        image = batch["image"]
        size = image.shape[2:]
        draws = _uniform(batch["index"], seed=seed, epoch=epoch, draws=4, stream=(1,))
        transforms = geometry.random_transforms(
            draws, size, scale=self.scale, rotate=self.rotate, translate=self.translate
        )
        changed: dict[str, Any] = {"image": geometry.warp_images(image, transforms)}
        if isinstance(boxes := batch.get("bboxes"), list):
            changed["bboxes"], kept = geometry.warp_boxes(boxes, transforms, size)
            if "labels" in batch:
                changed["labels"] = geometry.kept_labels(batch["labels"], kept)
        if (points := batch.get("keypoints")) is not None:
            changed["keypoints"] = geometry.warp_points(points, transforms, size)
        return changed

    def _mirror(self, batch: Mapping[str, Any], mirrored: Tensor) -> dict[str, Any]:
        image = batch["image"]
        width = image.shape[-1]
        changed: dict[str, Any] = {
            "image": torch.where(mirrored[:, None, None, None], image.flip(-1), image)
        }
        if isinstance(boxes := batch.get("bboxes"), list):
            changed["bboxes"] = _mirror_boxes(boxes, mirrored, width)
        if (points := batch.get("keypoints")) is not None:
            changed["keypoints"] = _mirror_points(points, mirrored, width, self.mirrored_order)
        return changed


def mirrored_order(names: Sequence[str]) -> list[int]:
    """Returns, for each point, the position of the point that takes its place in a mirrored image.

    ``left_eye`` and ``right_eye``, ``LeftEye`` and ``RightEye``, ``eye.l`` and ``eye.r`` change
    places. A point whose name has no side keeps its place.

    Args:
        names: names of the K points.

    Returns:
        K positions in `names`, a permutation.

    Raises:
        ValueError: there are no names, a name with a side has no opposite, or there are several
            points and no name has a side.

    Example:
        >>> mirrored_order(["left_eye", "right_eye", "nose"])
        [1, 0, 2]
    """
    advice = "give Augmentation keypoint_names that say left and right, or horizontal_flip=0"
    if not names:
        raise ValueError(f"mirroring keypoints needs their names, and the data has none: {advice}")
    position = {name: i for i, name in enumerate(names)}
    opposites = [_SIDE.sub(_opposite, name) for name in names]
    unpaired = [name for name, other in zip(names, opposites, strict=True) if other not in position]
    if unpaired:
        raise ValueError(
            f"keypoint names {unpaired} have a side, but no opposite in {list(names)}: {advice}"
        )
    order = [position[name] for name in opposites]
    # Names such as "0" and "1" would leave a left eye on the right side, and training would go on.
    if len(names) > 1 and order == list(range(len(names))):
        raise ValueError(f"keypoint names {list(names)} do not tell left from right: {advice}")
    return order


def can_mirror(names: Sequence[str] | None) -> bool:
    """Checks whether points with these names can be mirrored."""
    try:
        mirrored_order(names or ())
    except ValueError:
        return False
    return True


_SIDE: Final = re.compile(r"left|right|(?<![a-z])[lr](?![a-z])", re.IGNORECASE)
_OPPOSITE: Final = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _opposite(side: re.Match[str]) -> str:
    """Returns the word for the other side, in the same case."""
    word = side.group()
    opposite = _OPPOSITE[word.lower()]
    if word.isupper():
        return opposite.upper()
    return opposite.capitalize() if word[0].isupper() else opposite


def _mirror_boxes(boxes: list[Tensor], mirrored: Tensor, width: int) -> TensorList:
    """Mirrors the boxes (k_i, 4) of each sample i where `mirrored[i]`."""
    lengths = [one.shape[0] for one in boxes]  # a quarter of the time that `len` takes
    flat = torch.cat(boxes)
    x1, y1, x2, y2 = flat.unbind(1)
    flipped = torch.stack((width - x2, y1, width - x1, y2), dim=1)
    # The lengths are known on the host. Without `output_size`, the host would have to wait for the
    # device to add them up.
    repeats = torch.tensor(lengths).to(flat.device, non_blocking=True)
    chosen = mirrored.repeat_interleave(repeats, output_size=len(flat))
    return TensorList.split(torch.where(chosen[:, None], flipped, flat), lengths)


def _mirror_points(points: Tensor, mirrored: Tensor, width: int, order: list[int]) -> Tensor:
    """Mirrors the points (B, K, 3) of the samples where `mirrored`.

    Points that are not labelled (visibility 0) keep their coordinates, which are 0 by convention.
    """
    x, y, visibility = points.unbind(-1)
    flipped = torch.stack((torch.where(visibility > 0, width - x, x), y, visibility), dim=-1)
    return torch.where(mirrored[:, None, None], flipped[:, order], points)


def _uniform(
    index: Tensor, *, seed: int, epoch: int, draws: int = _DRAWS, stream: tuple[int, ...] = ()
) -> Tensor:
    """Returns the random numbers of each sample, float32 (draws, B) in [0, 1).

    The bits are the same on every device. The generator is SplitMix64 (Steele, Lea, Flood 2014);
    sample and draw give its counter; seed, epoch and stream its start.
    """
    (key,) = np.random.SeedSequence((seed, epoch, *stream)).generate_state(1, np.uint64)
    numbers = torch.arange(draws, device=index.device)
    counter = index * draws + numbers[:, None]
    state = counter * _signed(0x9E3779B97F4A7C15) + _signed(int(key))
    state = (state ^ _shift_right(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shift_right(state, 27)) * _signed(0x94D049BB133111EB)
    state = state ^ _shift_right(state, 31)
    return _shift_right(state, 64 - 24).float() * 2.0**-24  # 24 bits: what a float32 holds exactly


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shifts int64 as if it were unsigned: torch has no uint64 arithmetic on some devices."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """Returns the int64 with the bits of an unsigned 64-bit number."""
    return word - (1 << 64) if word >> 63 else word
