"""Calls that some systems lack: all are known, and everything works without them."""

import errno
import hashlib
import mmap
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from processing.core import files, interrupts
from processing.core.cpus import available_cpus
from processing.datasets import worker_lifetime
from processing.datasets.shared_tensors import empty_shared
from processing.lazy_dataset import LazyNPZDataset
from processing.npz import readahead, row_cache, set_contents
from processing.npz.blocks import BlockFile
from processing.npz.mapped import CHECK_BYTES, MappedNPZ
from processing.npz.sparse_file import SparseFile
from processing.run.executors import open_executor
from tests.system_calls import ELSEWHERE, REMOVABLE, lacking

WITHOUT = """
import json, sys
from tests.system_calls import remove_all
remove_all()
from processing.data_processor import DataProcessor
from tests.test_system_calls import SIZES, content_of
raw, output = sys.argv[1:]
DataProcessor(raw, output, image_size=SIZES, num_workers=2, progress=False).process_all()
print(content_of(output))
"""
SIZES = {"detector": 64, "landmarker": 48, "teacher": 32}


def content_of(directory):
    """A hash of all rows, read by a worker process, and of those of batches."""
    content = hashlib.sha256()
    for path in sorted(Path(directory).glob("*.npz")):
        with LazyNPZDataset(path) as dataset:
            dataset.verify()
            for batch in DataLoader(dataset, batch_size=5, num_workers=int("val" in path.name)):
                content.update(batch["image"].numpy().tobytes())
    return content.hexdigest()


def test_all_calls_that_a_system_lacks_are_known():
    assert lacking().keys() == REMOVABLE.keys() | ELSEWHERE.keys()


