"""From one image file to its rows for every task: read, repair, decode once, show.

`process_image` runs in decoding threads: it changes nothing that they share, and the rows depend
on the photograph, its annotations and the options alone, wherever their pixels come from.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.annotations import ImageAnnotations
from processing.core.coordinates import Rect, Size
from processing.core.error_notes import with_filename
from processing.core.errors import ImageError, Rejection, Stage, concerns_single_file
from processing.imaging.decoding import MAX_PIXELS, decode, read_header
from processing.imaging.photo import Photo
from processing.imaging.placement import largest_reduction, place, rendered_rect
from processing.imaging.repairs import Instances, repair
from processing.imaging.resizing import render
from processing.imaging.tasks import PIXELS_VERSION, Row, Task, View

Views = Mapping[Task, Sequence[View]]

MAX_FILE_BYTES: Final = 8 * MAX_PIXELS
"""Larger files are refused unread: not even the largest image takes as much, 16 bits a channel."""


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One image to process.

    Args:
        path: relative to the raw directory, ``/`` separated.
        annotations: what the sources say of it.
        tasks: the tasks that take it.
    """

    path: str
    annotations: ImageAnnotations
    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """What is done to imperfect boxes; see `repairs.repair`."""

    min_box_size: float
    keep_flagged: bool


class EarlierImages(Protocol):
    """Images that an earlier run made; `EarlierRows` finds them in its files."""

    def find(self, task: str, path: str, key: int) -> NDArray[np.uint8] | None:
        """The images that a task made of one photograph, uint8 (k, H, W, 3); None if unknown."""


@dataclass(slots=True)
class ImageResult:
    """What came of one image.

    Args:
        rows: by task; empty where the image was rejected.
        counts: by task: instances read and stored, rows that could not be shown, and each repair.
        crc32: of the file's bytes; 0 where it could not be read.
        key: what all rows were made of and how, for `EarlierRows`; 0 where the image was rejected.
        copied: whether earlier rows were copied instead of decoding the image.
        rejection: why the image was left out, with the error that says so; None if it was not.
    """

    rows: dict[Task, list[Row]] = field(default_factory=dict)
    counts: dict[Task, Counter[str]] = field(default_factory=dict)
    crc32: int = 0
    key: int = 0
    copied: bool = False
    rejection: Rejection | None = None
    error: ImageError | None = None


class _Rendered(NamedTuple):
    """A stored image, uint8 (H, W, 3), and the rectangle of its source that it really shows."""

    image: NDArray[np.uint8]
    rect: Rect


_Pictures = dict[Task, list[_Rendered | None]]  # one for each view; None where it shows nothing


def process_image(
    raw_dir: Path, job: ImageJob, options: RepairOptions, earlier: EarlierImages
) -> ImageResult:
    """Turns one image into rows, a bad one into a rejection.

    What is no fault of the image is raised, with a note that names the image and the stage.

    Args:
        raw_dir: where the image is.
        job: the image.
        options: how boxes are repaired.
        earlier: where rows are copied from, if they were made of the same and in the same way.
    """
    result = ImageResult()
    stage: Stage = "read"
    try:
        content = read_inside(raw_dir, job.path)
        result.crc32 = crc32(content)
        stage = "decode"
        header = read_header(content)
        stage = "annotation"
        instances, repairs = repair(
            job.annotations,
            header,
            min_box_size=options.min_box_size,
            keep_flagged=options.keep_flagged,
        )
        stage = "decode"
        source_size = header.upright_size
        views = {task: task.views(instances, source_size) for task in job.tasks}
        reduction = _common_reduction(views, source_size)
        key = functools.partial(_key, f"{job.path}\0{len(content)}\0{result.crc32}", views)
        keys = {r: key(r) for r in (8, 4, 2, 1) if r <= reduction}  # what the codec may have done
        pictures, result.key = _copied(job.path, keys, views, source_size, earlier)
        result.copied = pictures is not None
        if pictures is None:
            photo = decode(content, header, reduction=reduction)
            pictures, result.key = _rendered_views(photo, views), keys[photo.reduction]
        stage = "crop"
        for task, task_views in views.items():
            counts = Counter(repairs)
            del counts["kept"], counts["no_box"]  # neither is a repair
            counts["instances_read"] = int(task.instances(job.annotations).sum())
            counts["no_extent"] = int(task.usable(instances).sum()) - sum(
                len(view.instances) for view in task_views
            )
            rendered_views = list(zip(task_views, pictures[task], strict=True))
            result.rows[task] = list(
                _rows(job.path, source_size, instances, task, rendered_views, counts)
            )
            result.counts[task] = +counts  # without those that are zero
    except ImageError as error:
        rejected = ImageResult(crc32=result.crc32)
        for task in job.tasks:
            instances_lost = int(task.instances(job.annotations).sum())
            counts = Counter(instances_read=instances_lost, instances_rejected=instances_lost)
            rejected.counts[task] = +counts
        rejected.rejection = Rejection(job.path, stage, error.reason, str(error))
        rejected.error = ImageError(f"{job.path}: {error}", error.reason)
        rejected.error.__cause__ = error
        return rejected
    except BaseException as error:
        error.add_note(f"stage: {stage} of {job.path}")
        raise
    return result


