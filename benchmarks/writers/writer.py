"""Writer: the base class of the contenders, their samples, and the check of what they stored."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from processing.sources import read_sources

SIDE: Final = 256
"""Height and width of the stored images, in pixels."""
_MIN_DECIBEL: Final = 30.0
"""Smallest PSNR of a stored image to its truth; two different photographs have about 10 dB."""
_CHECKED: Final = 100
"""One image in so many is compared: to make the truth of all of them would take a pass."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """A JPEG file with its boxes.

    Args:
        file: where it is.
        path: its path relative to the raw directory.
        bboxes: float32 (k, 4) x1, y1, x2, y2, in pixels of the photograph.
    """

    file: Path
    path: str
    bboxes: NDArray[np.float32]


class Sample(NamedTuple):
    """A sample to store: image uint8 (SIDE, SIDE, 3), boxes float32 (k, 4) in its pixels, path."""

    image: NDArray[np.uint8]
    bboxes: NDArray[np.float32]
    path: str


def photographs_in(raw: Path) -> list[Photograph]:
    """Return the photographs of an annotated folder, sorted by path."""
    table = read_sources(raw).table
    photographs = []
    for row, path in enumerate(table.image_paths.tolist()):
        photographs.append(Photograph(raw / path, path, table.image(row).boxes))
    return photographs


def letterboxed(photograph: Photograph) -> Sample:
    """Decode a photograph at full size, resize it to fit into SIDE x SIDE, and pad it with grey."""
    return fitted(photograph, simplejpeg.decode_jpeg(photograph.file.read_bytes(), "RGB"))


def fitted(photograph: Photograph, pixels: NDArray[np.uint8], scale: float | None = None) -> Sample:
    """Resize pixels to fit into SIDE x SIDE, pad them with grey, and place the boxes.

    Args:
        photograph: the boxes and the path.
        pixels: uint8 (height, width, 3), of the whole photograph.
        scale: pixels of the result for each pixel of the photograph; None: `pixels` are its own.
    """
    height, width = pixels.shape[:2]
    fit = SIDE / max(height, width)
    scale = fit if scale is None else scale
    w, h = max(round(width * fit), 1), max(round(height * fit), 1)
    x, y = (SIDE - w) // 2, (SIDE - h) // 2
    image = np.full((SIDE, SIDE, 3), 114, np.uint8)
    shown = image[y : y + h, x : x + w]
    shown[:] = (
        pixels
        if (height, width) == (h, w)
        else cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA)
    )
    inside = np.clip(photograph.bboxes * scale, 0, [w, h] * 2)
    return Sample(image, (inside + [x, y] * 2).astype(np.float32), photograph.path)


class Writer(ABC):
    """A contender of the processing benchmark; a new one implements `write` and `stored`.

    Args:
        share: fraction of the photographs to process per pass; less than 1 for slow contenders.
    """

    name: str
    files: str

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self._photographs: list[Photograph] = []

    def prepare(self, data: Path, folder: Path) -> None:  # noqa: B027 - there is nothing to override
        """Prepare nothing: every pass begins with the photographs."""

    def start(self, folder: Path) -> None:  # noqa: B027 - there is nothing to override
        """Start nothing: every pass begins with the photographs."""

    def make_ready(self, folder: Path) -> None:  # noqa: B027 - there is nothing to override
        """Do nothing: the photographs stay in the page cache."""

    def run(self, folder: Path) -> int:
        """Write all samples anew; return their number."""
        # Everything anew in each pass: ours would find its files up to date.
        output = folder / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        photographs = self._chosen(folder)
        self.write(photographs, output)
        return len(photographs)

    def check(self, data: Path, folder: Path) -> None:
        """Compare the samples of the last pass with the photographs.

        Raises:
            ValueError: a sample is missing or was not asked for, or an image or boxes are wrong.
        """
        truth = {photograph.path: photograph for photograph in self._chosen(folder)}
        count = 0
        for count, sample in enumerate(self.stored(folder / "output"), 1):
            if sample.path not in truth:
                raise ValueError(f"{sample.path}: stored twice, or not one of the photographs")
            expected = truth.pop(sample.path)
            if count % _CHECKED == 1:
                compare(sample, letterboxed(expected))
        if truth:
            raise ValueError(
                f"stored {count} samples, {len(truth)} are missing: {next(iter(truth))!r}"
            )

    def _chosen(self, folder: Path) -> list[Photograph]:
        """Return the photographs of a pass; they are listed only once, before the first one."""
        if not self._photographs:
            everything = photographs_in(folder.parent / "raw")
            self._photographs = everything[: max(1, round(self.share * len(everything)))]
        return self._photographs

    @abstractmethod
    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Store the samples of the photographs in the empty folder `output`."""

    @abstractmethod
    def stored(self, output: Path) -> Iterable[Sample]:
        """Yield the samples that were stored in `output`."""


def compare(found: Sample, expected: Sample) -> None:
    """Check that a stored sample shows what it should.

    Resizing may differ a little, and so may the rounding of the visible rectangle.

    Raises:
        ValueError: the image or the boxes differ by more than that.
    """
    if found.image.shape != expected.image.shape or found.image.dtype != np.uint8:
        raise ValueError(f"{found.path}: stored {found.image.dtype} {found.image.shape}")
    error = np.mean((found.image.astype(np.float64) - expected.image) ** 2)
    if error > 255**2 / 10 ** (_MIN_DECIBEL / 10):
        raise ValueError(f"{found.path}: another image was stored, mean square error {error:.0f}")
    same_number = found.bboxes.shape == expected.bboxes.shape
    if not same_number or not np.allclose(found.bboxes, expected.bboxes, atol=1):
        raise ValueError(f"{found.path}: boxes {found.bboxes}, expected {expected.bboxes}")
