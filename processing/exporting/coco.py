"""Writes annotations as COCO: one JSON file, readable by pycocotools and faster-coco-eval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import msgspec

from processing.exporting.records import DECIMALS, Photograph, StoredAnnotations
from processing.exporting.tally import Tally


def write_coco(file: IO[bytes], stored: StoredAnnotations, description: str) -> Tally:
    """Writes the annotations of one split. The file is read twice, so little is in memory.

    Args:
        file: where to write.
        stored: the annotations.
        description: a sentence about their origin, for the key ``info``.

    Returns:
        How much was written.

    Raises:
        ValueError: objects of one category have different numbers of points, which COCO cannot say.
        NPZFormatError: the NPZ file is damaged.
    """
    tally = Tally()
    info = msgspec.json.encode({"description": description})
    file.write(b'{"info": ' + info + b',\n"licenses": [],\n"categories": ')
    file.write(msgspec.json.encode(_categories(stored)))
    file.write(b',\n"images": [')
    _write_lines(file, _images(stored, tally))
    file.write(b'],\n"annotations": [')
    _write_lines(file, _annotations(stored))
    file.write(b"]}\n")
    return tally


def _write_lines(file: IO[bytes], entries: Iterator[dict[str, Any]]) -> None:
    """Writes the entries of a list, one a line."""
    separator = b"\n"
    for entry in entries:
        file.write(separator + msgspec.json.encode(entry))
        separator = b",\n"


def _categories(stored: StoredAnnotations) -> list[dict[str, Any]]:
    """Numbers the categories from 1, in their stored order: files do not know earlier numbers."""
    points: dict[str, Any] = {}
    if stored.keypoint_names:
        points = {"keypoints": list(stored.keypoint_names), "skeleton": []}
    return [
        {"id": number, "name": name, "supercategory": "", **points}
        for number, name in enumerate(stored.category_names, 1)
    ]


def _images(stored: StoredAnnotations, tally: Tally) -> Iterator[dict[str, Any]]:
    for number, photograph in enumerate(stored.photographs(), 1):
        tally.add(photograph)
        yield {
            "id": number,
            "file_name": photograph.path,
            "width": photograph.width,
            "height": photograph.height,
        }


def _annotations(stored: StoredAnnotations) -> Iterator[dict[str, Any]]:
    number = 0
    points_of_label: dict[int, int] = {}
    for image, photograph in enumerate(stored.photographs(), 1):
        for i, label in enumerate(photograph.labels):
            number += 1
            entry = _box(number, image, label, photograph.boxes[i])
            if photograph.points:
                entry |= _keypoints(photograph, i, points_of_label)
            yield entry


def _box(number: int, image: int, label: int, corners: list[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = corners
    width, height = round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)
    return {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "bbox": [x1, y1, width, height],
        "area": round(width * height, DECIMALS),
        "iscrowd": 0,
        "segmentation": [],
    }


def _keypoints(photograph: Photograph, i: int, points_of_label: dict[int, int]) -> dict[str, Any]:
    points, label = photograph.points[i], photograph.labels[i]
    expected = points_of_label.setdefault(label, len(points))
    if len(points) != expected:
        raise ValueError(
            f"{photograph.path}: has an object with {len(points)} points, another object of the "
            f"same category has {expected}; COCO has one number for each category: read the points "
            "with LazyNPZDataset instead"
        )
    values = [_visibility(v) if k == 2 else v for point in points for k, v in enumerate(point)]
    return {"keypoints": values, "num_keypoints": sum(point[2] > 0 for point in points)}


def _visibility(value: float) -> float:
    return int(value) if value.is_integer() else value
