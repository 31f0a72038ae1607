"""The stored images of one photograph: rendered from its pixels, or copied from an earlier run.

A key says which pixels a row has. Rows with the same key are copied, and nothing is decoded.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from processing.core.coordinates import Rect, Size
from processing.imaging.encoding import Encoding
from processing.imaging.photo import Photo
from processing.imaging.placement import largest_reduction, place, rendered_rect
from processing.imaging.resizing import render
from processing.imaging.stored_rows import encode_row
from processing.imaging.tasks import PIXELS_VERSION, Task, View

_REDUCTIONS: Final = (8, 4, 2, 1)  # the scales of a JPEG codec, coarsest first
_RECT: Final = struct.Struct("<4d")  # equal on every machine

Views = Mapping[Task, Sequence[View]]


class EarlierImages(Protocol):
    """Stored images of an earlier run; `EarlierRows` finds them in its files."""

    def find(self, task: str, path: str, key: int) -> list[NDArray[np.uint8]] | None:
        """The images that a task stored of one photograph, pixels or encoded; None if unknown."""


class Rendered(NamedTuple):
    """An image, uint8 (H, W, 3) or encoded, and the rectangle of its source that it shows."""

    image: NDArray[np.uint8]
    source_rect: Rect


# One entry per view; None if the view shows nothing of the photograph.
Renderings = dict[Task, list[Rendered | None]]


def coarsest_reduction(views: Views, source_size: Size) -> int:
    """The largest reduction at which every view may be rendered: 1, 2, 4 or 8."""
    coarsest = _REDUCTIONS[0] if any(views.values()) else 1
    for task, task_views in views.items():
        for view in task_views:
            if coarsest == 1:  # no view can make it smaller
                return 1
            largest = largest_reduction(view.rect, source_size, task.image_size)
            coarsest = min(coarsest, largest)
    return coarsest


def key_of(origin: str, views: Views, reduction: int) -> int:
    """Hash of everything that decides the pixels of an image's rows; never 0.

    Args:
        origin: the image's path, size and checksum.
        views: the rectangles to render.
        reduction: the reduction that the image is decoded at.
    """
    text = f"{PIXELS_VERSION}\0{origin}\0{reduction}"
    parts = [text.encode(errors="surrogateescape")]
    for task, task_views in views.items():
        parts.append(f"{task.name}\0{task.image_size}\0{len(task_views)}".encode())
        parts.append(task.encoding.key.encode())
        parts += [_RECT.pack(*view.rect) for view in task_views]
    digest = hashlib.blake2b(b"".join(parts), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1  # 0 stands for a rejected image


def find_earlier(
    earlier: EarlierImages,
    path: str,
    key_at: Callable[[int], int],
    coarsest: int,
    views: Views,
    source_size: Size,
) -> tuple[int, Renderings] | None:
    """Looks up all views of an image in an earlier run's files.

    Args:
        earlier: the earlier run.
        path: the image.
        key_at: gives the key of rows that were decoded at a reduction.
        coarsest: the largest reduction that the codec was asked for.
        views: the views to look up.
        source_size: height, width of the upright image.

    Returns:
        The key and the stored images; None unless every task's images were found.
    """
    # The codec may have reduced less than it was asked to, so each reduction is possible.
    for reduction in _REDUCTIONS:
        if reduction > coarsest:
            continue
        key = key_at(reduction)
        renderings: Renderings = {}
        for task, task_views in views.items():
            images = earlier.find(task.name, path, key)
            if images is None:
                break
            rendered = _match_images(images, task, task_views, source_size, reduction)
            if rendered is None:
                break
            renderings[task] = rendered
        else:
            return key, renderings
    return None


def _match_images(
    images: Sequence[NDArray[np.uint8]],
    task: Task,
    views: Sequence[View],
    source_size: Size,
    reduction: int,
) -> list[Rendered | None] | None:
    """Assigns stored images to the views that they show; None if number or size differ.

    Rows hold the rectangle as float32, so it is computed again, at full precision.
    """
    shape = (*task.image_size, 3)
    if task.encoding.is_raw and any(image.shape != shape for image in images):
        return None
    rendered: list[Rendered | None] = []
    remaining = iter(images)
    for view in views:
        spans = place(view.rect, source_size, task.image_size, reduction)
        if spans is None:  # such a view had no row
            rendered.append(None)
            continue
        image = next(remaining, None)
        if image is None:
            return None
        rendered.append(Rendered(image, rendered_rect(spans, task.image_size)))
    return rendered if next(remaining, None) is None else None


def render_views(photo: Photo, views: Views, original: bytes | None = None) -> Renderings:
    """Renders every view of a decoded photograph, and encodes it as its task stores it.

    Tasks that store the same rectangle alike share one image: crops of one size, for instance.

    Args:
        photo: the photograph.
        views: the views.
        original: the photograph's own file, for tasks that store it; None if it is no JPEG.
    """
    renderings: Renderings = {}
    made: dict[tuple[Rect, Size, Encoding], Rendered | None] = {}
    for task, task_views in views.items():
        rendered = renderings[task] = []
        for view in task_views:
            if original is not None and task.may_keep_originals:
                rendered.append(_keep(original, photo, view, task))
                continue
            stored_as = view.rect, task.image_size, task.encoding
            if stored_as not in made:
                made[stored_as] = _render(photo, *stored_as)
            rendered.append(made[stored_as])
    return renderings


def _render(photo: Photo, rect: Rect, size: Size, encoding: Encoding) -> Rendered | None:
    image = np.empty((*size, 3), dtype=np.uint8)
    source_rect = render(photo, rect, size, image)
    if source_rect is None:
        return None
    return Rendered(image if encoding.is_raw else encode_row(image, encoding), source_rect)


def _keep(original: bytes, photo: Photo, view: View, task: Task) -> Rendered | None:
    """The photograph's own file, and the rectangle that reading will show of it."""
    spans = place(view.rect, photo.source_size, task.image_size, photo.reduction)
    if spans is None:
        return None
    return Rendered(np.frombuffer(original, np.uint8), rendered_rect(spans, task.image_size))
