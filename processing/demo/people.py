"""Draws the people, dummies and balls of the demo.

A canvas is float32 (H, W, 3) RGB, 0 to 255, and is drawn on in place. Head units: the origin is the
centre of the head, 1 is half its height, x goes to the right and y down. Needs numpy and OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[Any]

KEYPOINT_NAMES: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Left and right are the person's own, as in COCO: the left eye is on the right of the picture."""
EXTENT: Final = 1.45
"""Half the side of a square that holds a head with hair and ears at any tilt, in head units."""
_HEAD_WIDTH: Final = 0.78
# Tones from light to dark; a random tone lies between two neighbours.
_SKIN: Final = np.array(
    [(255, 226, 202), (240, 196, 160), (222, 170, 128), (190, 130, 92), (140, 88, 58), (92, 60, 44)]
)
_HAIR: Final = np.array(
    [(28, 22, 20), (60, 40, 28), (110, 72, 40), (190, 150, 90), (150, 62, 30), (150, 150, 152)]
)
_IRIS: Final = np.array([(70, 45, 30), (60, 95, 130), (70, 110, 70), (40, 30, 25)])


def hsv(hue: float, saturation: float, value: float) -> Array:
    """Return RGB float32 (3,), 0 to 255.

    Args:
        hue: 180 is a full circle, as in OpenCV.
        saturation: 0 to 255; clipped.
        value: 0 to 255; clipped.
    """
    pixel = np.array([[[hue % 180, np.clip(saturation, 0, 255), np.clip(value, 0, 255)]]])
    rgb: Array = cv2.cvtColor(pixel.astype(np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
    return rgb


class _Sketch:
    """A square RGBA image in head units; it is drawn upright, then put into the scene with a tilt.

    Args:
        radius: pixels per unit in the scene.
    """

    def __init__(self, radius: float) -> None:
        self.radius = radius
        # Small heads are drawn at up to twice their size: features stay visible when shrunk.
        self.scale = min(2 * radius, max(radius, 56.0))
        side = int(np.ceil(2 * EXTENT * self.scale))
        self.rgb = np.zeros((side, side, 3), np.float32)
        self.alpha = np.zeros((side, side), np.float32)
        axis = (np.arange(side, dtype=np.float32) + 0.5) / self.scale - EXTENT
        self.x, self.y = axis[None, :], axis[:, None]

    def ellipse(self, centre: tuple[float, float], axes: tuple[float, float]) -> Array:
        """Return the coverage of an ellipse, float32 (side, side), 0 to 1 with a smooth edge."""
        u, v = (self.x - centre[0]) / axes[0], (self.y - centre[1]) / axes[1]
        distance = (np.sqrt(u * u + v * v) - 1) * min(axes) * self.scale
        return np.asarray(np.clip(0.5 - distance, 0, 1))

    def line(self, points: Array, thickness: float) -> Array:
        """Return the coverage of a line through points (n, 2); `thickness` is in head units."""
        # 4 fractional bits, so that lines do not jump from pixel to pixel.
        pixels = np.round((points + EXTENT) * self.scale * 16).astype(np.int32)
        mask = np.zeros(self.alpha.shape, np.uint8)
        width = max(1, round(thickness * self.scale))
        cv2.polylines(mask, [pixels], False, 255, width, cv2.LINE_AA, shift=4)
        return mask.astype(np.float32) / 255

    def paint(self, mask: Array, colour: Array, opacity: float = 1.0) -> None:
        """Paint `colour`, (3,) or (side, side, 3), where the coverage `mask` is above 0."""
        # Only the window that the mask touches: most features are small.
        x, y, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
        window = (slice(y, y + height), slice(x, x + width))
        weight = (mask[window] * np.float32(opacity))[..., None]
        over = colour.astype(np.float32)
        if colour.ndim == 3:
            over = over[window]
        under = self.rgb[window]
        under += weight * (over - under)
        self.alpha[window] = np.maximum(self.alpha[window], weight[..., 0])

    def shaded(self, colour: Array, light: Array, axes: tuple[float, float]) -> Array:
        """Return `colour` on an ellipsoid with half `axes` that is lit from `light` (3,).

        Returns:
            float32 (side, side, 3).
        """
        u, v = self.x / axes[0], self.y / axes[1]
        depth = np.sqrt(np.clip(1 - u * u - v * v, 0.03, 1))
        lambert = (u * light[0] + v * light[1] + depth * light[2]) / np.linalg.norm(light)
        brightness = np.clip(0.62 + 0.46 * lambert, 0.3, 1.1)[..., None]
        return np.asarray(brightness * colour, np.float32)

    def put(self, canvas: Array, centre: tuple[float, float], tilt: float) -> tuple[Array, Array]:
        """Draw the sketch into `canvas` around `centre`, turned by `tilt` radians clockwise.

        Returns:
            The 2x3 matrix from head units to pixels of the canvas, and the box (4,) of all pixels
            that are more than half opaque.
        """
        cos, sin = self.radius * np.cos(tilt), self.radius * np.sin(tilt)
        matrix = np.array([[cos, -sin, centre[0]], [sin, cos, centre[1]]])
        reach = int(1.5 * EXTENT * self.radius)
        left, top = max(int(centre[0]) - reach, 0), max(int(centre[1]) - reach, 0)
        window = canvas[top : int(centre[1]) + reach, left : int(centre[0]) + reach]
        # Pixel p has its centre at p + 0.5 here, but at p in OpenCV, in both images.
        from_pixels = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, self.scale]]) / self.scale
        from_pixels[:2, 2] -= EXTENT
        warp = matrix @ from_pixels
        warp[:, 2] -= (left + 0.5, top + 0.5)
        size = window.shape[1::-1]
        alpha = cv2.warpAffine(self.alpha, warp, size)
        window += alpha[..., None] * (cv2.warpAffine(self.rgb, warp, size) - window)
        x, y, width, height = cv2.boundingRect((alpha > 0.5).astype(np.uint8))
        return matrix, np.array([left + x, top + y, left + x + width, top + y + height], float)


