import contextlib
import errno
import os
import subprocess
import sys
import zipfile
from contextlib import closing
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from isal.isal_zlib import crc32, crc32_combine

from processing.npz import blocks
from processing.npz.format import ALIGNMENT
from processing.npz.mapped import MappedNPZ
from processing.npz.writer import NPZWriter


def write_images(path, images, **columns):
    with closing(NPZWriter(path)) as writer:
        writer.begin("images", np.uint8, images.shape[1:])
        writer.append(images)
        writer.end(crc32(images.tobytes()))
        for name, column in columns.items():
            writer.write(name, column)
        writer.write("metadata", np.array('{"task": "detector", "ä": 1}'))
        writer.finish()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), dtype=np.uint8)


@pytest.fixture
def small_file(tmp_path, images):
    path = tmp_path / "small.npz"
    write_images(path, images, image_paths=np.array(["a.jpg", "b/ü.jpg", "c", "d", "e"]))
    return path


def test_plain_numpy_reads_a_file_without_pickle(small_file, images):
    with np.load(small_file, allow_pickle=False) as stored:
        assert stored.files == ["images", "image_paths", "metadata"]
        np.testing.assert_array_equal(stored["images"], images)
        assert stored["image_paths"].tolist() == ["a.jpg", "b/ü.jpg", "c", "d", "e"]
        assert stored["metadata"].shape == ()
        assert stored["metadata"].item() == '{"task": "detector", "ä": 1}'


