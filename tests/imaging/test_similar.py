"""Perceptual hashes: copies are found after JPEG and resizing, and different pictures are not."""

import cv2
import numpy as np
import pytest

from processing.imaging.alignment import align
from processing.imaging.similar import look_at, similar_pairs


def picture(seed, height=120, width=160):
    """A picture of coarse random shapes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def pairs_of(pictures):
    """The pairs that are found among pictures."""
    looks = [look_at(one) for one in pictures]
    hashes = np.array([look.hash for look in looks], dtype=np.uint64)
    mirrored = np.array([look.mirrored for look in looks], dtype=np.uint64)
    return list(similar_pairs(hashes, mirrored, np.stack([one.thumbnail for one in looks])).rows())


def encoded(pixels, quality):
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: encoded(p, 20),
        lambda p: cv2.resize(p, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA),
        lambda p: cv2.resize(p, (300, 300)),
        lambda p: (p * 0.6).astype(np.uint8),
        lambda p: cv2.GaussianBlur(p, (0, 0), 1.5),
        lambda p: p[4:-2, 3:-5],
        lambda p: p[6:-6, 8:-8],
        lambda p: p[4:-8, 10:-6],
    ],
    ids=["quality", "smaller", "stretched", "darker", "blurred", "cut 3 %", "cut 5 %", "cut 6 %"],
)
def test_a_changed_copy_is_found_among_others(change):
    pictures = [picture(seed) for seed in range(30)]
    pictures.append(change(pictures[7]))
    assert pairs_of(pictures) == [(7, 30, False)]


def test_a_mirrored_copy_is_found():
    pictures = [picture(seed) for seed in range(10)]
    pictures.append(np.ascontiguousarray(pictures[4][:, ::-1]))
    assert pairs_of(pictures) == [(4, 10, True)]


def product(seed):
    """A picture of one object on a white ground, as shops have them."""
    rng = np.random.default_rng(seed)
    pixels = np.full((400, 400, 3), 250, dtype=np.uint8)
    corners = int(rng.integers(5, 12))
    angles = 2 * np.pi * np.arange(corners) / corners
    reach = rng.uniform(60, 140) * rng.uniform(0.5, 1, (corners, 1))
    outline = rng.uniform(160, 240, 2) + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(pixels, [outline.astype(np.int32)], rng.integers(20, 220, 3).tolist())
    for _ in range(rng.integers(2, 9)):
        centre = (outline.mean(axis=0) + rng.uniform(-40, 40, 2)).astype(int).tolist()
        cv2.circle(pixels, centre, int(rng.integers(4, 30)), rng.integers(0, 256, 3).tolist(), -1)
    return pixels


def test_objects_on_one_plain_ground_are_no_copies_of_each_other():
    pictures = [product(seed) for seed in range(80)]
    pictures += [encoded(pictures[3], 40), (pictures[9] * 0.8).astype(np.uint8)]
    assert [pair for pair in pairs_of(pictures) if not pair[2]] == [(3, 80, False), (9, 81, False)]


def test_flat_pictures_are_no_copies_of_each_other():
    assert pairs_of([np.full((50, 50, 3), value, dtype=np.uint8) for value in (0, 128, 255)]) == []


def test_no_pictures_have_no_pairs():
    nothing = np.zeros(0, dtype=np.uint64)
    assert not len(similar_pairs(nothing, nothing, np.zeros((0, 24, 24), dtype=np.uint8)).first)


def test_many_copies_of_one_picture_are_not_all_compared_with_each_other():
    count = 200
    look = look_at(picture(1))
    hashes = np.full(count, look.hash, dtype=np.uint64)
    mirrored = np.full(count, look.mirrored, dtype=np.uint64)
    found = similar_pairs(hashes, mirrored, np.repeat(look.thumbnail[None], count, axis=0))
    assert len(found.first) < count * 24  # all pairs are 19,900
    neighbours = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert all((i, i + 1) in neighbours for i in range(count - 1))


@pytest.mark.parametrize(
    ("rows", "columns", "is_turn"),
    [
        (slice(0, 116), slice(8, 168), True),
        (slice(4, 116), slice(6, 154), False),
        (slice(0, 120), slice(0, 160), False),
    ],
    ids=["turned", "cut", "same"],
)
def test_a_camera_that_was_turned_differs_from_a_border_that_was_cut_off(rows, columns, is_turn):
    scene = picture(3, height=120, width=168)
    first, second = (look_at(one).thumbnail for one in (scene[:, :160], scene[rows, columns]))
    found = align(second, first)
    assert found.correlation > 0.9
    assert found.is_turn == is_turn


def test_pictures_that_cannot_be_aligned_have_no_correlation():
    noise = np.random.default_rng(0).integers(0, 255, (2, 24, 24), dtype=np.uint8)
    assert align(*noise).correlation < 0.5
    assert align(noise[0], np.zeros((24, 24), dtype=np.uint8)).correlation == 0
