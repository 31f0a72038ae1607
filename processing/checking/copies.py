"""Finds photographs that lie in the data set more than once, by content and by looks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding, Severity
from processing.core.annotations import SPLITS
from processing.imaging.alignment import align
from processing.imaging.similar import BLANK, THUMBNAIL_SIDE, Look, SimilarPairs, similar_pairs

_ROBOFLOW: Final = re.compile(r"^(?P<origin>.+)\.rf\.[0-9A-Za-z]+$")
"""Roboflow writes NAME_jpg.rf.HASH.jpg, and augments one photograph into several such files."""

_DARK: Final = 20
"""Brightness of the brightest place of a thumbnail. Photographs of the night show lights."""
_GREY: Final = 128
_FEWEST_GREY_ROWS: Final = 2
"""Brightness, and rows of a thumbnail, 8 % of the photograph."""

_KEEP_ONE: Final = "keep one of them"
_MOST_COPIES: Final = 5
"""Photographs above which a group is rather what one camera sees than copies of one photograph."""
_ONE_CAMERA: Final = (
    "if a camera that does not move took them, keep them in one split (--group-by, or the lists); "
    "if they are copies, keep one"
)
NO_LEAK: Final = (
    "delete the copies outside train, or keep all of them in one split (--group-by, or the lists)"
)


class Pictures:
    """What a check has seen of N photographs.

    Args:
        paths: N paths.
        splits: int8 (N,), positions in `SPLITS`; -1 for a photograph in no split.

    Attributes:
        crc32: uint32 (N,), of the content; 0 for a photograph that could not be read.
        bytes: int64 (N,), of the files.
        hashes, mirrored: uint64 (N,), perceptual hashes.
        thumbnails: uint8 (N, 24, 24).
        seen: bool (N,), whether the photograph was decoded.
    """

    def __init__(self, paths: Sequence[str], splits: NDArray[np.int8]) -> None:
        count = len(paths)
        self.paths, self.splits = paths, splits
        self.crc32 = np.zeros(count, dtype=np.uint32)
        self.bytes = np.zeros(count, dtype=np.int64)
        self.hashes, self.mirrored = np.zeros((2, count), dtype=np.uint64)
        self.thumbnails = np.zeros((count, THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.uint8)
        self.seen = np.zeros(count, dtype=bool)

    def add(self, image: int, look: Look) -> None:
        """Notes what was seen of a photograph."""
        self.hashes[image], self.mirrored[image] = look.hash, look.mirrored
        self.thumbnails[image] = look.thumbnail
        self.seen[image] = True


def check_copies(pictures: Pictures) -> Iterator[Finding]:
    """Finds exact copies, near copies, mirrored copies and blank photographs."""
    exact = exact_groups(pictures)
    copies = {image for group in exact for image in group[1:]}
    for group in exact:
        yield _finding(pictures, group, "exact_copy", "have the same content")
    kept = np.array(
        [i for i in np.flatnonzero(pictures.seen).tolist() if i not in copies], dtype=np.int64
    )
    pairs = similar_pairs(pictures.hashes[kept], pictures.mirrored[kept], pictures.thumbnails[kept])
    group_of_copy = {group[0]: group for group in exact}
    for group in _joined(pairs, kept, mirrored=False):
        # A copy of the first photograph may be in another split.
        whole = [image for one in group for image in group_of_copy.get(one, [one])]
        is_burst = len(whole) == len(group) and _are_burst(pictures, group)
        found = "show one scene, one after another" if is_burst else "show the same picture"
        yield _finding(pictures, sorted(whole), "near_copy", found, is_harmless=is_burst)
    for group in _joined(pairs, kept, mirrored=True):
        yield _finding(
            *(pictures, group, "mirrored_copy", "show the same picture, mirrored"),
            is_harmless=True,  # augmented training data
        )
    yield from _one_origin(pictures)
    yield from _blank(pictures)
    yield from _dark(pictures)
    yield from _grey_below(pictures)


def exact_groups(pictures: Pictures) -> list[list[int]]:
    """Returns the positions of photographs with the same bytes, group by group.

    Files that are no photographs, such as one web page under several names, are reported as such.
    """
    known = np.flatnonzero(pictures.seen)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    keys = zip(pictures.crc32[known].tolist(), pictures.bytes[known].tolist(), strict=True)
    for image, key in zip(known.tolist(), keys, strict=True):
        groups[key].append(image)
    return [group for group in groups.values() if len(group) > 1]


def _joined(pairs: SimilarPairs, kept: NDArray[np.int64], *, mirrored: bool) -> list[list[int]]:
    """Joins pairs that share a photograph into groups of positions."""
    parent: dict[int, int] = {}

    def root(image: int) -> int:
        while parent.setdefault(image, image) != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for first, second, is_mirrored in pairs.rows():
        if is_mirrored == mirrored:
            parent[root(second)] = root(first)
    groups: dict[int, list[int]] = defaultdict(list)
    for image in sorted(parent):
        groups[root(image)].append(int(kept[image]))
    return list(groups.values())


def _are_burst(pictures: Pictures, group: Sequence[int]) -> bool:
    """Whether a camera was turned from each photograph to the next, as between two exposures."""
    shown = pictures.thumbnails
    return all(align(shown[one], shown[other]).is_turn for one, other in pairwise(group))


def _finding(
    pictures: Pictures, group: Sequence[int], kind: str, found: str, *, is_harmless: bool = False
) -> Finding:
    """Describes a group of copies. In one split, some need nothing."""
    paths = [pictures.paths[image] for image in group]
    splits = {int(pictures.splits[image]) for image in group} - {-1}
    severity: Severity = "warning"
    remedy = _KEEP_ONE
    if kind == "near_copy" and len(group) > _MOST_COPIES:
        remedy = _ONE_CAMERA
    names = " and ".join(SPLITS[split] for split in sorted(splits))
    if len(splits) > 1:
        kind = f"{kind}_across_splits"
        remedy = NO_LEAK if remedy == _KEEP_ONE else remedy
        found += f", and are in {names}: a model would be tested on what it has learnt"
    elif is_harmless:
        severity, remedy = "info", ""
    message = f"{len(paths)} photographs {found}"
    return Finding(
        kind, severity, paths[0], message, remedy, others=tuple(paths[1:]), count=len(paths) - 1
    )


def _one_origin(pictures: Pictures) -> Iterator[Finding]:
    """Finds augmented files of one photograph in several splits, by the names of Roboflow."""
    origins: dict[str, list[int]] = defaultdict(list)
    for image, path in enumerate(pictures.paths):
        stem = path.rpartition("/")[2].rpartition(".")[0]
        match = _ROBOFLOW.match(stem)
        if match and pictures.splits[image] >= 0:
            origins[match["origin"]].append(image)
    for group in origins.values():
        if len({int(pictures.splits[image]) for image in group}) > 1:
            yield _finding(pictures, group, "one_origin", "were made from one by Roboflow")


def _blank(pictures: Pictures) -> Iterator[Finding]:
    for image in np.flatnonzero(pictures.seen).tolist():
        if pictures.thumbnails[image].std() < BLANK:
            yield Finding(
                "blank_photograph",
                "warning",
                pictures.paths[image],
                "the photograph has one colour everywhere",
                "copy the photograph again, or delete it with its annotations",
            )


def _dark(pictures: Pictures) -> Iterator[Finding]:
    """Finds photographs that are nearly black, as 16-bit files of a camera with 12 bits become."""
    for image in np.flatnonzero(pictures.seen).tolist():
        thumbnail = pictures.thumbnails[image]
        if thumbnail.max() <= _DARK and thumbnail.std() >= BLANK:
            yield Finding(
                "dark_photograph",
                "warning",
                pictures.paths[image],
                f"the photograph is nearly black: its brightness is {thumbnail.max()} of 255 at "
                "most",
                "expose it again, or delete it; a file of 16 bits is divided by 256, so scale "
                "values of 10 or 12 bits to all 16 before",
            )


def _grey_below(pictures: Pictures) -> Iterator[Finding]:
    """Finds the grey that decoders draw for the missing end of a JPEG, in one that is whole."""
    for image in np.flatnonzero(pictures.seen).tolist():
        rows = pictures.thumbnails[image].astype(np.int16)
        is_grey = (abs(rows - _GREY) <= 1).all(axis=1)
        count = len(rows) if is_grey.all() else int(np.argmin(is_grey[::-1]))
        # Borders that were added lie above the picture, too.
        if _FEWEST_GREY_ROWS <= count < len(rows) and not is_grey[0]:
            yield Finding(
                "grey_below",
                "warning",
                pictures.paths[image],
                f"the lowest {count / len(rows):.0%} of the photograph is one grey",
                "copy or download the photograph again: it was cut short, then saved anew",
            )