@dataclass(frozen=True, slots=True)
class _Face:
    """Positions of the features of one face, in head units."""

    eyes: Array
    nose: Array
    mouth: Array
    smile: float

    @classmethod
    def random(cls, rng: Generator) -> _Face:
        """Return a face that looks a little to a side, with random proportions."""
        turn, nod = rng.uniform(-0.24, 0.24), rng.uniform(-0.1, 0.1)
        spread, half_mouth = rng.uniform(0.29, 0.36), rng.uniform(0.2, 0.31)
        # Perspective: the side that turns away is shorter.
        sides = np.array([-1, 1]) * (1 - 0.7 * turn * np.array([-1, 1]))
        eyes = np.stack([turn + spread * sides, np.full(2, nod - 0.1)], axis=1)
        nose = np.array([1.35 * turn, nod + rng.uniform(0.2, 0.27)])
        mouth = np.stack([1.1 * turn + half_mouth * sides, np.full(2, nod + 0.52)], axis=1)
        return cls(eyes, nose, mouth, rng.uniform(-0.08, 0.16))

    @property
    def points(self) -> Array:
        """Return the keypoints (5, 2) in the order of `KEYPOINT_NAMES`."""
        return np.concatenate([self.eyes[::-1], self.nose[None], self.mouth[::-1]])


def put_person(
    rng: Generator, canvas: Array, centre: tuple[float, float], radius: float, light: Array
) -> tuple[Array, Array]:
    """Draw a person.

    Returns:
        The box (4,) of the head with hair and ears, and its keypoints (5, 3) x, y, visibility 2, in
        pixels of the canvas.
    """
    sketch, face = _Sketch(radius), _Face.random(rng)
    skin = _tone(rng, _SKIN)
    hair = _tone(rng, _HAIR)
    _put_body(rng, canvas, centre, radius, skin)
    _draw_skull(rng, sketch, skin, hair, light)
    _draw_eyes(rng, sketch, face, hair)
    _draw_nose_and_mouth(rng, sketch, face, skin)
    matrix, box = sketch.put(canvas, centre, rng.uniform(-0.4, 0.4))
    points = face.points @ matrix[:, :2].T + matrix[:, 2]
    return box, np.column_stack([points, np.full(len(points), 2.0)])


