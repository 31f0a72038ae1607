"""Readahead brings rows into memory, stops once they are there, and never changes a result."""

import errno
import gc
import mmap
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from processing.npz import readahead
from processing.npz.readahead import Readahead, batches_ahead

PAGE = mmap.PAGESIZE
ROW = 300_000  # neither a multiple of a page nor within one request
ROWS = 200

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.bin"
    path.write_bytes(np.random.default_rng(0).bytes(100 + ROW * ROWS))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


@pytest.fixture
def asked(monkeypatch):
    """Records the requested ranges as (offset, length)."""
    ranges = []
    fadvise = os.posix_fadvise

    def record(file, offset, length, advice):
        if advice == os.POSIX_FADV_WILLNEED:
            ranges.append((offset, length))
        fadvise(file, offset, length, advice)

    monkeypatch.setattr(readahead.os, "posix_fadvise", record)
    return ranges


def in_a_thread(function):
    """Runs a function in a thread and raises its exception here, a skipped test included."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(function).result()


def drop(path):
    """Removes a file from the page cache; skips the test if the system does not."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], path.stat().st_size // 2, os.RWF_NOWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    pytest.skip("files here cannot be made cold, or it cannot be seen")


def test_smaller_batches_are_requested_further_ahead():
    assert batches_ahead(1 << 30) == 1
    assert batches_ahead(64 * 256 * 256 * 3) == 1
    assert batches_ahead(64 * 128 * 128 * 3) == 3
    assert batches_ahead(128 * 128 * 3) == 171
    assert batches_ahead(0) > 0


@linux
def test_exactly_the_bytes_of_the_rows_are_requested(path, asked):
    Readahead(path, 100, ROW).advise(np.array([3, 150, 3, 0]))
    bytes_asked = [b for offset, length in asked for b in (offset, offset + length)]
    rows = np.split(np.array(bytes_asked), 4)
    for row, ends in zip([3, 150, 3, 0], rows, strict=True):
        assert ends[0] == 100 + row * ROW
        assert ends[-1] == 100 + (row + 1) * ROW
        assert (ends[1:-1:2] == ends[2:-1:2]).all()
    assert max(length for _, length in asked) <= 128 * 1024


@linux
def test_rows_of_a_cold_file_are_read_into_memory(path):
    drop(path)
    advice = Readahead(path, 100, ROW)
    with path.open("rb") as file:
        advice.advise(np.arange(40, 44))
        # Later faults find a requested page in memory or on its way, so none is major.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            before = major_faults()
            mapped[100 + 40 * ROW : 100 + 44 * ROW]
            assert major_faults() == before


def quiet(path, row=0):
    """Advice that has seen that the file is in memory."""
    path.read_bytes()
    advice = Readahead(path, 100, ROW)
    for _ in range(readahead._PATIENCE):
        advice.advise(np.array([row]))
    return advice


@linux
def test_requests_stop_soon_for_a_file_in_memory(path, asked):
    advice = quiet(path, 7)
    assert asked
    asked.clear()
    for _ in range(10):
        advice.advise(np.array([7]))
    assert not asked


@linux
def test_requests_go_on_while_the_file_is_cold(path, asked):
    drop(path)
    advice = Readahead(path, 100, ROW)
    for _ in range(3):
        drop(path)
        for row in range(readahead._PATIENCE, 0, -1):
            advice.advise(np.array([row]))
    asked.clear()
    drop(path)
    advice.advise(np.array([199]))
    assert asked


@linux
def test_requests_start_again_after_a_wait_for_a_page(path, asked):
    advice = quiet(path)
    drop(path)
    asked.clear()
    advice.advise(np.array([50]))
    assert not asked, "nothing has told it yet"
    fault(path)
    advice.advise(np.array([50]))
    assert asked


@linux
def test_a_wait_in_one_thread_starts_the_requests_of_all_threads(path, asked):
    advice = quiet(path)

    def wait_for_a_page():
        advice.advise(np.array([0]))
        drop(path)
        fault(path)
        advice.advise(np.array([0]))

    asked.clear()
    in_a_thread(wait_for_a_page)
    asked.clear()
    advice.advise(np.array([1]))
    assert asked


@linux
def test_waits_of_a_thread_before_its_first_request_do_not_count(path, asked):
    advice = quiet(path)
    asked.clear()

    def begin_after_a_wait():
        drop(path)
        fault(path)
        advice.advise(np.array([0]))

    in_a_thread(begin_after_a_wait)
    assert not asked


@linux
def test_requests_go_on_if_the_system_cannot_say_what_is_in_memory(path, asked, monkeypatch):
    monkeypatch.setattr(readahead, "_preadv2", None)
    path.read_bytes()
    advice = Readahead(path, 100, ROW)
    for _ in range(readahead._PATIENCE + 1):
        asked.clear()
        advice.advise(np.array([0]))
    assert asked


def test_no_rows_and_rows_beyond_the_end_of_the_file_are_accepted(path):
    advice = Readahead(path, 100, ROW)
    advice.advise(np.array([ROWS - 1, ROWS, 10**12]))
    advice.advise(np.array([], dtype=np.intp))
    os.truncate(path, 50)
    advice.advise(np.arange(ROWS))
    path.unlink()
    advice.advise(np.arange(ROWS))


def test_its_file_is_closed_with_the_object(path):
    advice = Readahead(path, 100, ROW)
    file = advice._file
    os.fstat(file)
    del advice
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


@linux
def test_other_systems_get_no_requests(path, asked, monkeypatch):
    drop(path)
    monkeypatch.setattr(readahead, "_CAN_ADVISE", False)
    Readahead(path, 100, ROW).advise(np.arange(4))
    assert not asked


def major_faults():
    import resource

    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


def fault(path):
    """Causes a major page fault in a mapped file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        before = major_faults()
        for start in range(0, len(mapped), 2 * PAGE):
            mapped[start]
            if major_faults() > before:
                return
    raise AssertionError("no page had to be waited for")
