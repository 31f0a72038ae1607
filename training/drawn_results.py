"""Draws a prediction on the user's own photograph."""

from __future__ import annotations

import cv2
import numpy as np

from models.model import PREDICTION
from models.results import DetectorResult, LandmarkerResult, Result, TeacherResult
from processing.imaging.decoding import decode, read_header
from processing.imaging.drawing import Colour, Image, draw_box, draw_points

LONGEST_SIDE = 1280
"""Larger photographs are drawn at this size, in pixels: text and lines stay readable."""
SHORTEST_SIDE = 480
"""Photographs whose longer side is shorter are enlarged to this size."""

_COLOURS: tuple[Colour, ...] = (
    PREDICTION,
    (35, 110, 240),
    (230, 120, 0),
    (150, 60, 200),
    (0, 130, 130),
    (190, 30, 120),
    (120, 90, 20),
    (70, 70, 70),
)
"""Colours of categories, in turns; white text is readable on each."""


def draw_result(data: bytes, result: Result, threshold: float) -> Image:
    """Draw a prediction on its photograph, upright, at most `LONGEST_SIDE` pixels long.

    Args:
        data: the image file.
        result: the prediction for it.
        threshold: the lowest score of a box that is drawn.

    Returns:
        A new image, uint8 (H, W, 3) RGB.

    Raises:
        ImageError: the file is damaged.
    """
    picture, scale = _decode(data)
    if isinstance(result, DetectorResult):
        shown = np.flatnonzero(result.scores >= threshold)
        for i in shown[::-1]:  # the most certain ones last, on top
            colour = _COLOURS[int(result.labels[i]) % len(_COLOURS)]
            text = f"{result.names[i]} {result.scores[i]:.2f}"
            draw_box(picture, result.boxes[i] * scale, colour, text)
    elif isinstance(result, LandmarkerResult):
        draw_points(picture, result.points.reshape(-1, 2) * scale, PREDICTION)
    elif isinstance(result, TeacherResult):
        shown_parts = result.shown.reshape(-1, *result.shown.shape[-2:])
        drawn_parts = result.reconstruction.reshape(shown_parts.shape)
        return np.hstack([shown_parts, drawn_parts])
    return picture


def _decode(data: bytes) -> tuple[Image, float]:
    """Return a photograph at the size of its drawing, and the scale of its coordinates."""
    header = read_header(data)
    longest = max(header.upright_size)
    fitting = [one for one in (8, 4, 2) if longest / one >= LONGEST_SIDE]
    photo = decode(data, header, reduction=max(fitting, default=1))
    size = min(max(longest, SHORTEST_SIDE), LONGEST_SIDE)
    scale = size / longest
    height, width = (max(1, round(side * scale)) for side in header.upright_size)
    if photo.pixels.shape[:2] == (height, width):
        return photo.pixels.copy(), scale
    method = cv2.INTER_AREA if photo.pixels.shape[1] > width else cv2.INTER_CUBIC
    resized = cv2.resize(photo.pixels, (width, height), interpolation=method)
    return np.asarray(resized, np.uint8), scale