def _tone(rng: Generator, palette: Array) -> Array:
    """Return a random colour between two neighbours of the palette."""
    position = rng.uniform(0, len(palette) - 1.001)
    low = int(position)
    mixed = palette[low] + (palette[low + 1] - palette[low]) * (position - low)
    return np.asarray(np.clip(mixed * rng.uniform(0.94, 1.06, 3), 0, 255))


def _draw_skull(rng: Generator, sketch: _Sketch, skin: Array, hair: Array, light: Array) -> None:
    """Draw hair, ears and the bare face, from back to front."""
    axes = (_HEAD_WIDTH, 1.0)
    style = rng.choice(("bald", "short", "long", "cap"), p=(0.12, 0.45, 0.28, 0.15))
    strands = 0.8 + 0.4 * rng.random((1, len(sketch.alpha), 1), dtype=np.float32)
    shaded_hair = sketch.shaded(hair, light, (1.1, 1.3)) * strands
    if style == "long":
        sketch.paint(sketch.ellipse((0, rng.uniform(-0.05, 0.12)), (0.97, 1.17)), 0.8 * shaded_hair)
    for side in (-1, 1):  # ears, in front of long hair and behind the face
        sketch.paint(sketch.ellipse((side * 0.8, 0.02), (0.13, 0.22)), 0.85 * skin)
    head = sketch.ellipse((0, 0), axes)
    sketch.paint(head, sketch.shaded(skin, light, axes))
    if style == "bald":
        return
    # Short hair is a larger ellipse without the forehead, which is cut out of it.
    crown = sketch.ellipse((0, -0.12), (0.86, 1.02))
    parting = rng.uniform(-0.25, 0.25)
    forehead = sketch.ellipse((parting, 0.42), (0.8 + abs(parting), 0.98))
    if style == "cap":
        colour = sketch.shaded(
            hsv(rng.uniform(0, 180), 170, rng.uniform(90, 230)), light, (0.95, 1.1)
        )
        sketch.paint(crown * np.clip((-0.42 - sketch.y) * sketch.scale, 0, 1), colour)
        sketch.paint(sketch.ellipse((parting, -0.45), (0.74, 0.1)), 0.7 * colour)
        return
    sketch.paint(crown * (1 - forehead) * (sketch.y < 0.1), shaded_hair)


def _draw_eyes(rng: Generator, sketch: _Sketch, face: _Face, hair: Array) -> None:
    """Draw eyes and brows, and glasses on every fifth face."""
    iris, glance = _IRIS[rng.integers(len(_IRIS))], rng.uniform(-0.03, 0.03)
    open_by, raised = rng.uniform(0.065, 0.1), rng.uniform(0.17, 0.24)
    glasses = rng.random() < 0.2
    for x, y in face.eyes:
        white = sketch.ellipse((x, y), (0.15, open_by))
        sketch.paint(sketch.ellipse((x, y), (0.175, open_by + 0.03)), np.array([60, 40, 35]), 0.55)
        sketch.paint(white, np.array([245, 243, 238]))
        sketch.paint(white * sketch.ellipse((x + glance, y), (0.08, 0.08)), iris)
        sketch.paint(
            white * sketch.ellipse((x + glance, y), (0.042, 0.042)), np.array([12, 10, 10])
        )
        sketch.paint(
            white * sketch.ellipse((x + glance - 0.03, y - 0.03), (0.02, 0.02)),
            np.array([255.0] * 3),
        )
        brow = np.array(
            [(x - 0.19, y - raised + 0.03), (x, y - raised - 0.03), (x + 0.19, y - raised + 0.03)]
        )
        sketch.paint(sketch.line(brow, 0.06), 0.7 * hair, 0.9)
        if glasses:
            ring = sketch.ellipse((x, y), (0.25, 0.22)) - sketch.ellipse((x, y), (0.215, 0.185))
            sketch.paint(ring, np.array([25, 25, 30]))
    if glasses:
        bridge = np.array([face.eyes[0] + (0.24, 0), face.eyes[1] - (0.24, 0)])
        sketch.paint(sketch.line(bridge, 0.04), np.array([25, 25, 30]))