def read_inside(raw_dir: Path, path: str) -> bytes:
    """The bytes of a file that lies in the raw directory.

    Raises:
        ImageError: absent, unreadable, not a regular file, or a link that leads out of the
            directory.
        OSError: nothing that this file alone is to blame for, such as too many open files.
    """
    file = os.fspath(raw_dir)
    try:
        for part in path.split("/"):
            file = f"{file}/{part}"
            mode = os.lstat(file).st_mode
            if stat.S_ISLNK(mode) or part == "..":
                file = _real_inside(raw_dir, path)
                mode = os.stat(file).st_mode  # noqa: PTH116 - like all here, half of Path's time
                break
        if not stat.S_ISREG(mode):
            found = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
            raise ImageError(f"{found}: expected a file", "not_a_file")
        with with_filename(file), open(file, "rb", buffering=0) as stream:  # noqa: PTH123 - as above
            return _read(stream)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(_no_such_file(raw_dir, path), "missing_image") from error
    except OSError as error:
        if not concerns_single_file(error):
            raise
        raise ImageError(error.strerror or str(error), "unreadable") from error


def _read(stream: FileIO) -> bytes:
    """All of a file; one that a photograph cannot be is refused before memory is taken."""
    size = os.fstat(stream.fileno()).st_size
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{size:,} bytes: expected at most {MAX_FILE_BYTES:,}", "too_large")
    return stream.read()


def _no_such_file(raw_dir: Path, path: str) -> str:
    file = raw_dir / path
    if file.is_symlink():
        return f"a link to '{file.readlink()}', where nothing is: copy the image here"
    stem, suffix = os.path.splitext(path)  # noqa: PTH122 - of a path of ours, not the system's
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    for near in (*forms, stem + suffix.swapcase(), path.lower(), path.upper()):
        if near != path and (raw_dir / near).is_file():
            return f"no such file; {near!a} is there, the annotation says {path!a}: rename one"
    return "no such file below the raw directory, although an annotation lists it"


def _real_inside(raw_dir: Path, path: str) -> str:
    """Where a path that has links in it leads."""
    real, root = os.path.realpath(raw_dir / path), os.path.realpath(raw_dir)
    if os.path.commonpath([real, root]) != root:
        raise ImageError(f"leads out of the raw directory, to {real}", "outside_raw_dir")
    return real


def _common_reduction(views: Views, source_size: Size) -> int:
    """The coarsest decoding that is fine enough for every view."""
    return min(
        (
            largest_reduction(view.rect, source_size, task.image_size)
            for task, task_views in views.items()
            for view in task_views
        ),
        default=1,
    )


def _key(origin: str, views: Views, reduction: int) -> int:
    """Hash, not 0, of all that decides the pixels of an image's rows."""
    text = f"{PIXELS_VERSION}\0{origin}\0{reduction}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8)
    for task, task_views in views.items():
        digest.update(f"{task.name}\0{task.image_size}\0{len(task_views)}".encode())
        for view in task_views:
            digest.update(view.rect.astype("<f8").tobytes())
    return int.from_bytes(digest.digest(), "little") or 1


def _copied(
    path: str, keys: Mapping[int, int], views: Views, source_size: Size, earlier: EarlierImages
) -> tuple[_Pictures | None, int]:
    """What the views show, out of earlier files, and its key; None where one does not have it.

    Args:
        path: of the image.
        keys: by reduction, the key of rows that were decoded so.
        views: what to show.
        source_size: height, width of the upright image.
        earlier: the files.
    """
    for reduction, key in keys.items():
        pictures: _Pictures = {}
        for task, task_views in views.items():
            images = earlier.find(task.name, path, key)
            if images is None:
                break
            size = task.image_size
            spans = [place(view.rect, source_size, size, reduction) for view in task_views]
            if len(images) != sum(one is not None for one in spans):
                break
            row = iter(images)
            pictures[task] = [
                one and _Rendered(next(row), rendered_rect(one, size)) for one in spans
            ]
        else:
            return pictures, key
    return None, 0


def _rendered_views(photo: Photo, views: Views) -> _Pictures:
    return {
        task: [_render_view(photo, view.rect, task.image_size) for view in task_views]
        for task, task_views in views.items()
    }


def _render_view(photo: Photo, rect: Rect, size: Size) -> _Rendered | None:
    image = np.empty((*size, 3), dtype=np.uint8)
    shown = render(photo, rect, size, image)
    return None if shown is None else _Rendered(image, shown)


def _rows(
    path: str,
    source_size: Size,
    instances: Instances,
    task: Task,
    rendered_views: Sequence[tuple[View, _Rendered | None]],
    counts: Counter[str],
) -> Iterator[Row]:
    for view, picture in rendered_views:
        if picture is None:
            counts["outside"] += 1
            continue
        image, shown = picture
        columns = task.annotate(instances, view, shown)
        columns["image_paths"] = path
        columns["image_crc32"] = crc32(image)
        columns["source_rects"] = shown
        columns["source_sizes"] = source_size
        counts["instances_stored"] += len(view.instances)
        yield Row(image, columns)