@pytest.mark.parametrize("command", [[sys.executable, "-m", "zipfile", "-t"], ["unzip", "-t"]])
def test_zip_tools_find_no_fault(small_file, command):
    try:
        result = subprocess.run([*command, small_file], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_member_is_stored_and_its_data_is_page_aligned(small_file):
    raw = small_file.read_bytes()
    with zipfile.ZipFile(small_file) as archive:
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            assert member.date_time == (1980, 1, 1, 0, 0, 0)
            local = raw[member.header_offset :]
            start = (
                30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            )
            header = 10 + int.from_bytes(local[start + 8 : start + 10], "little")
            assert (member.header_offset + start + header) % ALIGNMENT == 0


def test_equal_content_is_equal_bytes(tmp_path, images):
    write_images(tmp_path / "a.npz", images)
    write_images(tmp_path / "b.npz", images)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_that_ends_within_a_member_is_continued_to_the_same_bytes(tmp_path, images):
    write_images(tmp_path / "whole.npz", images)
    path = tmp_path / "continued.npz"
    with closing(NPZWriter(path)) as writer:
        writer.begin("images", np.uint8, images.shape[1:])
        writer.append(images[:4])  # rows 3 and 4 are not known to be durable
    with closing(NPZWriter(path)) as writer:
        writer.begin("images", np.uint8, images.shape[1:], rows=3)
        writer.append(images[3:])
        writer.end(crc32(images.tobytes()))
        writer.write("metadata", np.array('{"task": "detector", "ä": 1}'))
        writer.finish()
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_reserved_members_filled_in_any_order_are_the_same_bytes(tmp_path, images):
    boxes = np.arange(12, dtype="<f4").reshape(3, 4)
    paths = np.array(["a.jpg", "b/ü.jpg", "c", "d", "e"])
    write_images(tmp_path / "whole.npz", images, bboxes=boxes, image_paths=paths)
    path = tmp_path / "filled.npz"
    with closing(NPZWriter(path)) as writer:
        writer.begin("images", np.uint8, images.shape[1:])
        writer.append(images)
        writer.end()
        writer.reserve("bboxes", "<f4", (3, 4))
        writer.reserve("image_paths", paths.dtype, (5,))
        writer.reserve("metadata", "<U28", ())
        writer.fill("image_paths", paths[:2])
        writer.fill("metadata", '{"task": "detector", "ä": 1}')
        writer.fill("bboxes", boxes[:1])
        writer.fill("bboxes", boxes[1:1])
        writer.fill("image_paths", paths[2:])
        writer.fill("bboxes", boxes[1:].astype("f8"))
        writer.set_crc32(crc32(images.tobytes()))
        writer.finish()
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_fewer_rows_than_reserved_are_refused_at_the_end(tmp_path):
    with closing(NPZWriter(tmp_path / "x.npz")) as writer:
        writer.reserve("labels", "<i4", (3,))
        writer.fill("labels", [1, 2])
        with pytest.raises(ValueError, match=r"x.npz: labels.npy has room for 3 rows, got 2"):
            writer.finish()


def test_a_member_is_not_reserved_while_another_one_is_streamed(tmp_path):
    with closing(NPZWriter(tmp_path / "x.npz")) as writer:
        writer.begin("images", np.uint8, (2,))
        with pytest.raises(ValueError, match=r"labels\.npy has no place before the first member"):
            writer.reserve("labels", "<i4", (1,))


def test_a_streamed_member_without_checksum_is_refused_at_the_end(tmp_path):
    with closing(NPZWriter(tmp_path / "x.npz")) as writer:
        writer.begin("images", np.uint8, (2,))
        writer.end()
        with pytest.raises(ValueError, match=r"images\.npy has no CRC-32 yet"):
            writer.finish()


def test_more_rows_than_reserved_are_refused_before_they_overwrite_anything(tmp_path):
    with closing(NPZWriter(tmp_path / "x.npz")) as writer:
        writer.reserve("labels", "<i4", (3,))
        writer.reserve("image_paths", "<U1", (2,))
        writer.fill("image_paths", ["a", "b"])
        writer.fill("labels", [1, 2])
        with pytest.raises(ValueError, match=r"x.npz: labels.npy has room for 3 rows, got 4"):
            writer.fill("labels", [3, 4])
        writer.fill("labels", [3])
        writer.finish()
    npz = MappedNPZ(tmp_path / "x.npz")
    for name in npz:
        npz.verify(name)
    assert npz["labels"].tolist() == [1, 2, 3]
    assert npz["image_paths"].tolist() == ["a", "b"]


def test_filling_rows_of_another_shape_is_refused_with_both_shapes(tmp_path):
    with closing(NPZWriter(tmp_path / "x.npz")) as writer:
        writer.reserve("bboxes", "<f4", (3, 4))
        with pytest.raises(ValueError, match=r"bboxes.npy has shape \(3, 4\), got rows of \(5,\)"):
            writer.fill("bboxes", np.zeros((1, 5)))


def test_errors_of_the_open_file_name_it(tmp_path, monkeypatch, images):
    def full(file, parts):
        raise OSError(errno.ENOSPC, "full")

    with closing(NPZWriter(tmp_path / "x.npz")) as writer:
        writer.begin("images", np.uint8, images.shape[1:])
        monkeypatch.setattr(os, "writev", full)
        writer.append(images)
        for method in (writer.sync, writer.close):
            with pytest.raises(OSError, match=r"x\.npz"):
                method()


def test_rows_that_a_full_disk_refused_are_written_once_there_is_room(
    tmp_path, monkeypatch, images
):
    write_images(tmp_path / "whole.npz", images)
    system, room = os.writev, 100

    def write_what_fits(file, parts):
        nonlocal room
        some = b"".join(parts)[:room]
        if not some:
            raise OSError(errno.ENOSPC, "full")
        room -= len(some)
        return system(file, [some])

    path = tmp_path / "x.npz"
    with closing(NPZWriter(path)) as writer:
        writer.begin("images", np.uint8, images.shape[1:])
        writer.append(images[:1])
        monkeypatch.setattr(os, "writev", write_what_fits)
        with pytest.raises(OSError, match=r"x\.npz"):
            writer.sync()
        writer.append(images[1:])
        room = 1 << 20
        writer.sync()
        writer.end(crc32(images.tobytes()))
        writer.write("metadata", np.array('{"task": "detector", "ä": 1}'))
        writer.finish()
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 300), min_size=1, max_size=20),
    pauses=st.lists(st.sampled_from(["", "sync", "resume", "lose"]), min_size=20, max_size=20),
)
def test_any_pattern_of_appends_syncs_and_resumes_is_the_same_file(
    tmp_path_factory, lengths, pauses
):
    """Rows are bytes, of which every append brings another number."""
    folder = tmp_path_factory.mktemp("pattern")
    content = np.random.default_rng(sum(lengths)).integers(0, 256, sum(lengths), np.uint8)
    chunks = np.split(content, np.cumsum(lengths)[:-1])
    path, rows = folder / "x.npz", 0
    with contextlib.ExitStack() as opened:
        opened.enter_context(mock.patch.multiple(blocks, PIECE=64, BLOCK=128, _MOST_PARTS=3))
        writer = opened.enter_context(closing(NPZWriter(path)))
        writer.begin("bytes", np.uint8, ())
        for chunk, pause in zip(chunks, pauses, strict=False):
            writer.append([chunk])
            rows += len(chunk)
            if pause == "lose":  # rows that no flush promised are not continued
                rows -= len(chunk)
                writer.close()
            elif pause:
                writer.sync()
            if pause in ("resume", "lose"):
                writer = opened.enter_context(closing(NPZWriter(path)))
                writer.begin("bytes", np.uint8, (), rows=rows)
            if pause == "lose":
                writer.append([chunk])
                rows += len(chunk)
        writer.end(crc32(content))
        writer.finish()
    with closing(NPZWriter(folder / "whole.npz")) as whole:
        whole.write("bytes", content)
        whole.finish()
    assert path.read_bytes() == (folder / "whole.npz").read_bytes()


