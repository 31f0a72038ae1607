"""Lists ``NAME.dropped.jsonl``: the instances and points that stored images of a file lack.

One JSON object a line, see `core.errors.Dropped`, in the order of the images and of their
annotations. The lines travel through the journal, so a list does not depend on interruptions. A
data set may lack a million boxes, so no list is ever held in memory.

The metadata of an NPZ file has a checksum of its list without files and places. When a line is
added to an annotation file, the places of its boxes change, and the NPZ file does not: only the
list is written again.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import itertools
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path

import msgspec
from isal.isal_zlib import crc32

from processing.core.annotations import AnnotationTable
from processing.core.error_notes import with_filename
from processing.core.errors import Dropped, InterferenceError
from processing.core.files import written_durably
from processing.imaging.losses import UNLABELLED_POINTS, Origins
from processing.imaging.tasks import Task
from processing.run.output_directory import differs, dropped_path


class _Line(msgspec.Struct):
    """A line as it is read back; a number that is not finite is null in JSON."""

    image: str
    file: str
    place: str
    reason: str
    category: str
    values: list[float | None]


def identity_crc32(npz: Path) -> int | None:
    """A checksum of the list of a file, without files and places; 0 without a list.

    Returns:
        The checksum; None if a line cannot be read.
    """
    checksum = 0
    try:
        for line in _lines(npz):
            identity = [line.image, line.reason, line.category, line.values]
            checksum = crc32(msgspec.json.encode(identity), checksum)
    except msgspec.DecodeError:
        return None
    return checksum


def update_places(npz: Path, task: Task, table: AnnotationTable) -> None:
    """Writes the list of a file again if the annotations lie elsewhere now.

    Args:
        npz: the file, which is up to date; its list has the right entries.
        task: of the file.
        table: the annotations.

    Raises:
        InterferenceError: the list has an entry that is not of these annotations.
    """
    path = dropped_path(npz)
    try:
        if differs(path, _placed_again(npz, task, table)):
            with written_durably(path) as file:
                file.writelines(_placed_again(npz, task, table))
    except LookupError as error:
        raise InterferenceError(
            f"{path}: changed while it was read: does another process write to that directory? Run "
            "again"
        ) from error


def _lines(npz: Path) -> Iterator[_Line]:
    """Reads a list line by line.

    Raises:
        msgspec.DecodeError: a line is damaged.
    """
    path = dropped_path(npz)
    with contextlib.suppress(FileNotFoundError), with_filename(path), path.open("rb") as file:
        for line in file:
            yield msgspec.json.decode(line, type=_Line)


def _placed_again(npz: Path, task: Task, table: AnnotationTable) -> Iterator[bytes]:
    """The lines of a list with the files and places that the annotations have now.

    Raises:
        LookupError: a line is not of these annotations.
    """
    for image, lines in itertools.groupby(_lines(npz), key=lambda line: line.image):
        origins = origins_of(table, image)
        if origins is None:
            raise LookupError(image)
        found = _by_content(task, origins)
        for line in lines:
            # Equal entries were dropped in the order of the annotations.
            same = found[_content(line)]
            if not same:
                raise LookupError(image)
            now = dataclasses.replace(same.popleft(), reason=line.reason)
            yield msgspec.json.encode(now) + b"\n"


def origins_of(table: AnnotationTable, image: str) -> Origins | None:
    """The annotations of an image and where they lie; None if the table lacks the image."""
    i = bisect.bisect_left(table.image_paths, image, key=str)
    if i == len(table) or table.image_paths[i] != image:
        return None
    return Origins(image, table.image(i), table.category_names, table.annotation_sets)


def _by_content(task: Task, origins: Origins) -> dict[bytes, deque[Dropped]]:
    """All instances and points of an image that a list may name, by the content of a line."""
    found: dict[bytes, deque[Dropped]] = defaultdict(deque)
    annotations = origins.annotations
    for i in task.instances(annotations).nonzero()[0].tolist():
        listed = [origins.dropped(i, "", task.values(annotations, i))]
        if task.stores_points:
            for number, point in enumerate(annotations.points[i]):
                listed.append(origins.dropped(i, UNLABELLED_POINTS, point, number))
        for each in listed:
            found[_content(each)].append(each)
    return found


def _content(entry: Dropped | _Line) -> bytes:
    """Category and values of an entry, equal before and after it is written."""
    is_point = entry.reason == UNLABELLED_POINTS
    return msgspec.json.encode([entry.category, is_point, entry.values])
