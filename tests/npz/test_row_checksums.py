"""Checksums of rows as other programs store them: of any integer type, also signed."""

import fsspec
import numpy as np
import pytest
import simplejpeg
from isal.isal_zlib import crc32

from processing.core.errors import ChecksumError
from processing.lazy_dataset import LazyNPZDataset

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


def write(path, store, dtype):
    """Writes a teacher's file with pixels or JPEGs, and checksums of another type."""
    rows = [image.tobytes() for image in IMAGES]
    members = {"images": IMAGES}
    if store == "jpeg":
        rows = [simplejpeg.encode_jpeg(image) for image in IMAGES]
        members = {
            "images_jpeg": np.frombuffer(b"".join(rows), np.uint8),
            "images_offsets": np.cumsum([0, *map(len, rows)]),
        }
    checksums = np.array([crc32(row) for row in rows], np.uint32)
    assert (checksums > np.iinfo(np.int32).max).any()
    np.savez(
        path,
        bboxes=np.ones((6, 4), np.float32),
        image_paths=np.array([f"{i}.jpg" for i in range(6)]),
        image_crc32=checksums.view(np.int32).astype(dtype),
        metadata=np.array('{"image_size": [8, 8]}'),
        **members,
    )
    return path


@pytest.mark.parametrize("at", ["disk", "url"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_signed_and_wide_checksums_are_those_of_the_rows(tmp_path, store, dtype, at):
    place = path = write(tmp_path / "train_teacher.npz", store, dtype)
    if at == "url":
        place = f"memory://checksums/{store}/{np.dtype(dtype)}.npz"
        fsspec.filesystem("memory").pipe(place, path.read_bytes())
    with LazyNPZDataset(place, verify=True) as dataset:
        dataset.verify()
        assert len(dataset.get_batch(range(6))["images"]) == 6


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_a_row_that_differs_from_a_signed_checksum_is_named(tmp_path, store):
    path = write(tmp_path / "train_teacher.npz", store, np.int32)
    data = bytearray(path.read_bytes())
    row = IMAGES[4].tobytes() if store == "raw" else simplejpeg.encode_jpeg(IMAGES[4])
    data[data.index(row) + 100] ^= 1
    path.write_bytes(data)
    with LazyNPZDataset(path, verify=True) as dataset:
        with pytest.raises(ChecksumError, match=r"row 4 \(4\.jpg\)"):
            dataset.get_batch(range(6))
        with pytest.raises(ChecksumError, match=r"row 4 \(4\.jpg\)"):
            dataset.verify()
