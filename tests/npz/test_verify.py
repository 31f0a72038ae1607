"""Verifying whole files: values that no checksum covers. All images are higher or wider."""

import json

import numpy as np
import pytest
from isal.isal_zlib import crc32

from processing.core.errors import ChecksumError, NPZFormatError
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ
from processing.npz.verify import verify_columns

HEIGHT, WIDTH = 4, 6


def verify(path):
    verify_columns(Contents.read(MappedNPZ(path), will_gather=False))


def write(path, *, task, **changed):
    """Writes a file of two rows in the current format, with some members changed."""
    images = np.arange(2 * HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(2, HEIGHT, WIDTH, 3)
    metadata = {
        "format_version": 1,
        "task": task,
        "image_size": [HEIGHT, WIDTH],
        "category_names": ["face"],
    }
    members = {
        "images": images,
        "image_paths": np.array(["a.jpg", "b.jpg"]),
        "image_crc32": np.array([crc32(image) for image in images], np.uint32),
        "source_sizes": np.int32([[20, 30], [50, 40]]),  # height, width
        "metadata": np.array(json.dumps(metadata)),
    }
    np.savez(path, **{**members, **changed})
    return path


def detector(path, boxes):
    """Both boxes are in row 1."""
    return write(path, task="detector", bboxes=boxes, bboxes_offsets=np.array([0, 0, 2]))


def teacher(path, boxes):
    return write(path, task="teacher", bboxes=boxes)


# Each pair of boxes fills its image exactly; no box fits into it with height and width swapped.
SOUND = {
    detector: np.float32([[0, 0, WIDTH, 1], [0, 0, WIDTH, HEIGHT]]),
    teacher: np.float32([[0, 0, 30, 20], [0, 0, 40, 50]]),
}


@pytest.mark.parametrize("build", [detector, teacher])
def test_boxes_that_fill_a_non_square_image_are_sound(tmp_path, build):
    verify(build(tmp_path / "a.npz", SOUND[build]))


@pytest.mark.parametrize("build", [detector, teacher])
@pytest.mark.parametrize("side", [2, 3])
def test_a_box_one_pixel_beyond_either_edge_is_named(tmp_path, build, side):
    boxes = SOUND[build].copy()
    boxes[1, side] += 1
    with pytest.raises(NPZFormatError, match=r"a\.npz: member 'bboxes', row 1: .*is no box inside"):
        verify(build(tmp_path / "a.npz", boxes))


def test_each_teacher_box_is_compared_with_its_own_source_image(tmp_path):
    boxes = np.float32([[0, 0, 30, 21], [0, 0, 40, 50]])  # 21 would fit into the other image
    with pytest.raises(NPZFormatError, match=r"member 'bboxes', row 0: .*is no box inside"):
        verify(teacher(tmp_path / "a.npz", boxes))


def test_an_image_size_with_height_and_width_swapped_is_refused(tmp_path):
    metadata = {"format_version": 1, "image_size": [WIDTH, HEIGHT]}
    path = write(
        tmp_path / "a.npz",
        task="teacher",
        bboxes=SOUND[teacher],
        metadata=np.array(json.dumps(metadata)),
    )
    with pytest.raises(NPZFormatError, match=r"image_size is \[6, 4\], the images have \[4, 6\]"):
        verify(path)


def test_a_wrong_row_checksum_names_the_row(tmp_path):
    path = write(
        tmp_path / "a.npz",
        task="teacher",
        bboxes=SOUND[teacher],
        image_crc32=np.zeros(2, np.uint32),
    )
    with pytest.raises(ChecksumError, match=r"member 'images', row 0 \(a\.jpg\): CRC-32 is"):
        verify(path)
