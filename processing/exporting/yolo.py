"""Writes annotations as YOLO: ``data.yaml`` and a label file for each photograph.

The tree is the one of Ultralytics: the labels of ``images/train/a.jpg`` are ``labels/train/a.txt``.
Ultralytics finds labels by the last folder ``images`` of a path, and other programs by folders such
as ``JPEGImages``, so such folders of the raw directory are left out of the paths of the tree.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from processing.exporting.records import Photograph, StoredAnnotations
from processing.exporting.tally import Tally

_IMAGES: Final = "images"
_LABELS: Final = "labels"
_LEFT_OUT: Final = {"images", "image", "imgs", "img", "jpegimages", "labels", "label"}
_DECIMALS: Final = 9
"""Of a fraction: a hundredth of a pixel in photographs of 10 million pixels a side."""


def check_yolo(several: Sequence[StoredAnnotations]) -> None:
    """Checks that one ``data.yaml`` can describe several splits.

    Raises:
        ValueError: their categories differ, a name cannot be written, or the number of points
            varies.
    """
    first = several[0]
    for stored in several:
        if stored.category_names != first.category_names:
            raise ValueError(
                f"{first.place} and {stored.place} have different categories, and one data.yaml "
                "names those of all splits: export each to its own directory, or --format coco"
            )
        if stored.task == "landmarker" and (
            stored.points_per_object is None or stored.points_per_object != first.points_per_object
        ):
            raise ValueError(
                f"{stored.place}: the number of points varies, and YOLO has one number for all "
                "objects: export --format coco"
            )
    for name in (*first.category_names, *first.keypoint_names):
        if not name.isprintable():
            raise ValueError(
                f"{first.place}: YAML cannot hold the name {name!r}: export --format coco"
            )


def write_data_yaml(root: Path, several: Sequence[StoredAnnotations], comment: str) -> None:
    """Writes ``data.yaml``.

    Args:
        root: the tree.
        several: all splits, in order.
        comment: a line about the origin of the data.
    """
    first = several[0]
    lines = [f"# {comment}"]
    lines += [f"{stored.split}: {_IMAGES}/{stored.split}" for stored in several]
    if first.task == "landmarker":
        lines.append(f"kpt_shape: [{first.points_per_object}, 3]")
    lines.append("names:")
    # A JSON text is a YAML text as well.
    for number, name in enumerate(first.category_names):
        lines.append(f"  {number}: {json.dumps(name, ensure_ascii=False)}")
    if first.keypoint_names and first.task == "landmarker":
        lines.append("kpt_names:")
        for number in range(len(first.category_names)):
            names = json.dumps(list(first.keypoint_names), ensure_ascii=False)
            lines.append(f"  {number}: {names}")
    (root / "data.yaml").write_bytes("\n".join([*lines, ""]).encode())


def write_labels(root: Path, stored: StoredAnnotations, raw_data_dir: Path | None) -> Tally:
    """Writes a label file for each photograph of one split; an empty one if it has no objects.

    Args:
        root: the tree.
        stored: the annotations.
        raw_data_dir: directory of the photographs, which are linked into the tree; None: they are
            left out.

    Raises:
        ValueError: two photographs would share a label file, or a point lies outside its
            photograph.
        FileNotFoundError: a photograph is not in `raw_data_dir`.
        OSError: a file cannot be written.
    """
    tally = Tally()
    folders: set[Path] = set()
    for kind in (_LABELS, _IMAGES) if raw_data_dir is not None else (_LABELS,):
        (root / kind / stored.split).mkdir(parents=True)
    for photograph in stored.photographs():
        tally.add(photograph)
        path = tree_path(photograph.path)
        labels = root / _LABELS / stored.split / path.with_suffix(".txt")
        if labels.parent not in folders:
            labels.parent.mkdir(parents=True, exist_ok=True)
            folders.add(labels.parent)
        try:
            with labels.open("xb") as file:
                file.write(_rows(photograph).encode())
        except FileExistsError as error:
            raise ValueError(
                f"{photograph.path}: another photograph has the label file "
                f"{labels.relative_to(root).as_posix()} too: YOLO does not tell apart names that "
                "differ in their ending, in a folder such as images, or, on some systems, in case: "
                "rename one of them, or export --format coco"
            ) from error
        if raw_data_dir is not None:
            _link(raw_data_dir, photograph.path, root / _IMAGES / stored.split / path)
    return tally


def tree_path(path: str) -> PurePosixPath:
    """Returns the path of a photograph in the tree, relative to the folder of its split.

    Args:
        path: relative to the raw directory.
    """
    parts = PurePosixPath(path).parts
    return PurePosixPath(*(part for part in parts[:-1] if part.lower() not in _LEFT_OUT), parts[-1])


def _rows(photograph: Photograph) -> str:
    lines = []
    width, height = photograph.width, photograph.height
    for i, label in enumerate(photograph.labels):
        x1, y1, x2, y2 = photograph.boxes[i]
        values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height]
        values += [(x2 - x1) / width, (y2 - y1) / height]
        words = [str(label), *map(_text, values)]
        if photograph.points:
            for point in photograph.points[i]:
                words += _point(point, photograph)
        lines.append(" ".join(words) + "\n")
    return "".join(lines)


def _point(point: list[float], photograph: Photograph) -> list[str]:
    x, y, visibility = point[0] / photograph.width, point[1] / photograph.height, point[2]
    if 0 <= x <= 1 and 0 <= y <= 1:
        return [_text(x), _text(y), _text(visibility)]
    if not visibility:
        return ["0", "0", "0"]  # a point that is not labelled needs no place
    raise ValueError(
        f"{photograph.path}: the point ({point[0]:g}, {point[1]:g}) lies outside the photograph "
        f"of {photograph.width}x{photograph.height} pixels, and YOLO has no such points: export "
        "--format coco"
    )


def _text(value: float) -> str:
    """Returns a number without exponent and without zeros at its end."""
    return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")


def _link(raw_data_dir: Path, path: str, link: Path) -> None:
    """Links a photograph into the tree; copies it where the system allows no links."""
    photograph = raw_data_dir.absolute() / path
    if not photograph.is_file():
        raise FileNotFoundError(
            f"{photograph}: the photograph is not there: give the raw directory that the files "
            "were made of"
        )
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(photograph)
    except (NotImplementedError, OSError):  # Windows allows links to few users
        shutil.copyfile(photograph, link)
