"""Turns the images that a user gives to `predict` into the input of a model.

The geometry is that of the processor: a photograph is turned upright, and a rectangle of it is
rendered at the size of the training images, padded with grey where it leaves the photograph.
Predictions are mapped back by the rectangle that was really rendered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from processing.core.coordinates import Rect, Size
from processing.core.errors import ImageError
from processing.imaging.decoding import decode, read_header
from processing.imaging.photo import Photo
from processing.imaging.placement import crop_rect, largest_reduction, letterbox_rect
from processing.imaging.reading import read_inside
from processing.imaging.resizing import render

ImageInput: TypeAlias = str | os.PathLike[str] | NDArray[Any] | Tensor
"""One image: a path, uint8 (H, W, 3) RGB, or a tensor (3, H, W), uint8 or float in [0, 1]."""

_EXPECTED = (
    "expected a path, a uint8 array (H, W, 3) in RGB, a tensor (3, H, W), or several of these"
)
_CHANNELS = (1, 3, 4)  # grey, RGB, RGB with alpha
_RANGE_TOLERANCE = 1e-3  # by how much a float image may leave [0, 1], as after a cubic resize


class ModelInput(NamedTuple):
    """The views of one image that go through a model.

    Args:
        pixels: float32 (n, 3, H, W) in [0, 1], on the host.
        rects: float64 (n, 4): the rectangle of the upright image that each view shows.
        size: height, width of the upright image.
        path: the path as it was given; ``""`` for an array.
        is_single: whether the result has no axis of views, because no list of boxes was given.
    """

    pixels: Tensor
    rects: NDArray[np.float64]
    size: Size
    path: str = ""
    is_single: bool = True

    @property
    def input_size(self) -> Size:
        """Height, width of the views."""
        height, width = self.pixels.shape[-2:]
        return height, width


def prepare(
    image: ImageInput, size: Size, *, margin: float = 0.0, boxes: ArrayLike | None = None
) -> ModelInput:
    """Render one image as the input of a model.

    Args:
        image: the image, of any size.
        size: height, width of the model's input.
        margin: added on each side of a box, as a fraction of the box's width and height.
        boxes: (4,) or (k, 4) x1, y1, x2, y2 in pixels of the upright image; each gives a view.
            None: the whole image is the only view.

    Raises:
        ImageError: the file is missing, unreadable or damaged.
        TypeError: `image` is of another type.
        ValueError: `image` has another shape or range, or a box shows nothing of the image.
    """
    if isinstance(image, str | os.PathLike):
        return _prepare_file(os.fspath(image), size, margin, boxes)
    if not isinstance(image, np.ndarray | Tensor):
        raise TypeError(f"got {type(image).__name__}: {_EXPECTED}")
    pixels = _channels_last(image)
    source_size: Size = pixels.shape[:2]
    if pixels.dtype != np.uint8:
        _check_range(pixels)
        if boxes is None and source_size == size:
            # Rounding to uint8 would change the input; nothing has to be rendered.
            exact = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
            return ModelInput(exact, np.array([[0.0, 0.0, size[1], size[0]]]), size)
        pixels = (pixels * 255).round().clip(0, 255).astype(np.uint8)
    rects = _rects(source_size, size, margin, boxes)
    photo = Photo(np.ascontiguousarray(pixels), source_size)
    return _rendered(photo, rects, size, "", boxes)


def _prepare_file(path: str, size: Size, margin: float, boxes: ArrayLike | None) -> ModelInput:
    data = read_photograph(path)
    try:
        header = read_header(data)
        rects = _rects(header.upright_size, size, margin, boxes)
        # The processor decodes a JPEG as coarsely as its size allows; so the pixels are the same.
        largest = [largest_reduction(rect, header.upright_size, size) for rect in rects]
        photo = decode(data, header, reduction=min(largest, default=1))
    except ImageError as error:
        raise ImageError(f"{path}: {error}", error.reason) from error
    return _rendered(photo, rects, size, path, boxes)


def read_photograph(path: str) -> bytes:
    """Return the bytes of an image file.

    Raises:
        ImageError: the file is missing, unreadable, a folder, or too large.
    """
    folder, name = os.path.split(path)
    try:
        return read_inside(Path(folder or "."), name, hint="check the path")
    except ImageError as error:
        raise ImageError(f"{path}: {error}", error.reason) from error


def _rects(size: Size, out_size: Size, margin: float, boxes: ArrayLike | None) -> list[Rect]:
    """Return the rectangles to render.

    Raises:
        ValueError: `boxes` have another shape, are not finite, or are inverted.
    """
    if boxes is None:
        return [letterbox_rect(size, out_size)]
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0 and array.ndim in (1, 2):
        return []
    if array.ndim not in (1, 2) or array.shape[-1] != 4:
        raise ValueError(f"boxes of shape {array.shape}: expected (4,) or (k, 4) for each image")
    array = array.reshape(-1, 4)
    sound = np.isfinite(array).all(axis=1) & (array[:, 2:] >= array[:, :2]).all(axis=1)
    if not sound.all():
        raise ValueError(f"box {array[~sound][0].tolist()}: expected finite x1 <= x2 and y1 <= y2")
    return [crop_rect(box, margin, out_size) for box in array]


def _rendered(
    photo: Photo, rects: list[Rect], size: Size, path: str, boxes: ArrayLike | None
) -> ModelInput:
    images = np.empty((len(rects), *size, 3), np.uint8)
    shown = np.empty((len(rects), 4))
    for i, rect in enumerate(rects):
        rendered = render(photo, rect, size, images[i])
        if rendered is None:
            height, width = photo.source_size
            raise ValueError(
                f"{path or 'the image'}: box {np.asarray(boxes).reshape(-1, 4)[i].tolist()} shows "
                f"nothing of the image of {width}x{height} pixels"
            )
        shown[i] = rendered
    is_single = boxes is None or np.ndim(boxes) == 1
    return ModelInput(
        as_floats(torch.from_numpy(images)), shown, photo.source_size, path, is_single
    )


def as_floats(images: Tensor) -> Tensor:
    """Return stored images, uint8 (B, H, W, 3), as float (B, 3, H, W) in [0, 1].

    Other images are returned as they are: a data module has converted them already.
    """
    if images.dtype == torch.uint8 and images.ndim == 4 and images.shape[-1] == 3:
        return images.permute(0, 3, 1, 2).div(255)
    return images


def _channels_last(image: NDArray[Any] | Tensor) -> NDArray[Any]:
    """Return an image as an array (H, W, 3), a view where possible.

    Raises:
        TypeError: the dtype is neither uint8 nor a float.
        ValueError: the shape is not that of an image.
    """
    is_tensor = isinstance(image, Tensor)
    array: NDArray[Any]
    if isinstance(image, Tensor):
        host = image.detach().cpu()
        array = (host.float() if host.is_floating_point() else host).numpy()
    else:
        array = image
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise TypeError(
            f"an image of {array.dtype}: expected uint8, 0 to 255, or a float in [0, 1]"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"an image of shape {tuple(array.shape)}: {_EXPECTED}")
    # Tensors usually have the channels first, arrays last.
    for axis in (0, 2) if is_tensor else (2, 0):
        if array.shape[axis] in _CHANNELS:
            array = np.moveaxis(array, axis, 2)[..., :3]  # alpha is dropped, as by the processor
            return np.broadcast_to(array, (*array.shape[:2], 3))
    raise ValueError(f"an image of shape {tuple(array.shape)}: {_EXPECTED}")


def _check_range(pixels: NDArray[Any]) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    # Not `low < 0`: a comparison with NaN is false.
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
        raise ValueError(
            f"a float image with values from {low:g} to {high:g}: expected finite values in "
            "[0, 1], or uint8; divide by 255, and do not subtract a mean"
        )


def split_images(images: Any) -> tuple[Iterator[ImageInput], bool]:
    """Return an iterator over the single images, and whether one image was given, not several.

    Raises:
        TypeError: `images` is none of the types that `predict` takes.
    """
    if isinstance(images, str | os.PathLike):
        return iter([images]), True
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim == 4:
            return iter(images), False
        return iter([images]), True
    if isinstance(images, Mapping):
        raise TypeError(
            "got a batch: predict takes images, such as batch['image']; for scores with the truth "
            "call evaluate(batch)"
        )
    if not isinstance(images, Iterable) or isinstance(images, bytes):
        hint = ""
        if hasattr(images, "convert"):  # Pillow's image
            hint = "; for an image of Pillow give np.asarray(image.convert('RGB'))"
        raise TypeError(f"got {type(images).__name__}: {_EXPECTED}{hint}")
    return iter(images), False
