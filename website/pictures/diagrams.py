"""Pictures of the file's layout, and of the path of a photograph through the package."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from processing import LazyNPZDataset
from website.pictures.demo import Demo, at_scale
from website.pictures.svg import Drawing, Image

_NAMES_SIZES = struct.Struct("<HH")
_LOCAL_HEADER = 30
"""Bytes of a ZIP's local header before the name and the extra fields."""


@dataclass(frozen=True)
class Member:
    """One array of a file.

    Args:
        name: without ``.npy``.
        header: position of its ZIP header.
        data: position of the array's first byte.
        size: bytes of the array.
        shape: of the array.
        dtype: of the array.
    """

    name: str
    header: int
    data: int
    size: int
    shape: tuple[int, ...]
    dtype: str


def members(path: Path) -> list[Member]:
    """Return the members of an NPZ file, as its own headers place them."""
    found = []
    with path.open("rb") as file:
        for info in zipfile.ZipFile(file).infolist():
            file.seek(info.header_offset)
            name, extra = _NAMES_SIZES.unpack(file.read(_LOCAL_HEADER)[26:30])
            begin = info.header_offset + _LOCAL_HEADER + name + extra
            file.seek(begin)
            version = np.lib.format.read_magic(file)
            assert version == (1, 0)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            data = file.tell()
            size = info.file_size - (data - begin)
            kind = dtype.str if dtype.kind == "U" else dtype.name
            found.append(
                Member(
                    info.filename.removesuffix(".npy"), info.header_offset, data, size, shape, kind
                )
            )
    return found


def file_layout(demo: Demo) -> Drawing:
    """Show the members of a file with their places, and how a row is found."""
    path = demo.stored / "train_detector.npz"
    found = members(path)
    count, side = found[0].shape[:2]
    drawing = Drawing(
        760, 640, "The layout of a file",
        f"{path.name}, a ZIP archive of {len(found)} arrays that are not compressed. The data of "
        "each begins at a multiple of 4096 bytes. Row i of the images lies at a fixed place, and "
        "offsets say where the boxes of image i begin and end.",
    )  # fmt: skip
    drawing.text(28, 42, path.name, "bold code", size=18)
    drawing.text(
        28, 64, f"{path.stat().st_size:,} bytes: an ordinary NPZ, nothing compressed", "soft"
    )
    tops = [92.0, 236, 284, 332, 380, 428, 476, 524]
    heights = [136.0] + [40.0] * 7
    for number, (member, top, height) in enumerate(zip(found, tops, heights, strict=True)):
        colour = ("teal", "orange", "orange", "blue", "violet", "blue", "blue", "soft")[number]
        pale = "panel" if colour == "soft" else f"{colour}-pale"
        drawing.rect(28, top, 9, height, fill="edge", radius=2)
        drawing.rect(40, top, 330, height, fill=pale, stroke=colour, radius=4)
        drawing.text(54, top + 18, member.name, f"code bold {colour}", size=14)
        shape = ", ".join(map(str, member.shape)) + ("," if len(member.shape) == 1 else "")
        drawing.text(54, top + 34, f"{member.dtype} ({shape})", "code soft", size=12)
        drawing.text(358, top + 18, f"{member.data:,}", "code soft", size=12, anchor="end")
        drawing.text(
            358, top + 34, f"= {member.data // 4096:,} × 4096", "code soft", size=12, anchor="end"
        )
    drawing.rect(28, 572, 342, 26, fill="panel", stroke="edge", radius=4)
    drawing.text(54, 590, "central directory: names, sizes, CRC-32", size=13)
    drawing.rect(28, 611, 9, 14, fill="edge", radius=2)
    drawing.text(48, 623, "header and padding up to the next multiple of 4096", "soft", size=12.5)
    _image_rows(drawing, demo, count, side)
    _ragged_rows(drawing, demo)
    return drawing