def test_columns_may_be_changed_after_they_were_filled(tmp_path):
    with closing(NPZWriter(tmp_path / "x.npz")) as writer:
        labels = np.array([1, 2], "<i4")
        writer.reserve("labels", "<i4", (2,))
        writer.fill("labels", labels)
        labels[:] = 0
        writer.finish()
    assert MappedNPZ(tmp_path / "x.npz")["labels"].tolist() == [1, 2]


def test_continuing_a_file_that_is_too_short_is_refused(tmp_path):
    path = tmp_path / "short.npz"
    path.write_bytes(b"x" * 100)
    with (
        closing(NPZWriter(path)) as writer,
        pytest.raises(ValueError, match=r"short.npz: 9 rows.*has 100"),
    ):
        writer.begin("images", np.uint8, (8, 8, 3), rows=9)


def test_a_row_of_another_shape_is_refused_with_both_shapes(tmp_path):
    with closing(NPZWriter(tmp_path / "x.npz")) as writer:
        writer.begin("images", np.uint8, (8, 8, 3))
        with pytest.raises(ValueError, match=r"rows uint8 \(8, 8, 3\), got uint8 \(8, 9, 3\)"):
            writer.append([np.zeros((8, 9, 3), np.uint8)])


def test_a_file_beyond_4_gib_is_valid_for_numpy_zipfile_and_our_reader(tmp_path):
    """The images are a hole of 5 GiB that takes no space on the disk."""
    row_bytes, rows = 1 << 20, 5 << 10
    path = tmp_path / "big.npz"
    zero_row, total = crc32(bytes(row_bytes)), 0
    with closing(NPZWriter(path)) as writer:
        os.truncate(path, (rows + 1) * row_bytes)
        writer.begin("images", np.uint8, (row_bytes,), rows=rows)
        for _ in range(rows):
            total = crc32_combine(total, zero_row, row_bytes)
        writer.end(total)
        writer.write("image_crc32", np.full(rows, zero_row, np.uint32))
        writer.finish()
    assert path.stat().st_size > 1 << 32
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("image_crc32.npy").header_offset > 1 << 32
        assert archive.getinfo("images.npy").file_size > 1 << 32
        archive.read("image_crc32.npy")  # checks its CRC
    with np.load(path, allow_pickle=False) as stored:
        assert (stored["image_crc32"] == zero_row).all()
    assert MappedNPZ(path)["images"].shape == (rows, row_bytes)


@settings(max_examples=40, deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "<i4", "<f4", "<i8", "<f8", "?", "<U3"]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    ),
    cut=st.integers(0, 5),
)
def test_any_column_reads_back_equal_in_numpy_and_in_the_map(tmp_path_factory, array, cut):
    path = tmp_path_factory.mktemp("column") / "c.npz"
    with closing(NPZWriter(path)) as writer:
        writer.reserve("c", array.dtype, array.shape)
        writer.fill("c", array[:cut])
        writer.fill("c", array[cut:])
        writer.finish()
    with np.load(path, allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["c"], array)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    np.testing.assert_array_equal(MappedNPZ(path)["c"], array)