def test_without_these_calls_the_files_and_batches_are_the_same(
    shared_raw_dir, processed_dir, tmp_path
):
    command = [sys.executable, "-c", WITHOUT, str(shared_raw_dir), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    made = {path.name: path.read_bytes() for path in tmp_path.glob("*.npz")}
    assert made == {path.name: path.read_bytes() for path in processed_dir.glob("*.npz")}
    assert result.stdout.split() == [content_of(processed_dir)]


def test_worker_processes_work_without_masks_of_signals(monkeypatch):
    monkeypatch.setattr(interrupts, "signal", SimpleNamespace())  # others need the module
    with open_executor("processes", None, 1) as pool:
        assert pool.submit(os.getppid).result() == os.getpid()


def test_workers_start_without_pidfd_open(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    worker_lifetime.end_with_starter(os.getpid())


def test_shared_memory_is_made_without_memfd_create(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    tensor = empty_shared((3, 4), torch.int32).fill_(7)
    assert tensor.is_shared()
    assert tensor.sum() == 84


def test_a_sparse_file_is_written_without_pwrite(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "pwrite")
    file = SparseFile(10, tmp_path / "sparse")
    file.write(7, b"abc")
    file.write(2, b"de")
    assert file.map()[:] == bytes(2) + b"de" + bytes(3) + b"abc"


def test_blocks_are_written_without_writev(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "writev")
    file = BlockFile(tmp_path / "blocks")
    for position in range(4):
        file.write(position, bytes([position]))
    file.close()
    assert (tmp_path / "blocks").read_bytes() == bytes(range(4))


def test_cpus_are_counted_without_affinity_masks(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_cpus(tmp_path) == 7


def test_a_row_cache_is_measured_where_blocks_are_not_counted(tmp_path, monkeypatch):
    entry = SimpleNamespace(name="a.rows", stat=lambda: SimpleNamespace(st_size=1000))

    class Entries(list):
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(os, "scandir", lambda _: Entries([entry]))
    assert row_cache._used(tmp_path) == 1024


def test_sets_open_all_they_may_where_no_limit_is_known(monkeypatch):
    monkeypatch.setattr(set_contents, "resource", None)
    assert set_contents.most_open() == set_contents._MOST_OPEN


def test_pages_are_kept_where_they_cannot_be_released(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", a=np.arange(CHECK_BYTES, dtype=np.uint8))
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    npz = MappedNPZ(tmp_path / "a.npz")
    npz.verify("a")


@pytest.mark.parametrize("lost", ["posix_fadvise", "resource"])
def test_rows_are_read_without_readahead(processed_dir, monkeypatch, lost):
    if lost == "resource":
        monkeypatch.setattr(readahead, "resource", None)
    else:
        monkeypatch.delattr(os, lost)
    monkeypatch.setattr(readahead, "_CAN_ADVISE", readahead.can_advise())
    rows = readahead.Readahead(processed_dir / "train_detector.npz", 0, 10)
    rows.advise(np.arange(3))
    rows.advise_spans(np.arange(3), np.arange(3) + 5)


@pytest.mark.parametrize("has_flag", [True, False])
def test_no_link_is_followed_when_a_file_of_ours_is_opened(tmp_path, monkeypatch, has_flag):
    if not has_flag:
        monkeypatch.delattr(os, "O_NOFOLLOW")
    ours, link = tmp_path / "ours", tmp_path / "link"
    ours.write_bytes(b"kept")
    link.symlink_to(ours)
    with pytest.raises(OSError, match="link") as caught:
        files.open_own(link)
    assert caught.value.errno == errno.ELOOP
    with files.open_own(ours) as file:
        assert file.read() == b"kept"


def test_files_are_not_locked_without_fcntl(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    files.write_durably(tmp_path / "a", b"content")
    with (tmp_path / "a").open("rb") as file:
        files.lock_file(file, tmp_path / "a")
        assert file.read() == b"content"


def test_a_new_directory_is_made_durable_file_by_file_without_sync(tmp_path, monkeypatch):
    synced = []
    monkeypatch.delattr(os, "sync")
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    with files.new_directory(tmp_path / "new") as directory:
        (directory / "a").write_bytes(b"12345")
    assert 5 in synced
    assert (tmp_path / "new" / "a").read_bytes() == b"12345"


class TestOnMacOS:
    """`fcntl` has F_FULLFSYNC there."""

    @pytest.fixture
    def synced(self, monkeypatch):
        """The calls that were made, by name; `refusal` is the error that F_FULLFSYNC answers."""
        calls = SimpleNamespace(made=[], refusal=None)

        def full_sync(descriptor, command):
            assert command == 51
            calls.made.append("F_FULLFSYNC")
            if calls.refusal is not None:
                raise OSError(calls.refusal, os.strerror(calls.refusal))

        fake = SimpleNamespace(F_FULLFSYNC=51, fcntl=full_sync)
        monkeypatch.setattr(files, "fcntl", fake)
        monkeypatch.setattr(os, "fsync", lambda _: calls.made.append("fsync"))
        return calls

    def test_durable_writes_empty_the_cache_of_the_disk(self, tmp_path, synced):
        files.write_durably(tmp_path / "a", b"content")
        blocks = BlockFile(tmp_path / "b")
        blocks.sync()
        blocks.close()
        assert synced.made == ["F_FULLFSYNC"] * 3  # the file, its directory, the blocks

    @pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOTTY, errno.EINVAL])
    def test_a_file_system_that_refuses_gets_an_fsync(self, tmp_path, synced, number):
        synced.refusal = number
        files.write_durably(tmp_path / "a", b"content")
        assert synced.made == ["F_FULLFSYNC", "fsync"] * 2

    def test_a_disk_that_fails_is_reported(self, tmp_path, synced):
        synced.refusal = errno.EIO
        with pytest.raises(OSError, match="Input/output error"):
            files.write_durably(tmp_path / "a", b"content")
        assert synced.made == ["F_FULLFSYNC"]
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_directories_are_synced_where_the_file_system_can(tmp_path, monkeypatch, number, passes):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if passes:
        files.sync_directory(tmp_path)
        return
    with pytest.raises(OSError, match="Input/output error"):
        files.sync_directory(tmp_path)
