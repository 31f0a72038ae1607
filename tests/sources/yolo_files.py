"""Helpers of the tests of YOLO data sets as people have them."""

import pytest

from processing.core.errors import SourceError
from processing.sources import read_sources
from tests.raw_files import boxes_of, write_raw

ROW = "0 .5 .5 .25 .5\n"
PEAR = "1 .5 .5 .25 .5\n"
NAMES = "names: [apple, pear]\n"
YAML = f"train: images/train\nval: images/val\n{NAMES}"
IMAGES = ["images/train/0.jpg", "images/train/1.jpg", "images/val/0.jpg", "images/val/1.jpg"]
LABELS = {
    "labels/train/0.txt": ROW,
    "labels/train/1.txt": PEAR,
    "labels/val/0.txt": ROW,
    "labels/val/1.txt": PEAR,
}
COMPLETE = dict(zip(IMAGES, ["apple", "pear", "apple", "pear"], strict=True))

TREE = {"labels/0.txt": ROW, "labels/1.txt": PEAR}
PAIR = ["images/0.jpg", "images/1.jpg"]
LINES = "apple\npear\n"


def read(tmp_path, files, images=IMAGES, sources=None):
    return read_sources(write_raw(tmp_path, files, images), sources)


def names_of(reading):
    """Maps each image to the name of its only box, or to None."""
    found = boxes_of(reading)
    assert all(len(boxes) < 2 for boxes in found.values())
    return {path: boxes[0][0] if boxes else None for path, boxes in found.items()}


def kinds_of(reading, *ignored):
    return sorted({note.kind for note in reading.notes} - {"ambiguous_split", *ignored})


def refusal(tmp_path, files, images=IMAGES):
    with pytest.raises(SourceError) as caught:
        read(tmp_path, files, images)
    return str(caught.value)


def prefixed(prefix, files):
    return {f"{prefix}{path}": text for path, text in files.items()}
