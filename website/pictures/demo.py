"""The real run that all pictures show: rendered photographs, and the files made of them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from processing import LazyNPZDataset
from processing.demo import render_demo
from website.pictures.svg import Image


@dataclass(frozen=True)
class Photograph:
    """A photograph of the demo.

    Args:
        path: relative to the raw directory.
        image: uint8 (H, W, 3) RGB.
        boxes: float (k, 4), x1, y1, x2, y2.
        points: float (k, K, 3).
    """

    path: str
    image: Image
    boxes: NDArray[np.float64]
    points: NDArray[np.float64]


class Demo:
    """Photographs and the files that processing made of them.

    Args:
        folder: an empty folder to work in.
        photographs: how many to render.

    Attributes:
        raw: folder of the photographs, that of the quick start.
        stored: folder of the files.
        command: the command that made them.
        report: its output.
    """

    command = "npz-vision process --all --raw-data-dir demo/raw --output-dir demo/preprocessed"

    def __init__(self, folder: Path, photographs: int) -> None:
        self.folder = folder
        self.raw, self.stored = folder / "demo" / "raw", folder / "demo" / "preprocessed"
        render_demo(self.raw, images=photographs)
        status, self.report = self.run(*self.command.split()[1:])
        assert status == 0, self.report

    def photograph(self, number: int) -> Photograph:
        """Return a photograph with its annotations."""
        coco = json.loads((self.raw / "annotations" / "instances.json").read_text())
        name = coco["images"][number]["file_name"]
        found = [one for one in coco["annotations"] if one["image_id"] == number]
        corners = np.array([one["bbox"] for one in found], float)
        corners[:, 2:] += corners[:, :2]
        points = np.array([one["keypoints"] for one in found], float).reshape(len(found), -1, 3)
        path = f"images/{name}"
        return Photograph(path, read(self.raw / path), corners, points)

    def rows(self, task: str, path: str) -> list[dict[str, Any]]:
        """Return the stored samples of a task that were made of one photograph."""
        for split in ("train", "val"):
            with LazyNPZDataset(self.stored / f"{split}_{task}.npz") as dataset:
                found = np.flatnonzero(np.asarray(dataset.image_paths) == path)
                if len(found):
                    return [dict(dataset[int(i)]) for i in found]
        raise ValueError(f"no {task} file has rows of {path}")

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run ``python -m processing`` in the folder; return its exit status and what it printed.

        Messages name files by their full paths; here they begin at the folder, as people would type
        them there.
        """
        from processing.__main__ import main

        printed = io.StringIO()
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            contextlib.chdir(self.folder),
        ):
            status = main(arguments)
        return status, printed.getvalue().replace(f"{self.folder.resolve()}/", "")


def read(path: Path) -> Image:
    """Return a photograph as uint8 (H, W, 3) RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None, path
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def at_scale(image: Image, scale: float) -> Image:
    """Return a photograph at another size."""
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=method), np.uint8)
