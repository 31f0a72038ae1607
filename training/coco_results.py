"""Writes predictions as COCO results, one by one: memory does not grow with their number.

Two files belong together: ``images.json`` has the images and the categories, ``predictions.json``
the results, whose ids refer to it. ``COCO("images.json").loadRes("predictions.json")`` of
pycocotools reads both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from models.results import DetectorResult, LandmarkerResult, Result, TeacherResult

_DIGITS = 3  # of coordinates; a thousandth of a pixel
_LABELLED = 2  # visibility of a keypoint that is labelled and visible


class ResultFiles:
    """Two JSON files that grow result by result; `writing` opens them.

    Attributes:
        images: number of images written.
        results: number of results written.
    """

    def __init__(self, images: TextIO, results: TextIO) -> None:
        self._images, self._results = images, results
        self.images = 0
        self.results = 0

    def add(self, name: str, result: Result) -> None:
        """Write one image and its results.

        Args:
            name: the image's path, as ``file_name``.
            result: the prediction.
        """
        height, width = result.size
        entry = {"id": self.images + 1, "file_name": name, "width": width, "height": height}
        _append(self._images, entry, is_first=self.images == 0)
        self.images += 1
        for one in entries(result):
            one = {"image_id": self.images, **one}
            _append(self._results, one, is_first=self.results == 0)
            self.results += 1


@contextmanager
def writing(
    run_dir: Path, categories: list[dict[str, Any]], info: Mapping[str, Any]
) -> Iterator[ResultFiles]:
    """Open ``images.json`` and ``predictions.json``.

    They get their names when they are complete, also if Ctrl-C ends the run early. After another
    error nothing is left.

    Args:
        run_dir: the folder; created if missing.
        categories: COCO's categories.
        info: facts about the run.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    names = ("images.json", "predictions.json")
    partial = [run_dir / f"{name}.partial" for name in names]
    try:
        with (
            partial[0].open("w", encoding="utf-8") as images,
            partial[1].open("w", encoding="utf-8") as results,
        ):
            images.write(f'{{"info": {_json(info)},\n"images": [')
            results.write("[")
            try:
                yield ResultFiles(images, results)
            finally:
                images.write(f'],\n"annotations": [],\n"categories": {_json(categories)}}}\n')
                results.write("]\n")
    except Exception:
        for path in partial:
            path.unlink(missing_ok=True)
        raise
    except KeyboardInterrupt:
        _publish(partial)
        raise
    _publish(partial)


def _publish(partial: list[Path]) -> None:
    for path in partial:
        path.replace(path.with_suffix(""))


def _append(file: TextIO, entry: Mapping[str, Any], *, is_first: bool) -> None:
    file.write(("\n" if is_first else ",\n") + _json(entry))


def _json(value: Any) -> str:
    # ASCII, because a file's name need not be valid UTF-8.
    return json.dumps(value, allow_nan=False)


def categories_of(names: list[str], keypoint_names: list[str]) -> list[dict[str, Any]]:
    """Return COCO's categories; the id of a category is its label plus 1."""
    categories: list[dict[str, Any]] = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    if keypoint_names:
        for category in categories:
            category |= {"keypoints": keypoint_names, "skeleton": []}
    return categories


def entries(result: Result) -> Iterator[dict[str, Any]]:
    """Yield the results of one image, without its id.

    A detection has ``bbox`` [x, y, width, height] and a score. A set of landmarks has
    ``keypoints``, the box around them, and the score 1, because the model gives no certainty. A
    reconstruction has ``psnr`` in dB; null for an exact one.
    """
    if isinstance(result, DetectorResult):
        for box, score, label in zip(result.boxes, result.scores, result.labels, strict=True):
            x1, y1, x2, y2 = box.tolist()
            yield {
                "category_id": int(label) + 1,
                "bbox": _rounded(x1, y1, x2 - x1, y2 - y1),
                "score": round(float(score), 5),
            }
    elif isinstance(result, LandmarkerResult):
        for points in result.points.reshape(-1, *result.points.shape[-2:]):
            (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            keypoints: list[float] = []
            for x, y in points.tolist():
                keypoints += [*_rounded(x, y), _LABELLED]
            box = _rounded(x1, y1, x2 - x1, y2 - y1)
            yield {"category_id": 1, "keypoints": keypoints, "bbox": box, "score": 1.0}
    elif isinstance(result, TeacherResult):
        for psnr in result.psnr.reshape(-1).tolist():
            yield {"psnr": round(psnr, _DIGITS) if math.isfinite(psnr) else None}


def _rounded(*numbers: float) -> list[float]:
    return [round(number, _DIGITS) for number in numbers]
