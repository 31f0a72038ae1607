"""Finds photographs that show the same picture, although their bytes differ.

Each photograph gets a perceptual hash of 64 bits from the low frequencies of its brightness, which
survive another size or quality of JPEG. Photographs whose hashes differ in few bits are compared
once more by small thumbnails. A photograph without its border is found by the hash of the inner
part of the other. Pure functions of pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from processing.imaging.alignment import align, align_part

_SIDE: Final = 32
"""Side of the square that the hash is computed from: room for eight low frequencies."""
_FREQUENCIES: Final = 8
THUMBNAIL_SIDE: Final = 24
"""Side of a thumbnail. 100,000 of them take 58 MB."""

_MOST_BITS: Final = 10
"""Of 307 photographs, copies of quality 15 or a third of the size differ in at most 4 bits,
brighter or slightly cropped ones in 10. No two different ones differ in less than 14."""
_BORDER: Final = 0.06
"""What the inner part lacks at each side. Copies that lack 3 to 9 % differ from it in few bits."""
_LEAST_ALIKE: Final = 0.4
"""Correlation of thumbnails from which on an alignment is tried: it takes 2 ms."""
_MOST_ALIGNED: Final = 4096
"""Pairs that are aligned, the nearest hashes first."""
_LEAST_CORRELATION: Final = 0.9
"""Of two thumbnails. The same copies have 0.99 or more, brighter ones 0.94; different ones at most
0.74. So have those without a border once they are aligned: mostly 0.9 or more, up to 6 %."""
_LEAST_EDGES: Final = 0.7
"""Correlation of the differences between neighbouring pixels of two thumbnails. The same copies
have 0.92 or more, those without a border of 2 % mostly 0.78. Different objects on one plain ground
have at most 0.63, though their thumbnails may correlate to 0.92."""
_OUTER: Final = 4
_LEAST_OUTER: Final = 12.0
"""Pixels at each side of a thumbnail, and the standard deviation of their brightness from which on
an alignment proves something: an object on a plain ground can be stretched to fit most others. Such
pictures have 10 at most, and 143 of 144 photographs at least this."""
_LEAST_CONTRAST: Final = 4.0
"""Standard deviation of the brightness, 0 to 255. The hash of a flatter picture is noise."""
BLANK: Final = 1.0
"""The same, below which a photograph shows nothing: noise of a covered lens has more."""

_MOST_IN_BUCKET: Final = 24
"""Photographs of one bucket that are all compared with each other. In a larger one, each is
compared with this many next ones in the order of hashes, so that the work stays linear."""


class Look(NamedTuple):
    """What is kept of a photograph's pixels.

    Args:
        hash: perceptual hash.
        mirrored: the hash of the mirrored photograph.
        thumbnail: uint8 (24, 24), brightness.
    """

    hash: int
    mirrored: int
    thumbnail: NDArray[np.uint8]


def look_at(pixels: NDArray[np.uint8]) -> Look:
    """Looks at a photograph, uint8 (h, w, 3) RGB."""
    # First smaller, then grey: that is less work than the other way round.
    small = cv2.resize(pixels, (2 * _SIDE, 2 * _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    square = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(square)[:_FREQUENCIES, :_FREQUENCIES]
    # Mirroring changes the sign of every second horizontal frequency.
    signs = np.where(np.arange(_FREQUENCIES) % 2, -1, 1)
    thumbnail = cv2.resize(grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    return Look(_bits(waves), _bits(waves * signs), thumbnail.astype(np.uint8))


def _bits(waves: NDArray[Any]) -> int:
    """The sign of each frequency. The first, the mean brightness, says nothing: its bit is 0."""
    bits = waves.ravel() > 0
    bits[0] = False
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class SimilarPairs(NamedTuple):
    """Pairs of photographs that show the same picture.

    Args:
        first: int64 (P,), positions.
        second: int64 (P,), positions; larger than `first`.
        mirrored: bool (P,), whether one is the mirror image of the other.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mirrored: NDArray[np.bool_]

    def rows(self) -> Iterator[tuple[int, int, bool]]:
        """Yields one pair after the other."""
        return zip(self.first.tolist(), self.second.tolist(), self.mirrored.tolist(), strict=True)


