"""Pictures of how a photograph becomes stored images: letterbox, crop margin, the three tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing import DataProcessor, LazyNPZDataset
from processing.imaging.placement import crop_rect
from website.pictures.demo import Demo, Photograph, at_scale
from website.pictures.svg import COLOURS, Drawing

_MARGINS = (0.0, 0.25, 0.5)


def letterbox(demo: Demo) -> Drawing:
    """Show a photograph next to its stored image, with a box in both."""
    photo = demo.photograph(0)
    stored = demo.rows("detector", photo.path)[0]
    height, width = photo.image.shape[:2]
    side = stored["image"].shape[0]
    factor = side / max(height, width)
    bar = round((side - height * factor) / 2)
    drawing = Drawing(
        760, 420, "Letterbox",
        f"A photograph of {width} by {height} pixels is scaled by {factor:.3f} to {side} by "
        f"{side}; the {bar} rows above and below are grey, and its boxes move with it.",
    )  # fmt: skip
    scale = 340 / width
    _heading(drawing, 28, "The photograph", f"{width} × {height} pixels, and its boxes")
    drawing.image(28, 78, width * scale, height * scale, photo.image, photo.path)
    drawing.boxes(28, 78, scale, photo.boxes, "#2dd4bf")
    drawing.boxes(28, 78, scale, photo.boxes[:1], "#ff8a3d", line=3)
    drawing.arrow([(384, 200), (448, 200)])
    drawing.text(416, 188, f"× {factor:.3f}", "bold", size=15, anchor="middle")
    _heading(drawing, 466, "The stored image", f"{side} × {side}; boxes moved with it")
    drawing.image(466, 78, 256, 256, stored["image"], "the stored image")
    drawing.boxes(466, 78, 256 / side, stored["bboxes"], "#2dd4bf")
    drawing.boxes(466, 78, 256 / side, stored["bboxes"][:1], "#ff8a3d", line=3)
    for y in (78 + bar / 2 * 256 / side + 5, 334 - bar / 2 * 256 / side + 5):
        # The band is always grey, also on a dark page.
        drawing.coloured(594, y, f"{bar} rows of grey", "#ffffff", 13, anchor="middle")
    _numbers(drawing, 28, 358, photo.boxes[0])
    _numbers(drawing, 466, 358, stored["bboxes"][0])
    drawing.text(
        28, 404, "Shape and proportions stay. Nothing is cut off, and nothing is stretched.", "soft"
    )
    return drawing


def crop_margin(demo: Demo) -> Drawing:
    """Show the rectangle of a crop in the photograph, and the crop at three margins."""
    photo = demo.photograph(0)
    chosen = int(np.argmax((photo.boxes[:, 2:] - photo.boxes[:, :2]).prod(1)))
    box = photo.boxes[chosen]
    drawing = Drawing(
        760, 446, "Crop margin",
        "A box, the same box with a quarter of its size added on each side, and the rectangle in "
        "the shape of the stored image; next to it the crop at margins 0, 0.25 and 0.5.",
    )  # fmt: skip
    height, width = photo.image.shape[:2]
    scale = 390 / width
    _heading(drawing, 28, "In the photograph", "crop_margin = 0.25, the default")
    drawing.image(28, 78, width * scale, height * scale, photo.image, photo.path)
    drawing.boxes(28, 78, scale, [box], "#ff8a3d", line=3)
    grown = _grown(box, 0.25)
    x1, y1, x2, y2 = (28 + grown[0] * scale, 78 + grown[1] * scale,
                      28 + grown[2] * scale, 78 + grown[3] * scale)  # fmt: skip
    drawing.rect(x1, y1, x2 - x1, y2 - y1, stroke="#ffd166", line=2, dashes="6 4")
    drawing.boxes(28, 78, scale, [crop_rect(box, 0.25, (128, 128))], "#2dd4bf", line=3)
    lines = (
        ("#ff8a3d", "1  the box, as annotated"),
        ("#ffd166", "2  a quarter of its width and height on each side"),
        ("#2dd4bf", "3  the shorter side grows to the shape of the stored image"),
    )
    for row, (colour, text) in enumerate(lines):
        drawing.rect(28, 382 + 20 * row, 12, 12, fill=colour, radius=3)
        drawing.text(48, 393 + 20 * row, text, size=13.5)
    _heading(drawing, 466, "The stored crop", "128 × 128, at three margins")
    for row, margin in enumerate(_MARGINS):
        crop = _crop(demo, photo.path, chosen, margin)
        y = 78 + 112 * row
        drawing.image(466, y, 104, 104, crop, f"the crop at margin {margin:g}")
        drawing.text(586, y + 40, f"crop_margin={margin:g}", "code", size=13.5)
        drawing.text(586, y + 62, _COMMENTS[margin], "soft", size=13)
    drawing.text(466, 434, "A crop at an edge is filled with grey.", "soft", size=13)
    return drawing


_COMMENTS = {0.0: "the object fills it", 0.25: "hair, ears, a hat", 0.5: "much surrounding"}


def tasks(demo: Demo) -> Drawing:
    """Show what each of the three tasks makes of one photograph."""
    photo = demo.photograph(0)
    drawing = Drawing(
        760, 560, "Three tasks",
        "From one photograph with boxes and points: the detector's letterboxed image with all "
        "boxes, the landmarker's crop for each set of points, the teacher's crop for each box.",
    )  # fmt: skip
    height, width = photo.image.shape[:2]
    scale = 270 / width
    _heading(drawing, 28, "One photograph", f"{len(photo.boxes)} faces: boxes and points")
    drawing.image(28, 78, width * scale, height * scale, photo.image, photo.path)
    for number, box in enumerate(photo.boxes):
        drawing.boxes(28, 78, scale, [box], _bright(number))
    _points(drawing, 28, 78, scale, photo.points.reshape(-1, 3), 1.8)
    for y in (150, 350, 470):
        drawing.arrow([(306, 180), (322, 180), (322, y), (340, y)])
    sizes = {"detector": 256, "landmarker": 192, "teacher": 128}
    _task(drawing, 78, "detector", f"the whole photograph, {sizes['detector']} × 256, all boxes")
    stored = demo.rows("detector", photo.path)[0]
    drawing.image(354, 108, 150, 150, stored["image"], "the detector's stored image")
    for number, box in enumerate(stored["bboxes"]):
        drawing.boxes(354, 108, 150 / 256, [box], _bright(number))
    drawing.lines(
        520, 130,
        ["image   uint8 (256, 256, 3)", f"bboxes  float32 ({len(stored['bboxes'])}, 4)", "",
         "x1, y1, x2, y2 in pixels", "of the stored image"],
        "code soft", size=12,
    )  # fmt: skip
    _landmarker_row(drawing, demo, photo)
    _teacher_row(drawing, demo, photo)
    drawing.text(28, 306, "Its annotations", "bold", size=14)
    for number, (box, points) in enumerate(zip(photo.boxes[:6], photo.points, strict=False)):
        y = 330 + 21 * number
        drawing.rect(28, y - 11, 12, 12, fill=_bright(number), radius=3)
        numbers = ", ".join(f"{value:.0f}" for value in box)
        drawing.text(48, y, f"box {numbers}; {len(points)} points", "code soft", size=12)
    drawing.lines(
        28, 466,
        ["One pass reads each photograph", "once and makes the rows of every",
         "task that its annotations can feed."],
        "soft", size=13.5,
    )  # fmt: skip
    return drawing


def _landmarker_row(drawing: Drawing, demo: Demo, photo: Photograph) -> None:
    _task(drawing, 292, "landmarker", "a crop for each set of points, 192 × 192")
    rows = demo.rows("landmarker", photo.path)
    for number, row in enumerate(rows[:5]):
        x = 354 + 78 * number
        drawing.image(x, 304, 72, 72, at_scale(row["image"], 0.75), f"crop {number + 1}")
        drawing.rect(x, 304, 72, 72, stroke=_bright(number), line=2.5)
        _points(drawing, x, 304, 72 / 192, row["keypoints"], 2.2)
    shape = rows[0]["keypoints"].shape
    text = f"keypoints {shape}: x, y, visibility in the crop"
    drawing.text(354, 398, text, "code soft", size=12)


def _teacher_row(drawing: Drawing, demo: Demo, photo: Photograph) -> None:
    _task(drawing, 428, "teacher", "a crop for each box, 128 × 128")
    rows = demo.rows("teacher", photo.path)
    for number, row in enumerate(rows[:5]):
        x = 354 + 78 * number
        drawing.image(x, 440, 72, 72, row["image"], f"crop {number + 1}")
        drawing.rect(x, 440, 72, 72, stroke=_bright(number), line=2.5)
    box = ", ".join(f"{value:.0f}" for value in rows[0]["bboxes"])
    text = f"bboxes (4,): {box} in the photograph"
    drawing.text(354, 534, text, "code soft", size=12)


def _bright(number: int) -> str:
    """Return a colour that shows on a photograph."""
    return ("#2dd4bf", "#ff8a3d", "#60a5fa", "#c084fc", "#facc15", "#f472b6")[number % 6]


def _task(drawing: Drawing, y: float, name: str, text: str) -> None:
    colour = COLOURS[("detector", "landmarker", "teacher").index(name)]
    drawing.pair(354, y, name, colour, text, size=16)


def _points(
    drawing: Drawing, x: float, y: float, scale: float, points: NDArray[Any], radius: float
) -> None:
    for one in np.asarray(points, float).tolist():
        if one[2] > 0:
            drawing.dot(x + one[0] * scale, y + one[1] * scale, "#e11d48", radius)


def _heading(drawing: Drawing, x: float, title: str, text: str) -> None:
    drawing.text(x, 42, title, "bold", size=18)
    drawing.text(x, 64, text, "soft", size=14)


def _numbers(drawing: Drawing, x: float, y: float, box: Sequence[float] | NDArray[Any]) -> None:
    drawing.rect(x, y - 11, 13, 13, fill="#ff8a3d", radius=3)
    text = ", ".join(f"{value:.1f}" for value in box)
    drawing.text(x + 22, y, text, "code", size=14)


def _grown(box: NDArray[Any], margin: float) -> NDArray[Any]:
    """Return a box with the margin on each side, before its shape changes."""
    size = box[2:] - box[:2]
    return np.concatenate([box[:2] - margin * size, box[2:] + margin * size])


def _crop(demo: Demo, path: str, number: int, margin: float) -> NDArray[np.uint8]:
    """Return the teacher's crop of a box, made with another margin."""
    folder = demo.folder / f"margin {margin:g}"
    DataProcessor(demo.raw, folder, crop_margin=margin, progress=False).process_teacher()
    for split in ("train", "val"):
        with LazyNPZDataset(folder / f"{split}_teacher.npz") as dataset:
            found = np.flatnonzero(np.asarray(dataset.image_paths) == path)
            if len(found):
                return np.asarray(dataset[int(found[number])]["image"])
    raise ValueError(f"no file has a crop of {path}")
