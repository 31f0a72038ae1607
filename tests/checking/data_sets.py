"""Annotated photographs as plain records, written in several formats, for tests that spoil them."""

import copy
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from processing.core.annotations import SPLITS, UNASSIGNED
from processing.demo import render_demo
from processing.sources import read_sources

FORMATS = ("coco", "csv", "voc", "yolo")


@dataclass
class Thing:
    """One object: a category, a box x1, y1, x2, y2 in pixels, and points x, y."""

    category: str
    box: list
    points: list = field(default_factory=list)
    written: list | None = None
    """Four numbers to write in place of the box, as they are."""


@dataclass
class Photograph:
    """One photograph and its annotation.

    Args:
        name: file name.
        split: train or val.
        size: height, width that the annotation declares.
        data: content of the file; None for no file.
        things: its objects; None if no annotation lists it.
    """

    name: str
    split: str
    size: tuple
    data: bytes | None
    things: list | None

    @property
    def stem(self):
        """The name without its ending."""
        return self.name.rpartition(".")[0]


@dataclass
class DataSet:
    """Photographs in a fixed order, with a generator that decides what a fault spoils."""

    photographs: list
    rng: np.random.Generator
    has_points: bool = False

    def copy(self, seed=0):
        """Returns a copy that may be spoilt."""
        photographs = [copy.copy(one) for one in self.photographs]
        for one in photographs:
            one.things = copy.deepcopy(one.things)
        return DataSet(photographs, np.random.default_rng(seed), self.has_points)

    def some(self, split=None):
        """A random photograph with objects."""
        chosen = [p for p in self.photographs if p.things and split in (None, p.split)]
        return chosen[self.rng.integers(len(chosen))]

    def thing(self):
        """A random object of at least 12 pixels, and its photograph."""
        every = [
            (photograph, thing)
            for photograph in self.photographs
            for thing in photograph.things or ()
            if min(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]) >= 12
        ]
        return every[self.rng.integers(len(every))]

    def things(self):
        """All objects with their photographs."""
        return [(p, thing) for p in self.photographs for thing in p.things or ()]


def demo_data(directory, images=36, seed=0):
    """A rendered data set of two categories, with five points for each object."""
    render_demo(directory, images=images, seed=seed)
    return from_directory(directory, halves=True)


def from_directory(directory, *, halves=False, most=60):
    """Reads any data set with boxes into records.

    Args:
        directory: the raw directory.
        halves: whether to make two categories of the objects.
        most: photographs to take.
    """
    table = read_sources(directory).table
    photographs = []
    for row, path in enumerate(table.image_paths.tolist()[:most]):
        data = (Path(directory) / path).read_bytes()
        height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
        image = table.image(row)
        scale = np.array([width, height] * 2) if image.normalized else 1
        things = []
        for i, label in enumerate(image.labels.tolist()):
            if image.flags[i]:
                continue  # a crowd, or no box
            box = np.clip(image.boxes[i] * scale, 0, [width, height] * 2).tolist()
            name = table.category_names[label]
            if halves:
                name = "child" if box[2] - box[0] < 50 else "adult"
            things.append(Thing(name, box, image.points[i][:, :2].tolist()))
        split = SPLITS[table.splits[row]] if table.splits[row] != UNASSIGNED else ""
        split = split or ("val" if row % 4 == 3 else "train")
        name = f"{row:03d}_{Path(path).stem[:20]}.jpg".replace(" ", "_")
        photographs.append(Photograph(name, split, (height, width), data, things))
    has_points = any(thing.points for p in photographs for thing in p.things)
    return DataSet(photographs, np.random.default_rng(0), has_points)


def write(data_set, directory, written_as):
    """Writes a data set in one of `FORMATS`; returns the directory."""
    shutil.rmtree(directory, ignore_errors=True)
    _WRITERS[written_as](data_set, directory)
    return directory


def _photographs(data_set, folder_of):
    for one in data_set.photographs:
        if one.data is not None:
            folder = folder_of(one)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / one.name).write_bytes(one.data)


def _categories(data_set):
    return sorted({thing.category for _, thing in data_set.things()})


def _coco(data_set, directory):
    _photographs(data_set, lambda one: directory / "images" / one.split)
    names = _categories(data_set)
    number = 0
    for split in ("train", "val"):
        images, annotations = [], []
        for key, one in enumerate(data_set.photographs, 1):
            if one.split != split or one.things is None:
                continue
            height, width = one.size
            images.append({"id": key, "file_name": one.name, "height": height, "width": width})
            for thing in one.things:
                x1, y1, x2, y2 = thing.box
                number += 1
                entry = {
                    "id": number,
                    "image_id": key,
                    "category_id": names.index(thing.category) + 1,
                    "bbox": thing.written or [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
                if data_set.has_points:
                    points = [value for x, y in thing.points for value in (x, y, 2)]
                    entry |= {"keypoints": points, "num_keypoints": len(thing.points)}
                annotations.append(entry)
        categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
        count = max(len(thing.points) for _, thing in data_set.things())
        if data_set.has_points:
            for category in categories:
                category["keypoints"] = [f"point_{i}" for i in range(count)]
        path = directory / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content))


def _csv(data_set, directory):
    _photographs(data_set, lambda one: directory / "images")
    lines = ["image,xmin,ymin,xmax,ymax,label"]
    for one in data_set.photographs:
        if one.things is None:
            continue
        for thing in one.things:
            numbers = ",".join(f"{value:.6g}" for value in thing.written or thing.box)
            lines.append(f"{one.name},{numbers},{thing.category}")
        if not one.things:
            lines.append(f"{one.name},,,,,")
    (directory / "labels.csv").write_text("\n".join(lines) + "\n")


def _voc(data_set, directory):
    _photographs(data_set, lambda one: directory / "JPEGImages")
    for folder in ("Annotations", "ImageSets/Main"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    lists = {"train": [], "val": []}
    for one in data_set.photographs:
        if one.things is None:
            continue
        lists[one.split].append(one.stem)
        height, width = one.size
        objects = []
        for thing in one.things:
            x1, y1, x2, y2 = thing.written or np.add(np.round(thing.box), [1, 1, 0, 0])
            objects.append(
                f"<object><name>{thing.category}</name><bndbox><xmin>{x1:.6g}</xmin>"
                f"<ymin>{y1:.6g}</ymin><xmax>{x2:.6g}</xmax><ymax>{y2:.6g}</ymax></bndbox></object>"
            )
        (directory / "Annotations" / f"{one.stem}.xml").write_text(
            f"<annotation><filename>{one.name}</filename><size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size>{''.join(objects)}</annotation>"
        )
    for split, names in lists.items():
        (directory / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")


def _yolo(data_set, directory):
    _photographs(data_set, lambda one: directory / "images" / one.split)
    names = _categories(data_set)
    for one in data_set.photographs:
        if one.things is None:
            continue
        height, width = one.size
        lines = []
        for thing in one.things:
            x1, y1, x2, y2 = thing.box
            numbers = thing.written or [
                *((x1 + x2) / 2 / width, (y1 + y2) / 2 / height),
                *((x2 - x1) / width, (y2 - y1) / height),
            ]
            text = " ".join(f"{value:.6f}" for value in numbers)
            lines.append(f"{names.index(thing.category)} {text}\n")
        path = directory / "labels" / one.split / f"{one.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    (directory / "data.yaml").write_text(
        f"train: images/train\nval: images/val\nnc: {len(names)}\nnames: {json.dumps(names)}\n"
    )


_WRITERS = {"coco": _coco, "csv": _csv, "voc": _voc, "yolo": _yolo}