def similar_pairs(
    hashes: NDArray[np.uint64],
    mirrored: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
) -> SimilarPairs:
    """Finds pairs of photographs that show the same picture, also mirrored.

    Args:
        hashes: uint64 (N,), of each photograph.
        mirrored: uint64 (N,), of its mirror image.
        thumbnails: uint8 (N, 24, 24).
    """
    count = len(hashes)
    if not count:
        nothing = np.empty(0, dtype=np.int64)
        return SimilarPairs(nothing, nothing, nothing.astype(bool))
    clear = thumbnails.reshape(count, -1).std(axis=1) >= _LEAST_CONTRAST
    positions = np.flatnonzero(clear)
    # From `count` on, the mirror images; from twice `count` on, the inner parts.
    all_positions = np.concatenate([positions, positions + count, positions + 2 * count])
    inner = _inner_hashes(thumbnails[clear])
    near_first, near_second, bits = _near(np.concatenate([hashes[clear], mirrored[clear], inner]))
    first, second = all_positions[near_first], all_positions[near_second]
    first, second = np.minimum(first, second), np.maximum(first, second)
    # A pair of mirror images, or of inner parts, is the pair of the photographs once more.
    wanted = (first < count) & (second % count != first)
    first, second, bits = first[wanted], second[wanted], bits[wanted]
    is_mirrored, is_inner = second // count == 1, second // count == 2
    second = second % count
    alike, edges, outer = _compare(thumbnails, first, second, is_mirrored)
    same = ~is_inner & (alike >= _LEAST_CORRELATION) & (edges >= _LEAST_EDGES)
    may_be_part = ~is_mirrored & (alike >= _LEAST_ALIKE) & (outer >= _LEAST_OUTER)
    unsure = np.flatnonzero(~same & may_be_part)
    unsure = unsure[np.argsort(bits[unsure], kind="stable")][:_MOST_ALIGNED]
    for pair in unsure.tolist():
        both = thumbnails[first[pair]], thumbnails[second[pair]]
        aligned = align_part(*both, _BORDER) if is_inner[pair] else align(*both)
        same[pair] = aligned.correlation >= _LEAST_CORRELATION
    low, high = np.minimum(first, second)[same], np.maximum(first, second)[same]
    keys = _distinct((low * count + high) * 2 + is_mirrored[same])
    return SimilarPairs(keys // 2 // count, keys // 2 % count, keys % 2 == 1)


def _inner_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes photographs without their borders, as far as thumbnails (N, 24, 24) show them."""
    edges = np.linspace(0, 1, THUMBNAIL_SIDE + 1).clip(_BORDER, 1 - _BORDER)
    places = (edges[:-1] + edges[1:]) / 2 - _BORDER
    waves = np.cos(np.pi / (1 - 2 * _BORDER) * np.outer(np.arange(_FREQUENCIES), places))
    waves = (waves * np.diff(edges)).astype(np.float32)
    hashes = np.zeros(len(thumbnails), dtype=np.uint64)
    at_once = 1 << 14
    for start in range(0, len(thumbnails), at_once):
        part = thumbnails[start : start + at_once].astype(np.float32)
        bits = (waves @ part @ waves.T > 0).reshape(len(part), -1)
        bits[:, 0] = False
        hashes[start : start + at_once] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return hashes


def _near(
    hashes: NDArray[np.uint64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Pairs of hashes that differ in at most `_MOST_BITS` bits, and in how many.

    Six changed bits leave two of the eight bytes as they are, and seven to ten do mostly.
    So hashes are sorted into buckets by each of the 28 pairs of bytes, and only those of one bucket
    are compared.
    """
    count = len(hashes)
    pairs = np.empty(0, dtype=np.int64)
    octets = (hashes[:, None] >> (8 * np.arange(8, dtype=np.uint64))) & np.uint64(0xFF)
    for one, other in itertools.combinations(range(8), 2):
        keys = octets[:, one] << np.uint64(8) | octets[:, other]
        order = np.lexsort((hashes, keys))
        found = [pairs]
        for first, second in _in_buckets(keys[order]):
            a, b = order[first], order[second]
            near = np.bitwise_count(hashes[a] ^ hashes[b]) <= _MOST_BITS
            found.append((np.minimum(a, b) * count + np.maximum(a, b))[near])
        pairs = _distinct(np.concatenate(found))
    first, second = pairs // max(count, 1), pairs % max(count, 1)
    return first, second, np.bitwise_count(hashes[first] ^ hashes[second])


def _distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the values sorted, each once. For such values, `np.unique` takes far longer."""
    values = np.sort(values)
    is_new = np.append(True, values[1:] != values[:-1])[: len(values)]
    distinct: NDArray[np.int64] = values[is_new]
    return distinct


def _in_buckets(keys: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yields pairs of neighbours with the same key, one distance after the other.

    Args:
        keys: (N,), sorted.
    """
    for distance in range(1, _MOST_IN_BUCKET):
        same = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(same):
            return
        yield same, same + distance


def _compare(
    thumbnails: NDArray[np.uint8],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Compares the thumbnails of pairs, whatever their brightness and contrast.

    Returns:
        float32 (3, P): the correlation of the pixels; that of the differences between neighbouring
        pixels; and the lower one of both contrasts near the edges.
    """
    compared = np.zeros((3, len(first)), dtype=np.float32)
    at_once = 1 << 13  # pairs; their thumbnails and differences take 110 MB as numbers
    for start in range(0, len(first), at_once):
        part = slice(start, start + at_once)
        ones, others = thumbnails[first[part]], thumbnails[second[part]]
        turned = mirrored[part]
        others[turned] = others[turned][:, :, ::-1]
        compared[0, part] = correlation(ones, others)
        compared[1, part] = correlation(_differences(ones), _differences(others))
        compared[2, part] = np.minimum(_outer_contrast(ones), _outer_contrast(others))
    return compared


def _differences(thumbnails: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Differences int16 (P, 2, h - 1, w - 1) to the next pixel, across and down."""
    pixels = thumbnails.astype(np.int16)
    here = pixels[:, :-1, :-1]
    return np.stack([pixels[:, :-1, 1:] - here, pixels[:, 1:, :-1] - here], axis=1)


def _outer_contrast(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Standard deviation float32 (N,) of the pixels near the edges of thumbnails."""
    is_outer = np.ones((THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=bool)
    is_outer[_OUTER:-_OUTER, _OUTER:-_OUTER] = False
    contrast: NDArray[np.float32] = thumbnails[:, is_outer].std(axis=1, dtype=np.float32)
    return contrast


def correlation(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float32]:
    """Returns float32 (P,): the correlation of pictures (P, …) with others; NaN of flat ones."""
    a, b = (each.reshape(len(each), -1).astype(np.float32) for each in (one, other))
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    product = (a * b).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float32] = product / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return found
