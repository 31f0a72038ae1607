"""Files and sets at URLs: the same samples as from a disk, with few requests and no other bytes."""

import errno
import pickle
import shutil
import socket
import threading
from zlib import crc32

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules import LazyNPZDataModule
from processing import BatchLoader, LazyNPZDataset, open_dataset
from processing.core.errors import ChecksumError, IncompleteSetError, NPZFormatError
from processing.core.urls import URL
from processing.data_processor import DataProcessor
from processing.npz.sparse_file import SparseFile
from processing.remote.files import IN_FLIGHT, Span, merge
from processing.remote.stores import _told
from tests.conftest import write_coco
from tests.remote.conftest import BUCKET

SIZES = {"detector": 32, "landmarker": 24, "teacher": 16}
KINDS = ("raw", "jpeg", "original", "shards")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The same data with pixels, JPEGs, photographs, and in shards."""
    folder = tmp_path_factory.mktemp("remote")
    write_coco(folder / "source", images=40)
    for kind in KINDS:
        options = {"samples_per_shard": 3} if kind == "shards" else {"store": kind}
        DataProcessor(
            folder / "source", folder / kind, image_size=SIZES, progress=False, **options
        ).process_all()
    return folder


@pytest.fixture
def published(web, made):
    """The web server with all files."""
    shutil.copytree(made, web.directory, dirs_exist_ok=True)
    return web


def memory(made):
    """Copies all files to fsspec's file system in memory; returns their URL."""
    fsspec.filesystem("memory").put(str(made), "/reading", recursive=True)
    return "memory://reading"


def bucket(client, made):
    """Copies all files to a bucket; returns their URL."""
    for file in made.rglob("*_detector*"):
        client.upload_file(str(file), BUCKET, f"data/{file.relative_to(made)}")
    return f"s3://{BUCKET}/data"


def equal(mine, yours):
    assert mine.keys() == yours.keys()
    for key, value in mine.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, yours[key]), key
        else:
            assert len(value) == len(yours[key])
            for one, other in zip(value, yours[key], strict=True):
                assert np.array_equal(one, other), key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["http", "s3", "memory"])
def test_samples_are_those_of_the_local_file(place, kind, made, request):
    if place == "http":
        url = request.getfixturevalue("published").url
    elif place == "s3":
        url = bucket(request.getfixturevalue("s3"), made)
    else:
        url = memory(made)
    local = open_dataset(made / kind, "train_detector", return_index=True)
    remote = open_dataset(f"{url}/{kind}", "train_detector", return_index=True)
    assert len(remote) == len(local)
    indices = [5, 0, 5, len(local) - 1, 7, 6]
    equal(remote.get_batch(indices), local.get_batch(indices))
    assert np.array_equal(remote[3]["image"], local[3]["image"])
    assert list(remote.image_paths) == list(local.image_paths)
    assert np.array_equal(remote.to_source(3, [[1.0, 2.0]]), local.to_source(3, [[1.0, 2.0]]))
    loaders = [BatchLoader(one, 8, shuffle=True, num_workers=2) for one in (remote, local)]
    for mine, yours in zip(*loaders, strict=True):
        equal(mine, yours)
    remote.verify()
    with pytest.raises(TypeError, match=r"no array of all images|set of files|stored as JPEG"):
        _ = remote.images


def test_opening_takes_four_requests_and_none_of_the_images(published, made):
    dataset = LazyNPZDataset(f"{published.url}/raw/train_detector.npz")
    assert len(published.log) <= 4
    size = (made / "raw" / "train_detector.npz").stat().st_size
    assert sum(one.length for one in published.log) <= max(size, 300_000)
    assert len(dataset) == len(open_dataset(made / "raw", "train_detector"))


ROW = 64 * 64 * 3
"""Bytes of an image of `large_file`."""


def large_file(path, rows=400, size=64):
    """Writes a file whose images are much larger than everything else."""
    images = np.random.default_rng(0).integers(0, 256, (rows, size, size, 3), np.uint8)
    np.savez(
        path,
        images=images,
        image_crc32=np.array([crc32(image) for image in images], np.uint32),
        bboxes=np.zeros((rows, 4), np.float32),
        image_paths=np.array([f"{row}.jpg" for row in range(rows)]),
    )
    return path


def test_a_batch_reads_its_rows_and_nothing_else(web):
    dataset = LazyNPZDataset(f"{web.url}/{large_file(web.directory / 'a.npz').name}")
    opening = sum(one.length for one in web.log)
    assert opening < 400 * ROW / 10
    web.log.clear()
    rows = np.random.default_rng(1).permutation(400)[:64]
    dataset.get_batch(rows)
    assert len(web.gets()) <= 64
    assert sum(one.length for one in web.log) == 64 * ROW
    web.log.clear()
    dataset.get_batch(range(100, 164))
    (one,) = web.gets()
    assert one.length == 64 * ROW
    web.log.clear()
    dataset.get_batch([9, 9, 9])
    assert [one.length for one in web.gets()] == [ROW]


