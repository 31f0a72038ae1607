"""The last steps of a batch: checks on the host, and one form for all batches on the device.

All functions are pure. Nothing waits for the device: whatever has to look at values is done before
the transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datamodules.transforms import to_float
from processing.datasets.batch import TensorList

if TYPE_CHECKING:
    from datamodules.keypoint_names import AnyDataset


def check_stored_images(dataset: AnyDataset, file: object, setting: str) -> None:
    """Checks that the images of files can be converted without a transform.

    Args:
        dataset: its dtype and shape of images are checked; no image is read.
        file: for the message.
        setting: argument of the datamodule that takes a transform for this split.

    Raises:
        ValueError: the images are neither uint8 nor floats.
    """
    dtype = dataset.layout.image_dtype
    if dtype.name == "uint8" or dtype.kind == "f":
        return
    raise ValueError(
        f"{file}: expected images of uint8 from 0 to 255, or finite floats, found {dtype}: their "
        "range is not known. Convert the file, or scale the images yourself with train_transform "
        f"and val_transform, here {setting}: for example a function that returns "
        "{**sample, 'image': sample['image'].astype('float32') / 65535}"
    )


def has_images(batch: Any) -> bool:
    """Checks whether a batch is a dict with images, as the loaders of this package yield it."""
    return isinstance(batch, dict) and isinstance(batch.get("image"), Tensor)


def parts_of(batch: Any) -> Sequence[Any]:
    """Returns the batches that a `CombinedLoader` has joined; usually the batch itself.

    Args:
        batch: a batch, or a dict or list of batches, of which some may be None.
    """
    if has_images(batch) or not isinstance(batch, dict | list | tuple):
        return [batch]
    parts = list(batch.values()) if isinstance(batch, dict) else list(batch)
    is_joined = any(map(has_images, parts)) and all(
        part is None or has_images(part) for part in parts
    )
    return parts if is_joined else [batch]


def change_parts(batch: Any, change: Callable[[Any], Any]) -> Any:
    """Changes a batch, or each of the batches that `parts_of` finds in it.

    Returns:
        The changed batch; a dict or list of the changed batches if there are several.
    """
    parts = parts_of(batch)
    if len(parts) == 1 and parts[0] is batch:
        return change(batch)
    changed = [None if part is None else change(part) for part in parts]
    return dict(zip(batch, changed, strict=True)) if isinstance(batch, dict) else changed


def check_batch(batch: Mapping[str, Any], source: str) -> None:
    """Checks the images of a batch on the host.

    Args:
        batch: as a loader yields it. uint8 images cost nothing.
        source: files or setting that the images come from, for the message.

    Raises:
        ValueError: an image has NaN or infinity.
    """
    image = batch["image"]
    if not image.is_floating_point():
        return
    is_finite = torch.isfinite(image).flatten(1).all(dim=1)
    if not bool(is_finite.all()):
        row = int(is_finite.int().argmin())
        raise ValueError(
            f"{source}: the image of sample {int(batch['index'][row])} "
            f"({batch['image_path'][row]}) has NaN or infinity: expected finite floats, which are "
            "not divided by 255. Mend the file, or replace the values in a transform"
        )


def finish_batch(batch: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Returns a batch with float images, labels, and the mark of repeated samples.

    Args:
        batch: on its device; see `to_float` for its images.
        task: of the samples.

    Returns:
        A new dict: `image` float32 (B, C, H, W); `labels` int64, zeros if the batch has none, as a
        `TensorList` for a detector and (B,) for other tasks; `valid` bool (B,), True unless the
        loader has set it; all else as it was.
    """
    image = to_float(batch["image"])
    finished = {**batch, "image": image}
    if "labels" not in batch:
        finished["labels"] = _zeros(batch, task)
    if "valid" not in batch:
        finished["valid"] = torch.ones(len(image), dtype=torch.bool, device=image.device)
    return finished


def finish_users_batch(batch: Any) -> Any:
    """Returns a batch of the user's own `collate_fn`: only uint8 images in a dict are converted.

    Raises:
        ValueError: `image` is uint8, and its shape is neither (B, H, W, C) nor (B, C, H, W).
    """
    image = batch.get("image") if isinstance(batch, dict) else None
    if not isinstance(image, Tensor) or image.dtype != torch.uint8:
        return batch
    if image.ndim != 4:
        raise ValueError(
            f"collate_fn: 'image' is uint8 {tuple(image.shape)}; expected (B, H, W, C) or "
            "(B, C, H, W). Stack the images, or return floats, which are not changed"
        )
    return {**batch, "image": to_float(image)}


def _zeros(batch: Mapping[str, Any], task: str) -> Tensor | TensorList:
    """Returns the labels of data with a single category."""
    device = batch["image"].device
    if task != "detector":
        return torch.zeros(len(batch["image"]), dtype=torch.int64, device=device)
    lengths = [boxes.shape[0] for boxes in batch["bboxes"]]
    return TensorList.split(torch.zeros(sum(lengths), dtype=torch.int64, device=device), lengths)
