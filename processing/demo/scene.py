"""Renders an annotated data set of people, so that the example runs without any data.

Everything is drawn, nothing is downloaded. Image i depends only on (seed, i), so that more images
extend a set without changing it. Backgrounds are textured; faces differ in size, tone, turn, tilt,
hair, expression and light. Balls and dummies without a face have the same tones, so that a detector
must learn more than a skin-coloured ellipse. Needs numpy and OpenCV.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.random import Generator

from processing.demo.people import EXTENT, KEYPOINT_NAMES, Array, hsv, put_decoy, put_person

_OUTDOORS: Final = np.array([12, 18, 25, 45, 60, 75, 100, 110])
"""Hues of wood, sand, leaves, water and sky; 180 is a full circle."""
_QUALITY: Final = 92
"""Quality of the JPEG files, 1 to 100."""


def render_demo(raw_dir: str | os.PathLike[str], *, images: int = 480, seed: int = 0) -> None:
    """Renders JPEG photographs with COCO annotations: boxes and five keypoints of faces.

    The directory appears complete or not at all: it is rendered under another name and renamed.

    Args:
        raw_dir: directory for ``images/*.jpg`` and ``annotations/instances.json``; it must be empty
            or not exist.
        images: number of photographs; their sides have 240 to 416 pixels.
        seed: decides everything that is drawn.

    Raises:
        FileExistsError: `raw_dir` is not empty, or is a file.
        ValueError: `images` is less than 1.
    """
    target = Path(raw_dir)
    if images < 1:
        raise ValueError(f"images must be at least 1, found {images}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{target} is not empty: the demo is rendered only into a new or empty directory; "
            "choose another one, or use the files that are there"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same parent directory, because a rename does not work across file systems.
    with tempfile.TemporaryDirectory(
        dir=target.parent, prefix=f"{target.name}.partial-"
    ) as partial:
        root = Path(partial) / "demo"
        (root / "images").mkdir(parents=True)
        (root / "annotations").mkdir()
        coco = _render_images(root / "images", images, seed)
        (root / "annotations" / "instances.json").write_text(json.dumps(coco))
        root.replace(target)


def _render_images(folder: Path, images: int, seed: int) -> dict[str, Any]:
    """Write the photographs; return the content of their COCO file."""
    coco: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "face", "keypoints": list(KEYPOINT_NAMES)}],
    }
    for index in range(images):
        image, faces = _render_image(folder, index, seed)
        coco["images"].append(image)
        for face in faces:
            coco["annotations"].append({"id": len(coco["annotations"]), **face})
    return coco


def _render_image(
    folder: Path, index: int, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write one photograph; return its COCO entry, and those of its faces without ids."""
    pixels, boxes, points = render_scene(seed, index)
    name = f"{index:06d}.jpg"
    jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    (folder / name).write_bytes(jpeg.tobytes())
    height, width = pixels.shape[:2]
    faces = []
    for (x1, y1, x2, y2), face in zip(boxes.tolist(), points, strict=True):
        entry = {
            "image_id": index,
            "category_id": 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
            "keypoints": np.round(face, 2).ravel().tolist(),
            "num_keypoints": len(face),
        }
        faces.append(entry)
    return {"id": index, "file_name": name, "height": height, "width": width}, faces


def render_scene(seed: int, index: int) -> tuple[Array, Array, Array]:
    """Draw one photograph.

    Returns:
        Pixels uint8 (H, W, 3) RGB; boxes float (k, 4) x1, y1, x2, y2 of the heads with hair and
        ears; their keypoints float (k, 5, 3) x, y, visibility 2. Coordinates are pixels.
    """
    # A generator of its own: the image does not depend on how many were drawn before.
    rng = np.random.default_rng((seed, index))
    width, height = rng.permutation([rng.integers(320, 417), rng.integers(240, 321)]).tolist()
    canvas = _background(rng, height, width)
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.8, -0.2), 0.7])
    boxes, points = [], []
    for x, y, radius in _places(rng, height, width):
        if rng.random() < 0.25:  # every fourth place has something that is no person
            put_decoy(rng, canvas, (x, y), radius, light)
            continue
        box, face = put_person(rng, canvas, (x, y), radius, light)
        boxes.append(box)
        points.append(face)
    pixels = _photograph(rng, canvas)
    return pixels, np.array(boxes).reshape(-1, 4), np.array(points).reshape(-1, 5, 3)


def _places(rng: Generator, height: int, width: int) -> list[tuple[float, float, float]]:
    """Return centre x, y and radius of heads, far ones first, so that no body hides a head."""
    places: list[tuple[float, float, float]] = []
    wanted = rng.integers(2, 8)
    for _ in range(80):  # attempts; a small image may have no room for all that are wanted
        # Uniform in the logarithm: as many small heads as large ones.
        radius = min(height, width) * np.exp(rng.uniform(np.log(0.065), np.log(0.2)))
        reach = radius * EXTENT * 1.05
        place = rng.uniform(reach, width - reach), rng.uniform(reach, height - reach), radius
        if not any(_hides(place, other) for other in places):
            places.append(place)
        if len(places) == wanted:
            break
    return sorted(places, key=lambda place: place[2])


def _hides(place: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Return whether the nearer person, with shoulders, covers a part of the farther one's head."""
    far, near = sorted((place, other), key=lambda place: place[2])
    apart = abs(far[0] - near[0]) > EXTENT * far[2] + 1.6 * near[2]  # shoulders are 1.6 radii wide
    above = far[1] + EXTENT * far[2] < near[1] - EXTENT * near[2]
    return not (apart or above)


def _noise(rng: Generator, height: int, width: int, cell: float) -> Array:
    """Return smooth noise float32 (height, width), about 0 to 1, that varies over `cell` pixels."""
    shape = (max(2, round(height / cell)), max(2, round(width / cell)))
    # A few random values, enlarged smoothly.
    coarse = rng.random(shape, dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def _background(rng: Generator, height: int, width: int) -> Array:
    """Return float32 (height, width, 3), 0 to 255: two tones mixed by noise, with a pattern."""
    # Coarse and fine noise, the fine weaker, as in nature.
    octaves = np.zeros((height, width), np.float32)
    for i, cell in enumerate((160, 60, 24, 9, 3)):
        octaves += _noise(rng, height, width, cell) / 2**i
    mix = np.clip(octaves / 1.9 * 1.6 - 0.3, 0, 1)[..., None]
    hue = rng.choice(_OUTDOORS) + rng.normal(0, 6)
    tones = [hsv(hue + rng.normal(0, 10), rng.uniform(15, 105), v) for v in rng.uniform(45, 220, 2)]
    canvas = tones[1] + (tones[0] - tones[1]) * mix
    pattern = rng.choice(("bricks", "stripes", "lights", "leaves", "plain"))
    if pattern == "bricks":
        _draw_bricks(rng, canvas)
    elif pattern == "stripes":
        angle, period = rng.uniform(0, np.pi), rng.uniform(9, 40)
        x = np.arange(width, dtype=np.float32) * np.cos(angle)
        y = np.arange(height, dtype=np.float32)[:, None] * np.sin(angle)
        wave = np.sin((x + y) * np.float32(2 * np.pi / period))
        canvas = canvas + (18 * np.tanh(3 * wave))[..., None]
    elif pattern != "plain":
        _draw_spots(rng, canvas, hue, soft=pattern == "lights")
    return np.asarray(canvas, np.float32)


def _draw_bricks(rng: Generator, canvas: Array) -> None:
    """Draw a wall of bricks that differ in brightness, with mortar between them."""
    height, width = canvas.shape[:2]
    rows = int(rng.integers(14, 30))
    mortar = canvas.mean(axis=(0, 1)) * rng.uniform(0.6, 1.3)
    for row, y in enumerate(range(0, height, rows)):
        cv2.line(canvas, (0, y), (width, y), mortar.tolist(), 2, cv2.LINE_AA)
        for x in range(-rows * (row % 2), width, 2 * rows):
            canvas[y + 1 : y + rows - 1, max(x, 0) : max(x + 2 * rows - 2, 0)] *= rng.uniform(
                0.85, 1.15
            )
            cv2.line(canvas, (x, y), (x, y + rows), mortar.tolist(), 2, cv2.LINE_AA)


def _draw_spots(rng: Generator, canvas: Array, hue: float, *, soft: bool) -> None:
    """Draw lights that are out of focus (`soft`), or the sharp leaves of a hedge."""
    height, width = canvas.shape[:2]
    layer = canvas.copy()
    spots, sizes, spread = 320, (2, 11), 8
    if soft:
        spots, sizes, spread = 45, (5, 26), 30
    for _ in range(spots):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = rng.uniform(*sizes, 2).astype(int).tolist()
        colour = hsv(hue + rng.normal(0, spread), rng.uniform(60, 160), rng.uniform(60, 240))
        if soft:
            axes[1] = axes[0]  # lights are round
        cv2.ellipse(
            layer, centre, axes, rng.uniform(0, 180), 0, 360, colour.tolist(), -1, cv2.LINE_AA
        )
    if soft:
        layer = cv2.GaussianBlur(layer, (0, 0), 2.5)
    cv2.addWeighted(layer, 0.55, canvas, 0.45, 0, dst=canvas)


def _photograph(rng: Generator, canvas: Array) -> Array:
    """Return the scene as a camera sees it, uint8: with blur, exposure, vignette and noise."""
    height, width = canvas.shape[:2]
    pixels = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 0.9))
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    # Photographs get darker towards their corners.
    vignette = 1 - rng.uniform(0.05, 0.3) * (x * x + y * y) / 2
    pixels *= (rng.uniform(0.85, 1.15) * vignette)[..., None].astype(np.float32)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    pixels = pixels + grain * np.float32(rng.uniform(1, 6))
    return np.clip(pixels, 0, 255).astype(np.uint8)