def test_the_requests_of_a_batch_are_in_flight_together(web):
    dataset = LazyNPZDataset(f"{web.url}/{large_file(web.directory / 'a.npz').name}")
    together = threading.Barrier(IN_FLIGHT)
    web.log.clear()

    def wait_for_the_others(_):
        together.wait(timeout=60)  # one after the other, no request would pass

    web.before = wait_for_the_others
    dataset.get_batch(range(0, 4 * IN_FLIGHT, 2))
    assert web.most_at_once == IN_FLIGHT
    assert len(web.gets()) == 2 * IN_FLIGHT


def test_a_failed_request_is_made_again(web):
    path = large_file(web.directory / "a.npz")
    dataset = LazyNPZDataset(f"{web.url}/a.npz")
    failed = []

    def fail_once(request):
        if request.method == "GET" and request.span not in failed:
            failed.append(request.span)
            return 503
        return None

    web.before = fail_once
    equal(dataset.get_batch([3, 8]), LazyNPZDataset(path).get_batch([3, 8]))
    assert len(failed) == 2


def test_an_absent_file_and_refused_access_say_what_to_do(web, s3):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        LazyNPZDataset(f"{web.url}/absent.npz")
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        LazyNPZDataset(f"s3://{BUCKET}/absent.npz")
    with pytest.raises(FileNotFoundError, match="neither is a set"):
        open_dataset(web.url, "train_detector")
    web.before = lambda _: 403
    with pytest.raises(PermissionError, match="credentials"):
        LazyNPZDataset(f"{web.url}/a.npz")
    with pytest.raises(PermissionError, match="credentials"):
        LazyNPZDataset(f"{web.url}/train_detector-*.npz")
    with pytest.raises(OSError, match="the bucket s3://misspelt does not exist: check its name"):
        open_dataset("s3://misspelt", "train_detector")


def test_a_server_that_does_not_answer_is_named_with_what_to_check(monkeypatch):
    monkeypatch.setattr("processing.remote.stores._RETRIES", 0)
    with socket.socket() as unheard:  # bound, so that no other program listens there
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(OSError, match=rf"^{url}/a\.npz: the server .*check the address {url},"):
            LazyNPZDataset(f"{url}/a.npz")


def test_a_client_that_asks_the_machine_for_credentials_found_none():
    class Error(Exception):
        """As obstore's: derived from nothing else."""

    expected = pytest.raises(OSError, match="no credentials in the environment: set AWS_ACCESS_KEY")
    with expected, _told("s3://bucket/a.npz"):
        raise Error("Error performing PUT http://169.254.169.254/latest/api/token in 10s")


@pytest.mark.parametrize("status", [403, 405])
def test_a_server_that_answers_get_only_is_read(web, status):
    large_file(web.directory / "a.npz", rows=3)
    web.before = lambda request: status if request.method == "HEAD" else None
    with LazyNPZDataset(f"{web.url}/a.npz") as dataset:
        assert len(dataset) == 3
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        LazyNPZDataset(f"{web.url}/b.npz")


def test_a_server_without_ranges_is_refused(web):
    large_file(web.directory / "a.npz")
    web.ranges = False
    with pytest.raises(OSError, match=r"a\.npz"):
        LazyNPZDataset(f"{web.url}/a.npz")


