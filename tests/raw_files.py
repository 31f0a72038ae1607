"""Helpers of the tests of the sources: write a raw directory, and list what was read from it."""

import json
import math

from processing.core.annotations import SPLITS, UNASSIGNED


def write_raw(root, files=None, images=()):
    """Writes a raw directory.

    Args:
        root: the directory.
        files: path to content: text, bytes, or a list or dict that is written as JSON.
        images: paths of empty files.

    Returns:
        `root`.
    """
    for image in images:
        _write(root / image, b"")
    for path, content in (files or {}).items():
        if isinstance(content, dict | list):
            content = json.dumps(content)
        _write(root / path, content.encode() if isinstance(content, str) else content)
    return root


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def boxes_of(reading):
    """Maps each image path to its (category, box) pairs; the box of bare points is None."""
    table = reading.table
    found = {}
    for row, path in enumerate(table.image_paths.tolist()):
        image = table.image(row)
        found[path] = [
            (
                table.category_names[label],
                None if math.isnan(box[0]) else [round(x, 3) for x in box],
            )
            for label, box in zip(image.labels.tolist(), image.boxes.tolist(), strict=True)
        ]
    return found


def points_of(reading):
    """Maps each image path to the points of its instances."""
    table = reading.table
    return {
        path: [points.tolist() for points in table.image(row).points]
        for row, path in enumerate(table.image_paths.tolist())
    }


def splits_of(reading):
    """Maps each image path to the name of its split, or to None."""
    table = reading.table
    return {
        path: None if split == UNASSIGNED else SPLITS[split]
        for path, split in zip(table.image_paths.tolist(), table.splits.tolist(), strict=True)
    }


def reasons_of(reading):
    """Returns (file, reason) of each rejection."""
    return [(rejection.path, rejection.reason) for rejection in reading.rejections]


def coco_image(key=1, name="a.jpg", **more):
    """Returns an entry of COCO's list of images."""
    return {"id": key, "file_name": name, "height": 480, "width": 640} | more


def coco_box(image_id=1, category_id=1, bbox=(10, 20, 30, 40), **more):
    """Returns an entry of COCO's list of annotations."""
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox)} | more


def coco_file(images=None, annotations=None, categories=({"id": 1, "name": "face"},)):
    """Returns the content of a COCO file.

    Without `images` it has one image; without `annotations` it has one box, of the first image.
    """
    images = [coco_image()] if images is None else list(images)
    if annotations is None:
        annotations = [coco_box(images[0]["id"], categories[0]["id"])]
    return {"images": images, "annotations": list(annotations), "categories": list(categories)}