def _image_rows(drawing: Drawing, demo: Demo, count: int, side: int) -> None:
    """Draw the rows of the images as a strip."""
    with LazyNPZDataset(demo.stored / "train_detector.npz") as dataset:
        pictures = [at_scale(np.asarray(dataset.images[row]), 0.25) for row in range(4)]
    drawing.area([(370, 92), (430, 82), (430, 226), (370, 228)], "teal-pale")
    drawing.rect(430, 82, 302, 144, fill="teal-pale", stroke="teal", radius=6)
    drawing.text(444, 106, "one row after the other, raw pixels", "teal bold", size=14)
    for row, picture in enumerate(pictures):
        x = 444 + 66 * row
        drawing.image(x, 118, 62, 62, picture, f"row {row}")
        drawing.text(x + 31, 196, f"row {row}", "code soft", size=12, anchor="middle")
    drawing.text(711, 154, "…", "bold teal", size=18)
    row_bytes = side * side * 3
    drawing.text(444, 216, f"row i begins at 4096 + i × {row_bytes:,}", size=12.5)


def _ragged_rows(drawing: Drawing, demo: Demo) -> None:
    """Draw the boxes, which differ in number, with their offsets."""
    with np.load(demo.stored / "train_detector.npz") as stored:
        offsets = stored["bboxes_offsets"][:8].tolist()
    drawing.area([(370, 236), (430, 246), (430, 400), (370, 324)], "orange-pale")
    drawing.rect(430, 246, 302, 154, fill="orange-pale", stroke="orange", radius=6)
    drawing.text(444, 270, "boxes of all images in one array", "orange bold", size=14)
    drawing.text(444, 298, "bboxes", "code soft", size=12)
    drawing.text(444, 366, "offsets", "code soft", size=12)
    shown = offsets[-1]
    step = 206 / max(shown, 1)
    for image, (begin, end) in enumerate(pairwise(offsets)):
        x = 506 + begin * step
        for box in range(begin, end):
            fill = ("orange", "soft")[image % 2]
            drawing.rect(506 + box * step + 1, 284, step - 2, 20, fill=fill, radius=2)
        middle = x + (end - begin) * step / 2
        if (end - begin) * step > 24:  # wide enough for the text
            drawing.text(middle, 324, f"i={image}", "code soft", size=11, anchor="middle")
        drawing.line([(x, 308), (x, 350)], "orange", width=1)
        if begin != end:  # two equal offsets would be written over each other
            drawing.text(x, 366, str(begin), "code orange", size=12, anchor="middle")
    drawing.line([(506 + shown * step, 308), (506 + shown * step, 350)], "orange", width=1)
    drawing.text(506 + shown * step, 366, str(shown), "code orange", size=12, anchor="middle")
    drawing.text(444, 388, "image i: bboxes[offsets[i]:offsets[i+1]]", "code", size=11)
    drawing.rect(430, 422, 302, 176, fill="panel", stroke="edge", radius=6)
    drawing.text(444, 446, "Reading a row", "bold", size=14)
    drawing.lines(
        444, 470,
        ["The file is mapped; no byte is read first.", "A row is copied straight from the page",
         "cache of the system into the batch: no", "decompression, no decoding, no Python",
         "object for each image.", "np.load reads the file too."],
        "soft", size=13,
    )  # fmt: skip