@pytest.mark.parametrize("kind", ["raw", "jpeg", "shards"])
def test_a_row_that_the_server_changed_is_refused_by_its_name(kind, published):
    dataset = open_dataset(f"{published.url}/{kind}", "train_detector")
    published.log.clear()
    dataset.get_batch([2])
    (one,) = [request for request in published.gets(".npz") if request.span][-1:]
    file = published.directory / one.path.lstrip("/")
    content = bytearray(file.read_bytes())
    content[one.span[0] + one.length // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ChecksumError, match=r"row 2 .*"):
        dataset.get_batch([2])
    with pytest.raises(ChecksumError):
        open_dataset(f"{published.url}/{kind}", "train_detector").verify()


def test_a_file_that_shrank_meanwhile_is_refused(web):
    large_file(web.directory / "a.npz")
    dataset = LazyNPZDataset(f"{web.url}/a.npz")
    large_file(web.directory / "a.npz", rows=20)
    with pytest.raises(OSError, match=r"a\.npz"):
        dataset.get_batch([390])


@pytest.mark.parametrize("name", ["a b", "ü", "100%", "a+b", "a=b&c"])
def test_names_may_have_any_characters(name, web, s3):
    path = large_file(web.directory / f"{name}.npz", rows=3)
    local = LazyNPZDataset(path)
    s3.upload_file(str(path), BUCKET, f"x/{name}.npz")
    equal(LazyNPZDataset(f"s3://{BUCKET}/x/{name}.npz").get_batch([1]), local.get_batch([1]))
    equal(LazyNPZDataset(f"{web.url}/{name}.npz").get_batch([1]), local.get_batch([1]))
    equal(LazyNPZDataset(path.as_uri()).get_batch([1]), local.get_batch([1]))


def test_compressed_members_are_refused(web):
    np.savez_compressed(web.directory / "a.npz", images=np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(NPZFormatError, match="compressed members"):
        LazyNPZDataset(f"{web.url}/a.npz")


def test_other_files_than_npz_are_refused(web):
    (web.directory / "a.npz").write_bytes(b"x" * 300_000)
    with pytest.raises(NPZFormatError, match="not a complete NPZ"):
        LazyNPZDataset(f"{web.url}/a.npz")
    np.savez(web.directory / "b.npz", labels=np.zeros(3))
    with pytest.raises(NPZFormatError, match="no member 'images'"):
        LazyNPZDataset(f"{web.url}/b.npz")
    (web.directory / "c.npz").write_bytes(b"")
    with pytest.raises(NPZFormatError, match="empty"):
        LazyNPZDataset(f"{web.url}/c.npz")


def test_a_shard_that_is_missing_or_of_another_set_is_refused(published):
    shards = sorted((published.directory / "shards").glob("train_detector-*.npz"))
    shards[1].write_bytes(shards[2].read_bytes())
    dataset = open_dataset(f"{published.url}/shards", "train_detector")
    with pytest.raises(IncompleteSetError, match="is not the shard"):
        dataset.get_batch([4])
    shards[1].unlink()
    with pytest.raises(IncompleteSetError, match=rf"{shards[1].name}: .* is missing: copy it, or"):
        dataset.get_batch([4])


def test_a_set_is_opened_by_its_manifest_and_one_shard(published):
    LazyNPZDataset(f"{published.url}/shards/train_detector-*.npz")
    assert len(published.log) <= 6
    first = min((published.directory / "shards").glob("train_detector-*.npz")).name
    read = {one.path.rpartition("/")[2] for one in published.log}
    assert read == {"train_detector.json", first}


class TestCache:
    """Rows that were read once are kept on a disk."""

    def test_a_second_process_requests_no_row(self, published, made, tmp_path):
        options = {"cache_dir": tmp_path / "cache", "cache_bytes": 10 << 20}
        for kind in ("raw", "jpeg", "shards"):
            local = open_dataset(made / kind, "train_detector")
            rows = range(len(local))
            open_dataset(f"{published.url}/{kind}", "train_detector", **options).get_batch(rows)
            again = open_dataset(f"{published.url}/{kind}", "train_detector", **options)
            again.get_batch(rows)  # opens all shards
            published.log.clear()
            equal(again.get_batch(rows), local.get_batch(rows))
            assert published.log == []

    def test_a_damaged_cache_is_read_again_from_the_url(self, web, tmp_path):
        options = {"cache_dir": tmp_path / "cache", "cache_bytes": 10 << 20}
        local = LazyNPZDataset(large_file(web.directory / "a.npz"))
        LazyNPZDataset(f"{web.url}/a.npz", **options).get_batch(range(400))
        (file,) = (tmp_path / "cache").iterdir()
        content = bytearray(file.read_bytes())
        for row in range(100, 400, 7):
            content[row * ROW + 999] ^= 1
        file.write_bytes(content)
        remote = LazyNPZDataset(f"{web.url}/a.npz", **options)
        web.log.clear()
        equal(remote.get_batch(range(400)), local.get_batch(range(400)))
        assert 0 < sum(one.length for one in web.log) <= 50 * ROW

    def test_the_limit_holds_and_the_first_rows_stay(self, web, tmp_path):
        large_file(web.directory / "a.npz")
        limit = 100 * ROW
        dataset = LazyNPZDataset(
            f"{web.url}/a.npz", cache_dir=tmp_path / "cache", cache_bytes=limit
        )
        for _ in range(2):
            dataset.get_batch(range(400))
        (file,) = (tmp_path / "cache").iterdir()
        used = file.stat().st_blocks * 512
        assert limit / 2 < used <= limit + ROW
        web.log.clear()
        dataset.get_batch(range(40))
        assert web.log == []
        dataset.get_batch(range(360, 400))
        assert web.log

    def test_files_for_which_there_is_no_room_are_read_without_a_cache(
        self, published, made, tmp_path
    ):
        limit = 300 << 10
        options = {"cache_dir": tmp_path / "cache", "cache_bytes": limit}
        local = open_dataset(made / "shards", "train_detector")
        rows = range(len(local))
        for _ in range(2):
            remote = open_dataset(f"{published.url}/shards", "train_detector", **options)
            equal(remote.get_batch(rows), local.get_batch(rows))
            files = list((tmp_path / "cache").iterdir())
            used = sum(file.stat().st_blocks for file in files) * 512
            assert limit / 3 < used <= limit + len(files) * 4096  # file systems have blocks

    def test_rows_of_an_older_file_at_the_url_are_not_used(self, published, made, tmp_path):
        options = {"cache_dir": tmp_path / "cache", "cache_bytes": 10 << 20}
        url = f"{published.url}/raw/train_detector.npz"
        LazyNPZDataset(url, **options).get_batch(range(5))
        shutil.copy(
            made / "raw" / "val_detector.npz", published.directory / "raw" / "train_detector.npz"
        )
        local = LazyNPZDataset(made / "raw" / "val_detector.npz")
        equal(LazyNPZDataset(url, **options).get_batch([0, 1]), local.get_batch([0, 1]))
        assert len(list((tmp_path / "cache").iterdir())) == 1

    def test_a_full_disk_costs_no_batch(self, web, tmp_path, monkeypatch, caplog):
        local = LazyNPZDataset(large_file(web.directory / "a.npz"))
        options = {"cache_dir": tmp_path / "cache", "cache_bytes": 10 << 20}
        remote = LazyNPZDataset(f"{web.url}/a.npz", **options)

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(SparseFile, "write", full)
        equal(remote.get_batch([300, 200]), local.get_batch([300, 200]))
        equal(remote.get_batch([300, 200]), local.get_batch([300, 200]))
        assert caplog.text.count("no more rows are kept") == 1

    def test_bytes_without_a_directory_are_refused(self, web):
        with pytest.raises(ValueError, match="cache_dir"):
            LazyNPZDataset(f"{web.url}/a.npz", cache_bytes=1)


def test_spawned_workers_open_the_url_again_and_forked_ones_say_what_to_do(published, made):
    url = f"{published.url}/raw/train_detector.npz"
    local, remote = LazyNPZDataset(made / "raw" / "train_detector.npz"), LazyNPZDataset(url)
    assert pickle.loads(pickle.dumps(remote)).path == URL(url)
    loader = DataLoader(remote, 8, num_workers=1, multiprocessing_context="spawn")
    for mine, yours in zip(loader, DataLoader(local, 8), strict=True):
        equal(mine, yours)
    forked = DataLoader(remote, 8, num_workers=1, multiprocessing_context="fork")
    assert "multiprocessing_context='forkserver'" in error_of(forked)


def error_of(loader):
    """Returns the message of a loader's first batch; no traceback keeps its workers alive."""
    try:
        next(iter(loader))
    except RuntimeError as error:
        return str(error)


def test_the_datamodule_reads_urls(published, made):
    batches = []
    for data_dir in (f"{published.url}/shards", made / "shards"):
        module = LazyNPZDataModule(data_dir=data_dir, batch_size=8, shuffle="shards")
        module.setup("fit")
        batches.append(list(module.train_dataloader()))
        assert module.num_classes >= 1
        module.teardown()
    for mine, yours in zip(*batches, strict=True):
        equal(mine, yours)


def test_urls_are_refused_where_they_are_not_supported(tmp_path):
    with pytest.raises(ValueError, match="expected a local path, found the URL"):
        LazyNPZDataset(tmp_path / "a.npz", cache_dir="s3://bucket/cache")
    with pytest.raises(ValueError, match="names no bucket"):
        LazyNPZDataset("s3://")
    with pytest.raises(ValueError, match="query"):
        LazyNPZDataset("https://example.org/a.npz?key=1")
    with pytest.raises(ValueError, match="no client for"):
        LazyNPZDataset("nosuchscheme://bucket/a.npz")


@pytest.mark.parametrize("seed", range(20))
def test_merged_ranges_cover_all_spans_and_no_gap(seed):
    generator = np.random.default_rng(seed)
    begins = generator.integers(0, 300, 40)
    spans = [Span(int(b), int(b + generator.integers(0, 30))) for b in begins]
    merged = list(merge(spans))
    positions = sorted(position for _, inside in merged for position in inside)
    assert positions == list(range(40))
    for whole, inside in merged:
        assert all(whole.begin <= spans[p].begin <= spans[p].end <= whole.end for p in inside)
    wanted = {byte for span in spans for byte in range(*span)}
    assert {byte for whole, _ in merged for byte in range(*whole)} == wanted
    assert sum(whole.end - whole.begin for whole, _ in merged) == len(wanted)
