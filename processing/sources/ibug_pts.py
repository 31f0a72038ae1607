"""300-W: one ``.pts`` file per face, next to the image of the same name; also 300-VW.

- The file has ``version: 1``, ``n_points: 68``, then one ``x y`` per line between braces. Points
  are counted from 1 as in Matlab, so 1 is subtracted; ``coordinate_base=0`` takes them as written.
- Points are visible (2). A point at -1, -1, or at 0, 0 where points are counted from 1, is not
  labelled (0). A point that is NaN is left to the repairs, which list it and make it a point that
  is not labelled. If all files of a folder have NaN, the program that wrote them had a fault, so
  that they are listed too (``point_without_place``). A file without any labelled point is rejected
  (``no_points``).
- The image lies next to the file, in ``images/`` next to ``points/``, or in another place that
  `own_images` knows. If several endings exist, the points go to the first image only.
- A file is rejected if it has more or fewer rows than it declares, or no image. If there is a video
  instead of images, as 300-VW is published, the video is rejected once, with the way to take its
  frames out.
- The split is the nearest folder of the file, or else of the image, named after one
  (``trainset``). The category is ``face``; there are no boxes.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import UNASSIGNED, Flag, Instance, TableRow, table_from_rows
from processing.core.errors import AnnotationError, Rejection
from processing.sources.own_images import OwnImages
from processing.sources.paths import folder_of, parent_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, collecting, rejection
from processing.sources.split_names import split_of_folders
from processing.sources.text import malformed, numbers_of, read_text

_VISIBLE: Final = 2.0
_NOT_LABELLED: Final = (0.0, 0.0, 0.0)
_HEAD: Final = re.compile(r"^[ \t]*n_points[ \t]*:\s*(\d{1,9})\s*\{", re.MULTILINE | re.ASCII)
_VIDEO_SUFFIXES: Final = (".avi", ".mp4", ".mov", ".mkv", ".wmv", ".mpg")


def find(raw: RawDirectory) -> list[str]:
    """Finds point files, sorted."""
    return raw.with_suffix(".pts")


def read(raw: RawDirectory, paths: list[str], *, coordinate_base: int = 1) -> Reading:
    """Reads point files.

    Args:
        raw: the raw directory.
        paths: the files.
        coordinate_base: the number of the first pixel, 1 or 0.
    """
    rows = []
    images_missing_annotations = set()
    sets: dict[str, int] = {}
    search = OwnImages(raw, dict.fromkeys(paths, ""))
    images = search.find()
    rejections, without_images = _report_videos(raw, paths, images)
    with_nan: dict[str, str] = {}
    for path in paths:
        if path in without_images:
            continue
        image = images.get(path, "")
        found: list[Rejection] = []
        with collecting(found, path):
            face, nan = _face(read_text(raw, path), coordinate_base)
            if nan:
                with_nan[path] = nan
            if not image:
                raise search.disputed.get(path) or _missing_image()
            set_id = sets.setdefault(folder_of(path), len(sets))
            rows.append(
                TableRow(
                    image,
                    [face],
                    split=_split(path, image),
                    set_id=set_id,
                    annotation_file=path,
                    found_by_name=path in search.guessed,
                )
            )
        rejections += found
        if found and image:
            images_missing_annotations.add(image)
    rejections += _report_nan(paths, with_nan)
    annotation_sets = [AnnotationSet(f"{folder}*.pts", place="") for folder in sets]
    table = table_from_rows(rows, category_names=["face"], annotation_sets=annotation_sets)
    return Reading(table, rejections, images_missing_annotations=images_missing_annotations)


FORMAT: Final = SourceFormat(
    name="ibug_pts",
    pattern_description="300-W: *.pts next to their images",
    find=find,
    read=read,
    options=("coordinate_base",),
)


def _report_videos(
    raw: RawDirectory, paths: list[str], images: dict[str, str]
) -> tuple[list[Rejection], set[str]]:
    """Reports the videos whose frames nobody has taken out.

    Returns:
        One rejection for each video, and the point files that belong to one.
    """
    videos: dict[str, list[str]] = {}
    for video in raw.with_suffix(*_VIDEO_SUFFIXES):
        videos.setdefault(folder_of(video), []).append(video)
    with_images = {folder_of(path) for path in images}
    counts: Counter[str] = Counter()
    of_videos = set()
    for path in paths:
        own = folder_of(path)
        near = videos.get(parent_of(own), []) or videos.get(own, [])
        if own not in with_images and len(near) == 1:
            counts[near[0]] += 1
            of_videos.add(path)
    rejections = []
    for video, count in counts.items():
        frames = posixpath.join(folder_of(video), "imgs", "%06d.jpg")
        message = (
            f"{video}: {count:,} point files are of this video, and videos are not read; take its "
            f"frames out: mkdir {posixpath.dirname(frames)}; ffmpeg -i {video} -q:v 1 {frames}"
        )
        rejections.append(Rejection(video, "annotation", "video", message))
    return rejections, of_videos


def _split(path: str, image: str) -> int:
    split = split_of_folders(path)
    return split_of_folders(image) if split == UNASSIGNED else split


def _missing_image() -> AnnotationError:
    return AnnotationError("expected an image of the same name next to it", reason="missing_image")


def _report_nan(paths: list[str], with_nan: Mapping[str, str]) -> list[Rejection]:
    """Reports the files with NaN of the folders where every file has some.

    Args:
        paths: all files.
        with_nan: the files with NaN, and the points that have it.
    """
    files = Counter(map(folder_of, paths))
    affected = Counter(map(folder_of, with_nan))
    rejections = []
    for path, points in with_nan.items():
        if affected[folder_of(path)] == files[folder_of(path)]:
            error = AnnotationError(
                f"{points}: NaN is no place, so it counts as not labelled; all files of the folder "
                "have NaN: did the program that wrote them fail?",
                reason="point_without_place",
            )
            rejections.append(rejection(path, error))
    return rejections


def _face(text: str, base: int) -> tuple[Instance, str]:
    """Parses a point file.

    Returns:
        The face, and the points that are NaN, in words.

    Raises:
        AnnotationError: the file is malformed, or no point is labelled.
    """
    points: list[tuple[float, float, float]] = []
    without_place = []
    for number, (x, y) in enumerate(_points(text), 1):
        if math.isnan(x) or math.isnan(y):
            without_place.append(number)
        if _is_labelled(x, y, base):
            points.append((x - base, y - base, _VISIBLE))
        else:
            points.append(_NOT_LABELLED)
    unlabelled = points.count(_NOT_LABELLED)
    if len(without_place) + unlabelled == len(points):
        raise AnnotationError(f"none of its {len(points)} points is labelled", reason="no_points")
    nan = f"{_listed(without_place)} of {len(points)}" if without_place else ""
    return Instance(0, flags=Flag.NO_BOX, points=points), nan


def _is_labelled(x: float, y: float, base: int) -> bool:
    return (x, y) != (-1, -1) and (base == 0 or (x, y) != (0, 0))


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"point {shown}{', …' if len(numbers) > 5 else ''}"


def _points(text: str) -> list[list[float]]:
    head = _HEAD.search(text)
    body, brace, rest = text[head.end() if head else 0 :].partition("}")
    # Without its closing brace a file was cut short, even if its last number looks complete.
    if head is None or not brace or rest.strip():
        raise malformed(
            "expected 'n_points: N' and N rows between braces; was the copy interrupted?"
        )
    rows = [line.split() for line in body.splitlines() if line.strip()]
    points = []
    for row in rows:
        numbers = numbers_of(row)
        if numbers is None or len(numbers) != 2:
            raise malformed(f"expected rows of x and y, found {' '.join(row)[:80]!r}")
        points.append(numbers)
    if not points or len(points) != int(head[1]):
        raise malformed(f"expected {int(head[1]) or 'some'} rows of x and y, found {len(points)}")
    return points