def path(demo: Demo) -> Drawing:
    """Show the stations of a photograph, from the camera's file to the model."""
    photo = demo.photograph(0)
    stored = demo.rows("detector", photo.path)[0]
    crops = [row["image"] for row in demo.rows("landmarker", photo.path)]
    drawing = Drawing(
        760, 500, "The path of a photograph",
        "Once: photograph and annotation are read, checked and repaired, made into rows, and "
        "written to NPZ files. In each epoch: rows are copied from the mapped files into batches, "
        "moved to the GPU, made floats and augmented there, and handed to the model.",
    )  # fmt: skip
    drawing.pair(28, 40, "Once", "teal", "npz-vision process --all", size=17)
    loaders = "LazyNPZDataModule, BatchLoader or DataLoader"
    drawing.pair(28, 282, "In each epoch", "orange", loaders, size=17)
    for x in (28, 216, 404, 592):
        drawing.rect(x, 56, 140, 176, fill="panel", stroke="teal", radius=8)
        drawing.rect(x, 298, 140, 176, fill="panel", stroke="orange", radius=8)
    for x in (168, 356, 544):
        drawing.arrow([(x + 6, 144), (x + 42, 144)])
        # The mapped file stands under the written one, so the second row runs to the left.
        drawing.arrow([(x + 42, 386), (x + 6, 386)])
    height, width = photo.image.shape[:2]
    small = at_scale(photo.image, 240 / width)
    tall = 120 * height / width
    drawing.image(38, 66, 120, tall, small, photo.path)
    _station(drawing, 28, 178, "photograph", ["+ annotations in any", "of 15 formats"])
    drawing.image(226, 66, 120, tall, small, "the photograph with its boxes")
    drawing.boxes(226, 66, 120 / width, photo.boxes, "#2dd4bf", line=1.6)
    _station(drawing, 216, 178, "checked", ["upright, repaired; bad", "inputs listed"])
    drawing.image(414, 66, 58, 58, at_scale(stored["image"], 0.5), "the detector's row")
    for number, crop in enumerate(crops[:3]):
        x, y = 476 if number % 2 == 0 else 414, 66 if number == 0 else 128
        drawing.image(x, y, 58, 26 if number else 58, _strip(crop, bool(number)), "a crop")
    _station(drawing, 404, 178, "rows", ["letterboxed, or one", "crop for each object"])
    _files(drawing, demo)
    drawing.arrow([(662, 236), (662, 292)], "soft")
    _station(drawing, 592, 178, "NPZ files", ["published whole,", "with checksums"])
    _epoch(drawing, stored["image"])
    return drawing


def _strip(crop: Image, narrow: bool) -> Image:
    """Return a crop for its place; a narrow place shows its middle."""
    small = at_scale(crop, 116 / crop.shape[0])
    if not narrow:
        return small
    return np.ascontiguousarray(small[32:84])


def _files(drawing: Drawing, demo: Demo) -> None:
    for row, file in enumerate(sorted(demo.stored.glob("*.npz"), reverse=True)):
        y = 68 + 15.5 * row
        drawing.rect(602, y, 120, 13, fill="teal-pale", stroke="teal", radius=3, line=0.8)
        drawing.text(608, y + 10, file.name, "code", size=9)


def _epoch(drawing: Drawing, image: Image) -> None:
    """Draw the second row, from right to left in time: file, batch, device, model."""
    small = at_scale(image, 0.5)
    drawing.rect(602, 308, 120, 86, fill="teal-pale", stroke="teal", radius=4)
    for row in range(5):
        drawing.rect(608, 314 + 15.4 * row, 108, 12, fill="teal", radius=2)
    _station(drawing, 592, 420, "mapped file", ["rows in any order,", "no decoding"])
    for number in range(4):
        x = 416 + 12 * number
        drawing.image(x, 310 + 8 * number, 62, 62, small, "an image of the batch")
        drawing.rect(x, 310 + 8 * number, 62, 62, stroke="paper", line=1)
    _station(drawing, 404, 420, "batch", ["uint8 (B, H, W, 3),", "lists of boxes"])
    bright = np.clip(small[:, ::-1].astype(np.float32) * 1.15 + 8, 0, 255).astype(np.uint8)
    drawing.rect(232, 310, 108, 82, fill="violet-pale", stroke="violet", radius=6)
    drawing.image(255, 318, 62, 62, np.ascontiguousarray(bright), "an augmented image")
    _station(drawing, 216, 420, "on the GPU", ["float 0 to 1, mirrored,", "moved, coloured"])
    for layer, size in enumerate((74, 56, 40, 26)):
        x = 46 + 29 * layer
        drawing.rect(x, 352 - size / 2, 15, size, fill="orange", radius=3)
    _station(drawing, 28, 420, "your model", ["train, validate,", "predict"])


def _station(drawing: Drawing, x: float, y: float, name: str, lines: list[str]) -> None:
    drawing.text(x + 70, y + 8, name, "bold", size=15, anchor="middle")
    drawing.lines(x + 70, y + 27, lines, "soft", size=12, anchor="middle")
