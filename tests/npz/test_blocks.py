"""Blocks are large and aligned, and the file holds the same bytes whatever was collected."""

import errno
import os
from contextlib import closing
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.npz import blocks
from processing.npz.blocks import BLOCK, PIECE, BlockFile

posix = pytest.mark.skipif(not hasattr(os, "writev"), reason="only POSIX systems have writev")


@pytest.fixture
def writes(monkeypatch):
    """Records each write as (offset, bytes, number of parts)."""
    recorded, system = [], os.writev

    def record(file, parts):
        offset = os.lseek(file, 0, os.SEEK_CUR)
        written = system(file, parts)
        recorded.append((offset, written, len(parts)))
        return written

    monkeypatch.setattr(os, "writev", record)
    return recorded


@posix
@pytest.mark.parametrize("row_bytes", [3 * 128 * 128, 1_000_003, 9_999_999])
@pytest.mark.parametrize("start", [0, 4096, PIECE, 5 * PIECE + 12_345])
def test_rows_are_written_in_large_blocks_at_multiples_of_a_piece(
    tmp_path, writes, row_bytes, start
):
    row = np.zeros(row_bytes, np.uint8)
    rows = 30_000_000 // row_bytes
    with closing(BlockFile(tmp_path / "x")) as file:
        for number in range(rows):
            file.write(start + number * row_bytes, row)
    offsets, lengths, _ = map(np.array, zip(*writes, strict=True))
    assert offsets[0] == start
    assert lengths.sum() == rows * row_bytes
    assert (offsets[1:] == offsets[:-1] + lengths[:-1]).all()
    assert (offsets[1:] % PIECE == 0).all()
    assert lengths[0] > PIECE
    assert set(lengths[1:-1].tolist()) == {BLOCK}


@posix
def test_the_block_after_a_flush_ends_at_a_multiple_of_a_piece(tmp_path, writes):
    row = np.zeros(100_000, np.uint8)
    with closing(BlockFile(tmp_path / "x")) as file:
        for number in range(100):
            file.write(number * len(row), row)
            if number == 4:
                file.sync()
    offsets = [offset for offset, _, _ in writes]
    assert offsets[:2] == [0, 500_000]
    assert all(offset % PIECE == 0 for offset in offsets[2:])


@posix
def test_what_was_flushed_is_not_written_again(tmp_path, writes):
    with closing(BlockFile(tmp_path / "x")) as file:
        file.write(0, bytes(1000))
        file.sync()
        file.write(1000, bytes(10))
        file.sync()
    assert [(offset, length) for offset, length, _ in writes] == [(0, 1000), (1000, 10)]


@posix
def test_a_write_has_no_more_parts_than_the_system_takes(tmp_path, writes):
    content = os.urandom(3000)
    with closing(BlockFile(tmp_path / "x")) as file:
        for position in range(len(content)):
            file.write(position, content[position : position + 1])
    assert (tmp_path / "x").read_bytes() == content
    assert len(writes) == 1
    assert writes[0][2] <= 512


@posix
def test_a_file_is_closed_even_if_its_last_block_cannot_be_written(tmp_path, monkeypatch):
    def fail(file, parts):
        raise OSError(errno.ENOSPC, "full")

    file = BlockFile(tmp_path / "x")
    file.write(0, b"abc")
    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", fail)
        with pytest.raises(OSError, match="full"):
            file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.flush()


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 40), st.binary(max_size=60)),
            st.tuples(st.just("continue"), st.just(0), st.binary(max_size=60)),
            st.tuples(st.sampled_from(["flush", "reopen"]), st.just(0), st.just(b"")),
            st.tuples(st.just("truncate"), st.integers(0, 90), st.just(b"")),
        ),
        max_size=25,
    ),
    most=st.sampled_from([1, 3, 1000]),
    has_writev=st.sampled_from([True, False]),
)
def test_the_file_holds_the_bytes_of_an_unbuffered_one(tmp_path_factory, steps, most, has_writev):
    """`most` is how many bytes the system takes at once."""
    path = tmp_path_factory.mktemp("blocks") / "x"
    expected, end = bytearray(), 0

    def write_some(file, parts):
        return os.write(file, b"".join(parts)[:most])

    with mock.patch.multiple(blocks, PIECE=8, BLOCK=16, _MOST_PARTS=2):
        file = BlockFile(path)
        with mock.patch.object(os, "writev", write_some, create=True):
            if not has_writev:
                del os.writev
            for step, number, data in steps:
                if step in ("write", "continue"):
                    position = number if step == "write" else end
                    file.write(position, data)
                    end = position + len(data)
                    if data:
                        expected.extend(bytes(max(0, position - len(expected))))
                        expected[position:end] = data
                elif step == "flush":
                    file.flush()
                    assert path.read_bytes() == expected
                elif step == "reopen":
                    file.close()
                    file = BlockFile(path)
                else:
                    file.truncate(number)
                    del expected[number:]
                    expected.extend(bytes(number - len(expected)))
                    assert file.size() == number
            file.close()
    assert path.read_bytes() == expected
