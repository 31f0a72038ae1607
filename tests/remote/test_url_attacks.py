"""Files and sets at URLs when servers, caches and limits are not what a reader would wish."""

import errno
import os
import pickle
import shutil
import threading
import weakref
from functools import partial
from zlib import crc32

import numpy as np
import pytest

from processing import LazyNPZDataset, open_dataset
from processing.data_processor import DataProcessor
from processing.npz import row_cache, set_contents
from processing.npz.sparse_file import SparseFile
from tests.conftest import write_coco

ROWS = 60


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A set with a shard for each image."""
    folder = tmp_path_factory.mktemp("attacks")
    write_coco(folder / "source", images=20)
    sizes = {"detector": 16, "landmarker": 16, "teacher": 16}
    processor = DataProcessor(
        folder / "source", folder / "out", image_size=sizes, samples_per_shard=1, progress=False
    )
    processor.process_detector()
    return folder / "out"


@pytest.fixture
def published(web, shards):
    """The web server with the set."""
    shutil.copytree(shards, web.directory, dirs_exist_ok=True)
    return web


def members(seed=0):
    """Returns the members of a file with `ROWS` images of 12 kB."""
    images = np.random.default_rng(seed).integers(0, 256, (ROWS, 64, 64, 3), np.uint8)
    return {
        "images": images,
        "image_crc32": np.array([crc32(image) for image in images], np.uint32),
        "bboxes": np.arange(4.0 * ROWS, dtype=np.float32).reshape(ROWS, 4),
        "image_paths": np.array([f"{row}.jpg" for row in range(ROWS)]),
    }


@pytest.fixture
def cached(web, tmp_path):
    """Returns a function that opens the file ``a.npz`` of the web server with a cache."""
    np.savez(web.directory / "a.npz", **members())
    return partial(LazyNPZDataset, f"{web.url}/a.npz", cache_dir=tmp_path / "cache")


def used(directory):
    return sum(file.stat().st_blocks * 512 for file in directory.iterdir())


class TestManyShards:
    """A batch touches many shards of a set."""

    def test_shards_of_a_batch_are_opened_at_the_same_time(self, published):
        dataset = LazyNPZDataset(f"{published.url}/train_detector-*.npz")
        number = min(8, len(dataset) - 1)
        together = threading.Barrier(number)

        def wait_for_the_others(request):
            if request.method == "HEAD":
                together.wait(timeout=5)  # one after the other, none would pass

        published.before = wait_for_the_others
        assert len(dataset.get_batch(range(1, number + 1))["images"]) == number

    @pytest.mark.parametrize("read", ["select", "image_paths", "verify"])
    def test_shards_are_opened_ahead_where_all_are_read(self, read, published, shards):
        local = LazyNPZDataset(shards / "train_detector-*.npz")
        dataset = LazyNPZDataset(f"{published.url}/train_detector-*.npz")
        together = threading.Barrier(2)
        heads = set()

        def wait_for_another(request):
            if request.method == "HEAD" and request.path not in heads:
                heads.add(request.path)
                if len(heads) <= len(dataset) // 2 * 2 - 2:  # pairs, of all but the first shard
                    together.wait(timeout=5)

        published.before = wait_for_another
        if read == "select":
            assert np.array_equal(dataset.select(min_box=3).rows, local.select(min_box=3).rows)
        elif read == "image_paths":
            assert np.array_equal(dataset.image_paths, local.image_paths)
        else:
            dataset.verify()
        assert not together.broken

    def test_few_shards_are_open_where_few_files_may_be(self, published, shards, monkeypatch):
        monkeypatch.setattr(set_contents, "most_open", lambda **_: 2)
        local = LazyNPZDataset(shards / "train_detector-*.npz")
        dataset = LazyNPZDataset(f"{published.url}/train_detector-*.npz")
        pairs = threading.Barrier(2)
        published.most_at_once = 0

        def wait_for_another(request):
            if request.method == "HEAD":
                pairs.wait(timeout=5)

        published.before = wait_for_another
        rows = range(2, 2 + (len(dataset) - 2) // 2 * 2)
        dataset.gather_images(np.array(rows), np.empty((len(rows), 16, 16, 3), np.uint8))
        # Each reads annotations and headers at the same time.
        assert published.most_at_once <= 4
        published.before = None
        images = dataset.get_batch(rows)["images"]
        assert np.array_equal(images, local.get_batch(rows)["images"])

    def test_connections_count_as_open_files(self, monkeypatch):
        monkeypatch.setattr(set_contents.resource, "getrlimit", lambda _: (128, 128))
        assert set_contents.most_open() == 11
        assert set_contents.most_open(connections=32) == 7
        monkeypatch.setattr(set_contents.resource, "getrlimit", lambda _: (64, 64))
        assert set_contents.most_open(connections=32) == 1


@pytest.mark.parametrize("name", ["train_detector-*.npz", "train_detector-00000-of-*.npz"])
def test_a_closed_dataset_closes_its_files(name, shards):
    (path,) = shards.glob(name) if "of" in name else [shards / name]
    dataset = LazyNPZDataset(path)
    file = weakref.ref(next(dataset.columns.parts()).npz)
    dataset.close()
    assert file() is None
    assert dataset.cache_info().currsize == 0
    with pytest.raises(ValueError, match="was closed"):
        dataset.get_batch([0])
    assert pickle.loads(pickle.dumps(dataset)).cache_info().currsize == 0


class TestCacheDirectory:
    """The directory of the cache is full, is removed, or is shared."""

    def test_verifying_keeps_the_limit(self, cached, tmp_path):
        dataset = cached(cache_bytes=400_000)
        dataset.verify()
        assert used(tmp_path / "cache") <= 400_000

    def test_verifying_leaves_no_copy(self, published):
        dataset = open_dataset(published.url, "train_detector")
        dataset.get_batch([0])
        dataset.verify()
        published.log.clear()
        dataset.get_batch([0])
        assert [request.method for request in published.log] == ["GET"]

    def test_verifying_refuses_a_file_that_was_replaced(self, cached, web):
        dataset = cached()
        size = (web.directory / "a.npz").stat().st_size
        np.savez(web.directory / "a.npz", **members(seed=1))
        assert (web.directory / "a.npz").stat().st_size == size
        with pytest.raises(ValueError, match="was replaced"):
            dataset.verify()

    def test_a_directory_that_was_removed_costs_no_batch(self, cached, tmp_path, caplog):
        dataset = cached(cache_bytes=ROWS << 14)
        dataset.get_batch([0])
        shutil.rmtree(tmp_path / "cache")
        images = dataset.get_batch(range(ROWS))["images"]
        assert np.array_equal(images, members()["images"])
        assert caplog.text.count("no more rows are kept") == 1

    def test_rows_that_another_process_removes_do_not_end_the_cache(self, tmp_path, monkeypatch):
        for name in ("a.rows", "b.rows"):
            (tmp_path / name).write_bytes(b"x" * 4096)
        found = [Gone(entry) if entry.name == "a.rows" else entry for entry in os.scandir(tmp_path)]
        monkeypatch.setattr(row_cache.os, "scandir", lambda _: Entries(found))
        assert row_cache._used(tmp_path) == (tmp_path / "b.rows").stat().st_blocks * 512

    def test_equal_members_at_other_places_are_another_file(self, cached, web):
        first = cached(cache_bytes=1 << 20)
        first.get_batch([0])
        file = web.directory / "a.npz"
        file.write_bytes(b"x" * 100 + file.read_bytes())
        second = cached(cache_bytes=1 << 20)
        assert np.array_equal(second.bboxes, members()["bboxes"])
        assert np.array_equal(first.bboxes, members()["bboxes"])

    def test_a_disk_that_is_full_at_opening_is_named(self, cached, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(SparseFile, "_write", full)
        with pytest.raises(OSError, match=r"No space left") as caught:
            cached(cache_bytes=1 << 20)
        assert caught.value.filename


class Gone:
    """An entry of a directory whose file was removed since."""

    def __init__(self, entry):
        self.name = entry.name

    def stat(self):
        raise FileNotFoundError(self.name)


class Entries(list):
    """The entries of a directory, as a context manager."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