def _draw_nose_and_mouth(rng: Generator, sketch: _Sketch, face: _Face, skin: Array) -> None:
    """Draw the nose with its shadow, and a mouth that is open on every third face."""
    x, y = face.nose
    shadow, highlight = 0.66 * skin, np.clip(1.2 * skin, 0, 255)
    bridge = np.array(
        [(face.eyes[:, 0].mean() + 0.05, y - 0.28), (x + 0.1, y - 0.02), (x, y + 0.07)]
    )
    sketch.paint(sketch.line(bridge, 0.035), shadow, 0.7)
    sketch.paint(sketch.ellipse((x, y), (0.1, 0.085)), highlight, 0.5)
    for side in (-1, 1):
        sketch.paint(sketch.ellipse((x + side * 0.065, y + 0.065), (0.04, 0.024)), 0.4 * skin, 0.8)
    left, right = face.mouth
    along = np.linspace(0, 1, 13)[:, None]
    bend = 4 * along * (1 - along) * np.array([[0, face.smile]])
    # A parabola through both corners; the bend makes a smile or its opposite.
    lips = left + (right - left) * along + bend
    red = 0.55 * skin + 0.45 * np.array([175, 50, 60])
    if rng.random() < 0.35:
        middle = (float(lips[6, 0]), float(lips[6, 1]))
        sketch.paint(
            sketch.ellipse(middle, (abs(right[0] - left[0]) * 0.36, 0.1)), np.array([70, 25, 28])
        )
    sketch.paint(sketch.line(lips, 0.075), red)
    sketch.paint(sketch.line(lips, 0.022), 0.45 * red)


def _put_body(
    rng: Generator, canvas: Array, centre: tuple[float, float], radius: float, skin: Array
) -> None:
    """Draw neck, shirt and trousers below a head; the head's box does not include them."""
    height, width = canvas.shape[:2]
    left, right = max(int(centre[0] - 2 * radius), 0), min(int(centre[0] + 2 * radius) + 1, width)
    top = int(centre[1])
    u = (np.arange(left, right, dtype=np.float32) + 0.5 - centre[0]) / radius
    v = ((np.arange(top, height, dtype=np.float32) + 0.5 - centre[1]) / radius)[:, None]
    shirt = hsv(rng.uniform(0, 180), rng.uniform(20, 150), rng.uniform(50, 220))
    trousers = hsv(rng.uniform(90, 130), rng.uniform(10, 110), rng.uniform(35, 110))
    # A superellipse: shoulders are flat on top and round at the sides.
    shoulder = (np.abs(u) / 1.7) ** 2.6 + (np.clip(2.6 - v, 0, None) / 1.4) ** 2.6
    # Signed distances to the outline in head units, negative outside; the shirt comes last.
    layers = (
        (np.minimum(0.34 - np.abs(u), 1.6 - v), 0.8 * skin),
        (np.minimum(1.35 - np.abs(u), v - 5), trousers),
        (np.minimum(0.65 * (1 - shoulder), 6 - v), shirt),
    )
    # Bodies are darker at the sides, like cylinders.
    shade = (1.05 - 0.22 * u * u)[None, :, None]
    window = canvas[top:, left:right]
    for distance, colour in layers:
        window += np.clip(0.5 + distance * radius, 0, 1)[..., None] * (colour * shade - window)


def put_decoy(
    rng: Generator, canvas: Array, centre: tuple[float, float], radius: float, light: Array
) -> None:
    """Draw a ball, or a dummy with hair and shoulders but no face; neither is annotated."""
    sketch = _Sketch(radius)
    if rng.random() < 0.5:
        skin = _tone(rng, _SKIN)
        _put_body(rng, canvas, centre, radius, skin)
        _draw_skull(rng, sketch, skin, _tone(rng, _HAIR), light)
    else:
        axes = (float(rng.uniform(0.7, 1.0)),) * 2
        # Half of the balls have the colour of skin, so that colour is no evidence of a face.
        colour = _tone(rng, _SKIN) if rng.random() < 0.5 else hsv(rng.uniform(0, 180), 150, 200)
        sketch.paint(sketch.ellipse((0, 0), axes), sketch.shaded(colour, light, axes))
        for at in rng.uniform(-0.5, 0.5, (rng.integers(0, 5), 2)):
            sketch.paint(sketch.ellipse((at[0], at[1]), (0.1, 0.1)), 0.4 * colour)
    sketch.put(canvas, centre, rng.uniform(-0.4, 0.4))
