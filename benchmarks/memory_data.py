"""Data for `benchmarks.memory`: many images and rows in few bytes. Made once, kept between runs."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import simplejpeg
from isal.isal_zlib import crc32, crc32_combine
from numpy.typing import NDArray

from processing.core.columns import offsets_of
from processing.npz.writer import NPZWriter

_SIDE: Final = 64
_CONTENTS: Final = 100
"""Number of different photographs. Each has many names; ext4 allows 65,000 names per file."""

_FOLDERS: Final = 1000
_CATEGORIES: Final = 80
_CHUNK: Final = 10_000
_BEYOND_THE_END: Final = 1 << 43
"""A file is extended to this many bytes to have holes, and cut afterwards."""


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, filled by `make` if it does not exist; a half-made one is made anew."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        partial.replace(folder)
    return folder


def small_photographs(folder: Path, images: int) -> None:
    """Make JPEGs of 64x64 pixels with one face each, a box and five points, as a COCO data set."""
    contents, names = folder / "contents", folder / "raw" / "images"
    contents.mkdir()
    names.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(_CONTENTS):
        pixels = rng.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        (contents / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, quality=50))
    for number in range(images):
        # Links: a million files of their own would take more time and space than they are worth.
        os.link(contents / f"{number % _CONTENTS}.jpg", names / f"{number:07d}.jpg")
    size = {"height": _SIDE, "width": _SIDE}
    face = {"category_id": 1, "bbox": [16, 16, 32, 32], "keypoints": [24, 24, 2] * 5}
    entries, annotations = [], []
    for number in range(images):
        entries.append({"id": number, "file_name": f"images/{number:07d}.jpg", **size})
        annotations.append({"id": number, "image_id": number, **face})
    coco = {
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face"}],
    }
    (folder / "raw" / "faces.json").write_bytes(msgspec.json.encode(coco))


def coco(folder: Path, images: int, boxes: int) -> None:
    """Make a COCO file with its images, which are empty files in a thousand folders."""
    for number in range(_FOLDERS):
        (folder / "images" / f"{number:03d}").mkdir(parents=True)
    names = [f"{i % _FOLDERS:03d}/{i:012d}.jpg" for i in range(images)]
    for name in names:
        (folder / "images" / name).touch()
    (folder / "annotations").mkdir()
    categories = [{"id": i, "name": f"category {i}"} for i in range(1, _CATEGORIES + 1)]
    # Written piece by piece: the whole file as Python objects would take gigabytes.
    with (folder / "annotations" / "instances.json").open("w") as file:
        file.write('{"info": {}, "images": [')
        entry = '{"license": 4, "file_name": "%s", "height": 480, "width": 640, "id": %d}'
        _write_list(file.write, (entry % (name, i) for i, name in enumerate(names)))
        file.write('], "annotations": [')
        _write_list(file.write, _coco_annotations(images, boxes))
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _coco_annotations(images: int, boxes: int) -> Iterator[str]:
    entry = (
        '{"area": 702.1, "iscrowd": 0, "image_id": %d, "bbox": [%.2f, %.2f, %.2f, %.2f], '
        '"category_id": %d, "id": %d}'
    )
    rng = np.random.default_rng(0)
    for start in range(0, boxes, _CHUNK):
        count = min(_CHUNK, boxes - start)
        owners = rng.integers(0, images, count).tolist()
        places = (rng.random((count, 4)) * (600, 400, 40, 80)).tolist()
        for number, owner, place in zip(itertools.count(start), owners, places, strict=False):
            yield entry % (owner, *place, 1 + number % _CATEGORIES, number)


def _write_list(write: Callable[[str], Any], entries: Iterator[str]) -> None:
    write(next(entries))
    while chunk := list(itertools.islice(entries, _CHUNK)):
        write(",\n" + ",\n".join(chunk))


def sparse_npz(path: Path, rows: int, side: int, boxes_per_row: int) -> None:
    """Write a detector's file whose images are one hole; boxes and paths are written.

    Args:
        path: the file to write.
        rows: number of images (side, side, 3).
        side: height and width of the images, in pixels.
        boxes_per_row: mean number of boxes; row i has ``i % (2 * boxes_per_row + 1)``. With 0 all
            columns are holes: no boxes, empty paths.
    """
    lengths = np.arange(rows) % (2 * boxes_per_row + 1)
    metadata = {"format_version": 1, "task": "detector", "category_names": ["thing"]}
    with contextlib.closing(NPZWriter(path)) as writer:
        _hole(writer, "images", "u1", (side, side, 3), rows)
        if boxes_per_row:
            offsets = offsets_of(lengths)
            boxes = np.random.default_rng(0).random((int(offsets[-1]), 4), np.float32) * side
            writer.write("bboxes", boxes)
            writer.write("bboxes_offsets", offsets)
            writer.reserve("image_paths", "<U20", (rows,))
            for paths in _paths(rows):
                writer.fill("image_paths", paths)
        else:
            _hole(writer, "bboxes", "<f4", (4,), 0)
            _hole(writer, "bboxes_offsets", "<i8", (), rows + 1)
            _hole(writer, "image_paths", "<U20", (), rows)
        _hole(writer, "source_rects", "<f4", (4,), rows)
        writer.write("metadata", np.array(json.dumps(metadata)))
        writer.finish()


def _hole(writer: NPZWriter, name: str, dtype: str, row_shape: tuple[int, ...], rows: int) -> None:
    """Write a member of zeros that takes no space on the disk."""
    # The file is longer than the member already, so that the writer leaves a hole there.
    os.truncate(writer.path, _BEYOND_THE_END)
    writer.begin(name, dtype, row_shape, rows=rows)
    writer.end(_crc32_of_zeros(rows * np.dtype(dtype).itemsize * math.prod(row_shape)))


def _crc32_of_zeros(count: int) -> int:
    """Return the CRC-32 of `count` zero bytes, in as many steps as `count` has bits."""
    if count == 0:
        return 0
    # Halving: the checksum of two equal halves follows from that of one.
    half = _crc32_of_zeros(count // 2)
    doubled = crc32_combine(half, half, count // 2)
    return crc32(b"\0", doubled) if count % 2 else doubled


def _paths(rows: int) -> Iterator[NDArray[np.str_]]:
    for start in range(0, rows, _CHUNK):
        stop = min(start + _CHUNK, rows)
        yield np.array([f"{i % _FOLDERS:03d}/{i:012d}.jpg" for i in range(start, stop)])
