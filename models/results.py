"""The answers of the models: one result per image, as numpy arrays on the host.

Coordinates are pixels of the image that was given, turned upright as its EXIF tag says: y points
down, the upper left corner of the image is (0, 0).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class DetectorResult(NamedTuple):
    """The objects that a `Detector` found in one image, the most certain first.

    Args:
        boxes: float32 (k, 4) x1, y1, x2, y2 in pixels, inside the image.
        scores: float32 (k,), 0 to 1.
        labels: int64 (k,), positions in the model's `category_names`.
        names: the k names of the labels.
        size: height, width of the image.
        image_path: the path as it was given; ``""`` for an array.
        sample_index: position in the dataset; None for an image that comes from no dataset.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: list[str]
    size: tuple[int, int]
    image_path: str = ""
    sample_index: int | None = None


class LandmarkerResult(NamedTuple):
    """The landmarks that a `Landmarker` found in one image.

    Args:
        points: float32 (K, 2) x, y in pixels; (k, K, 2) if k boxes were given for the image.
        names: the K names of the landmarks.
        size: height, width of the image.
        image_path: the path as it was given; ``""`` for an array.
        sample_index: position in the dataset; None for an image that comes from no dataset.
    """

    points: NDArray[np.float32]
    names: list[str]
    size: tuple[int, int]
    image_path: str = ""
    sample_index: int | None = None


class TeacherResult(NamedTuple):
    """The reconstruction that a `Teacher` made of one image, and the code that it made it from.

    Each field has a first axis of length k if k boxes were given for the image.

    Args:
        reconstruction: uint8 (h, w, 3) RGB at the size of the model's input.
        shown: uint8 (h, w, 3): the input itself, the part of the image that was encoded.
        psnr: float32 (), peak signal-to-noise ratio of the reconstruction in dB.
        code: float32 (C, h / 16, w / 16), rounded up.
        rect: float64 (4,) x1, y1, x2, y2: the part of the image that the input shows, in pixels;
            it may reach beyond the image.
        size: height, width of the image.
        image_path: the path as it was given; ``""`` for an array.
        sample_index: position in the dataset; None for an image that comes from no dataset.
    """

    reconstruction: NDArray[np.uint8]
    shown: NDArray[np.uint8]
    psnr: NDArray[np.float32]
    code: NDArray[np.float32]
    rect: NDArray[np.float64]
    size: tuple[int, int]
    image_path: str = ""
    sample_index: int | None = None


Result = DetectorResult | LandmarkerResult | TeacherResult
