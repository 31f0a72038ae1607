"""Datasets over NPZ files: the guide's contract, processes, threads, caches, damage."""

import copy
import json
import os
import pickle
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from torch.utils.data import DataLoader, default_collate

from processing.core.columns import RaggedArray
from processing.core.errors import ChecksumError, DatasetClosedError, NPZFormatError
from processing.datasets.loader import BatchLoader
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset, open_dataset
from tests.processes import PROCESSES


def objects(rows):
    array = np.empty(len(rows), dtype=object)
    for i, row in enumerate(rows):
        array[i] = row
    return array


def content(task="detector", n=12, size=(6, 8), seed=0, labels=False):
    """The members of one file, as a processor writes them."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    members = {"images": images}
    counts = rng.integers(0, 4, n)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    if task == "landmarker":
        members["keypoints"] = rng.random((n, 5, 3), dtype=np.float32)
    else:
        rows = offsets[-1] if task == "detector" else n
        members["bboxes"] = np.sort(rng.random((rows, 4), dtype=np.float32))
        if task == "detector":
            members["bboxes_offsets"] = offsets
        if labels:
            members["labels"] = rng.integers(0, 3, rows).astype(np.int32)
            if task == "detector":
                members["labels_offsets"] = offsets
    members["image_paths"] = np.array([f"s{seed}/{i}.jpg" for i in range(n)], dtype=np.str_)
    members["image_crc32"] = np.array([zlib.crc32(i.tobytes()) for i in images], dtype=np.uint32)
    members["source_rects"] = np.tile(np.float32([10, -20, 90, 40]), (n, 1))
    members["source_sizes"] = np.tile(np.int32([40, 90]), (n, 1))
    members["metadata"] = np.array(
        json.dumps({"format_version": 1, "task": task, "category_names": ["a", "b", "c"]})
    )
    return members


def write(path, **kwargs):
    np.savez(path, **content(**kwargs))
    return path


@pytest.fixture(params=["detector", "landmarker", "teacher"])
def task(request):
    return request.param


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, str | int | np.integer):
            assert found[key] == value
        else:
            np.testing.assert_array_equal(np.asarray(found[key]), np.asarray(value))


class TestGuide:
    @pytest.mark.parametrize(
        ("kind", "shape"), [("detector", None), ("landmarker", (5, 3)), ("teacher", (4,))]
    )
    def test_samples_have_exactly_the_guides_keys(self, tmp_path, kind, shape):
        members = content(kind)
        np.savez(tmp_path / "a.npz", **members)
        dataset = LazyNPZDataset(tmp_path / "a.npz")
        annotation = "keypoints" if kind == "landmarker" else "bboxes"
        sample = dataset[3]
        assert list(sample) == ["image", annotation, "image_path"]
        assert sample["image"].dtype == np.uint8
        np.testing.assert_array_equal(sample["image"], members["images"][3])
        assert sample["image_path"] == "s0/3.jpg"
        assert type(sample["image_path"]) is str
        rows = members[annotation]
        if kind == "detector":
            a, b = members["bboxes_offsets"][3:5]
            np.testing.assert_array_equal(sample["bboxes"], rows[a:b])
        else:
            np.testing.assert_array_equal(sample[annotation], rows[3])
            assert sample[annotation].shape == shape
        assert sample[annotation].dtype == np.float32
        assert dataset.task == kind

    def test_get_batch_gives_the_guides_shapes(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz", n=40))
        batch = dataset.get_batch(range(5))
        assert list(batch) == ["images", "bboxes", "image_paths"]
        assert batch["images"].shape == (5, 6, 8, 3)
        assert batch["bboxes"].shape == (5,)
        assert batch["image_paths"].tolist() == [f"s0/{i}.jpg" for i in range(5)]
        assert batch["bboxes"][0].shape[1:] == (4,)

    def test_the_readers_copies_are_its_own(self, tmp_path, task):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz", task=task), cache_size=4)
        annotation = "keypoints" if task == "landmarker" else "bboxes"
        expected = copy.deepcopy(dict(dataset[1]))
        for sample in (dataset[1], dataset.__getitems__([1, 2])[0]):
            sample["image"][:] = 0
            sample[annotation][:] = -1
        batch = dataset.get_batch([1, 1])
        batch["images"][:] = 7
        assert_equal(dataset[1], expected)
        assert not dataset.images.flags.writeable

    def test_labels_come_with_more_than_one_category(self, tmp_path):
        for kind in ("detector", "teacher"):
            members = content(kind, labels=True)
            np.savez(tmp_path / "a.npz", **members)
            dataset = LazyNPZDataset(tmp_path / "a.npz")
            assert list(dataset[0]) == ["image", "bboxes", "labels", "image_path"]
            batch = next(iter(DataLoader(dataset, batch_size=12)))
            labels = torch.cat(list(batch["labels"])) if kind == "detector" else batch["labels"]
            assert labels.dtype == torch.int64
            assert labels.tolist() == members["labels"].tolist()
            assert dataset.category_names == ("a", "b", "c")

    def test_attributes_are_views_of_the_file(self, tmp_path):
        members = content(n=7)
        np.savez(tmp_path / "a.npz", **members)
        dataset = LazyNPZDataset(tmp_path / "a.npz")
        np.testing.assert_array_equal(dataset.images, members["images"])
        assert isinstance(dataset.bboxes, RaggedArray)
        np.testing.assert_array_equal(dataset.bboxes.values, members["bboxes"])
        assert dataset.image_paths[2] == "s0/2.jpg"
        assert dataset.image_size == (6, 8)
        assert dataset.source_sizes[0].tolist() == [40, 90]
        assert dataset.keypoints is None
        assert dataset.labels is None
        assert dataset.metadata["task"] == "detector"
        for view in (dataset.images, dataset.bboxes.values, dataset.image_paths):
            assert not view.flags.owndata
            assert not view.flags.writeable

    def test_to_source_maps_points_and_boxes(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz"))
        # 8 x 6 stored pixels show x from 10 to 90 and y from -20 to 40.
        assert dataset.to_source(-1, [[0, 0], [8, 6], [4, 3]]).tolist() == [
            [10, -20],
            [90, 40],
            [50, 10],
        ]
        assert dataset.to_source(0, [0, 0, 8, 6]).tolist() == [10, -20, 90, 40]
        with pytest.raises(IndexError, match="12 is out of range for 12"):
            dataset.to_source(12, [0, 0])


class TestIndices:
    @pytest.mark.parametrize("index", [12, -13, 10**6])
    def test_out_of_range_is_an_index_error(self, tmp_path, index):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz"))
        for read in (dataset.__getitem__, lambda i: dataset.get_batch([0, i])):
            with pytest.raises(IndexError, match=f"{index} is out of range for 12 samples"):
                read(index)

    def test_negative_and_repeated_indices_count(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz"))
        assert_equal(dataset[-1], dict(dataset[11]))
        assert_equal(dataset[np.int64(3)], dict(dataset[3]))
        batch = dataset.get_batch(np.array([-1, 3, 3, -12]))
        assert batch["image_paths"].tolist() == ["s0/11.jpg", "s0/3.jpg", "s0/3.jpg", "s0/0.jpg"]
        assert dataset.get_batch(torch.tensor([1, 2]))["images"].shape[0] == 2

    @pytest.mark.parametrize("indices", [[0.5], [True, False], [[1, 2]], ["a"]])
    def test_others_are_a_type_error(self, tmp_path, indices):
        with pytest.raises(TypeError, match="must be integers"):
            LazyNPZDataset(write(tmp_path / "a.npz")).get_batch(indices)

    def test_no_indices_give_an_empty_batch(self, tmp_path, task):
        single = LazyNPZDataset(write(tmp_path / "a.npz", task=task), cache_size=3)
        for dataset in (single, CombinedLazyDataset([single, single])):
            batch = dataset.get_batch([])
            assert batch["images"].shape == (0, 6, 8, 3)
            assert len(batch["image_paths"]) == 0

    def test_iterating_a_dataset_ends(self, tmp_path):
        assert len(list(LazyNPZDataset(write(tmp_path / "a.npz", n=3)))) == 3

    def test_an_empty_file_is_an_empty_dataset(self, tmp_path, task):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz", n=0, task=task))
        assert len(dataset) == 0
        assert dataset.task == task
        assert list(DataLoader(dataset, batch_size=4)) == []
        dataset.verify()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_batches_equal_stacked_samples(tmp_path, data):
    kind = data.draw(st.sampled_from(["detector", "landmarker", "teacher"]))
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    cache_size = data.draw(st.sampled_from([0, 2]))
    parts = []
    for i, n in enumerate(lengths):
        path = write(tmp_path / f"{i}.npz", task=kind, n=n, seed=i, labels=kind != "landmarker")
        parts.append(LazyNPZDataset(path, cache_size, return_index=True))
    combined = CombinedLazyDataset(parts)
    n = len(combined)
    assert n == sum(lengths)
    # Combined equals concatenation.
    for i, sample in enumerate(s for part in parts for s in part):
        assert_equal({**combined[i], "index": 0}, {**sample, "index": 0})
        assert combined[i]["index"] == i
    if n == 0:
        return
    indices = data.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=8))
    samples = [combined[i] for i in indices]
    batch = combined.get_batch(indices)
    fetched = combined.__getitems__(indices)
    assert len(fetched) == len(indices)
    for j, sample in enumerate(samples):
        assert_equal(fetched[j], dict(sample))
        singular = {"images": "image", "image_paths": "image_path"}
        assert_equal({singular.get(k, k): v[j] for k, v in batch.items()}, dict(sample))


class TestCombined:
    def test_what_differs_is_named(self, tmp_path):
        first = LazyNPZDataset(write(tmp_path / "a.npz"))
        for change, said in [
            ({"task": "teacher"}, "its task is 'teacher'"),
            ({"size": (6, 6)}, r"its image_shape is \(6, 6, 3\)"),
            ({"labels": True}, "its row_shapes is"),
        ]:
            other = LazyNPZDataset(write(tmp_path / "b.npz", **change))
            with pytest.raises(ValueError, match=f"dataset 1 cannot be combined .* {said}"):
                CombinedLazyDataset([first, other])

    def test_category_names_must_agree(self, tmp_path):
        members = content()
        members["metadata"] = np.array(json.dumps({"category_names": ["b", "a", "c"]}))
        np.savez(tmp_path / "b.npz", **members)
        with pytest.raises(ValueError, match="category_names differ"):
            open_dataset([write(tmp_path / "a.npz"), tmp_path / "b.npz"])

    def test_nothing_to_combine_is_an_error(self):
        with pytest.raises(ValueError, match="at least one"):
            CombinedLazyDataset([])

    def test_close_closes_the_parts(self, tmp_path):
        with open_dataset([write(tmp_path / "a.npz"), write(tmp_path / "b.npz")]) as combined:
            assert combined.image_size == (6, 8)
            assert combined.task == "detector"
        for dataset in (combined, *combined.datasets):
            with pytest.raises(DatasetClosedError):
                dataset[0]

    def test_each_part_is_told_its_own_rows_that_will_be_read_soon(self, tmp_path, monkeypatch):
        parts = [LazyNPZDataset(write(tmp_path / f"{n}.npz", n=n)) for n in (3, 0, 4)]
        advised = []
        monkeypatch.setattr(
            LazyNPZDataset,
            "advise",
            lambda part, indices: advised.append((len(part), indices.tolist())),
        )
        CombinedLazyDataset(parts).advise(np.array([6, 0, 3, 2]))
        assert advised == [(3, [0, 2]), (4, [3, 0])]

    def test_each_part_keeps_its_transform(self, tmp_path):
        mark = LazyNPZDataset(
            write(tmp_path / "a.npz", n=3), transform=lambda s: {**s, "mark": len(s["bboxes"])}
        )
        combined = CombinedLazyDataset([LazyNPZDataset(write(tmp_path / "b.npz", n=2)), mark])
        samples = combined.__getitems__([4, 0, 2])
        assert ["mark" in sample for sample in samples] == [True, False, True]
        assert "mark" in combined[-1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_transform_that_runs_out_of_something_does_not_end_the_epoch(tmp_path, num_workers):
    def exhausted(sample):
        return next(iter(())) if sample["image_path"] == "3.jpg" else sample

    path = write(tmp_path / "a.npz", n=12)
    with np.load(path) as stored:
        members = {**stored, "image_paths": np.array([f"{i}.jpg" for i in range(12)])}
    np.savez(path, **members)
    dataset = LazyNPZDataset(path, transform=exhausted)
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
    )
    with pytest.raises(
        RuntimeError, match=r"raised StopIteration, given .*a\.npz, row 3 \(3\.jpg\)"
    ) as caught:
        list(loader)
    # The traceback holds the iterator in a reference cycle, and torch waits five seconds for each
    # worker of an iterator that the garbage collector finds.
    caught.value.__traceback__ = None
    del caught


class TestLoader:
    def check_epoch(self, dataset, **kwargs):
        seen = {}
        for batch in DataLoader(dataset, batch_size=5, shuffle=True, **kwargs):
            assert batch["image"].dtype == torch.uint8
            assert batch["image"].shape[1:] == (6, 8, 3)
            for j, path in enumerate(batch["image_path"]):
                seen[path] = {k: v[j] for k, v in batch.items()}
        assert len(seen) == len(dataset)
        for sample in dataset:
            assert_equal(seen[sample["image_path"]], dict(sample))

    def test_a_plain_loader_works(self, tmp_path, task):
        self.check_epoch(LazyNPZDataset(write(tmp_path / "a.npz", task=task)))

    @pytest.mark.parametrize("context", ["fork", "spawn"])
    @pytest.mark.filterwarnings(
        "ignore:.*multi-threaded, use of fork.*:DeprecationWarning"  # other tests' idle threads
    )
    def test_workers_work(self, tmp_path, context):
        parts = [
            LazyNPZDataset(write(tmp_path / f"{i}.npz", seed=i), cache_size=2) for i in range(2)
        ]
        # A spawned worker imports torch: seconds, so there is one.
        number = 1 if context == "spawn" else 2
        loading = {"num_workers": number, "multiprocessing_context": context}
        self.check_epoch(CombinedLazyDataset(parts), **loading)

    @pytest.mark.filterwarnings(
        "ignore:.*multi-threaded, use of fork.*:DeprecationWarning"  # other tests' idle threads
    )
    def test_workers_gather_straight_into_shared_memory(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz"))
        loading = {"num_workers": 1, "multiprocessing_context": "fork"}
        assert list(DataLoader(dataset, 12, collate_fn=_is_shared, **loading)) == [True]

    @pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning")  # no accelerator here
    def test_pin_memory_is_harmless_without_an_accelerator(self, tmp_path):
        self.check_epoch(LazyNPZDataset(write(tmp_path / "a.npz")), pin_memory=True)

    def test_a_collate_fn_of_the_users_sees_samples(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz"))
        batches = list(DataLoader(dataset, batch_size=5, collate_fn=list))
        assert [len(batch) for batch in batches] == [5, 5, 2]
        assert_equal(batches[1][2], dict(dataset[7]))
        assert isinstance(batches[0][0], dict)

    def test_no_batching_gives_single_samples(self, tmp_path):
        sample = next(iter(DataLoader(LazyNPZDataset(write(tmp_path / "a.npz")), batch_size=None)))
        assert sample["image"].shape == (6, 8, 3)

    def test_a_transform_is_applied_once_to_each_sample(self, tmp_path):
        def transform(sample):
            assert set(sample) == {"image", "bboxes", "image_path"}
            return {"image": sample["image"][:2] // 2, "bboxes": sample["bboxes"] + 1, "new": 3.5}

        plain = LazyNPZDataset(write(tmp_path / "a.npz"))
        dataset = LazyNPZDataset(tmp_path / "a.npz", cache_size=3, transform=transform)
        for _ in range(2):
            batch = next(iter(DataLoader(dataset, batch_size=12)))
            assert batch["image"].shape == (12, 2, 8, 3)
            assert batch["new"].tolist() == [3.5] * 12
            for j in range(12):
                np.testing.assert_array_equal(batch["bboxes"][j], plain[j]["bboxes"] + 1)
        assert dataset[0].keys() == {"image", "bboxes", "new"}
        # The guide's batch is the file's content.
        np.testing.assert_array_equal(
            dataset.get_batch([1])["images"], plain.get_batch([1])["images"]
        )

    def test_return_index_adds_the_index(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz"), return_index=True)
        assert dataset[-1]["index"] == 11
        batch = next(iter(DataLoader(dataset, batch_size=4, sampler=[3, 1, 4, 1])))
        assert batch["index"].tolist() == [3, 1, 4, 1]
        assert batch["index"].dtype == torch.int64

    def test_threads_read_the_same(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz", n=50), cache_size=7)
        expected = [dict(sample) for sample in LazyNPZDataset(tmp_path / "a.npz")]

        def read(seed):
            for i in np.random.default_rng(seed).integers(0, 50, 200).tolist():
                assert_equal(dataset[i], expected[i])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read, range(4)))
        info = dataset.cache_info()
        assert info.hits + info.misses == 800
        assert info.currsize == 7


class TestPickle:
    def test_is_small_and_opens_the_file_again(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz", n=500), cache_size=3, return_index=True)
        dataset[0]
        data = pickle.dumps(dataset)
        assert len(data) < 10_000
        copied = pickle.loads(data)
        assert_equal(copied[4], dict(dataset[4]))
        assert copied.cache_info() == (0, 1, 3, 1)

    def test_a_relative_path_is_found_from_elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        data = pickle.dumps(LazyNPZDataset(write("a.npz")))
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        assert len(pickle.loads(data)) == 12

    def test_a_replaced_file_is_noticed(self, tmp_path):
        data = pickle.dumps(LazyNPZDataset(write(tmp_path / "a.npz")))
        write(tmp_path / "a.npz", seed=1)
        with pytest.raises(NPZFormatError, match=r"a\.npz: was replaced"):
            pickle.loads(data)

    def test_a_closed_dataset_stays_closed(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz"))
        dataset.close()
        with pytest.raises(DatasetClosedError):
            pickle.loads(pickle.dumps(dataset))[0]

    def test_a_child_forked_amid_reads_is_not_blocked(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz"), cache_size=2)
        stop = threading.Event()

        def read():
            while not stop.is_set():
                dataset.get_batch(range(12))

        thread = threading.Thread(target=read)
        thread.start()
        try:
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    os._exit(0 if len(dataset.get_batch([3, 4])["images"]) == 2 else 1)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("read", [len, lambda d: d[0], lambda d: d.images, lambda d: d.verify()])
def test_a_closed_dataset_says_so(tmp_path, read):
    with LazyNPZDataset(write(tmp_path / "a.npz")) as dataset:
        images = dataset.images
        read(dataset)
    dataset.close()
    with pytest.raises(DatasetClosedError, match=r"a\.npz: the dataset was closed"):
        read(dataset)
    assert images.sum() > 0


class CacheMachine(RuleBasedStateMachine):
    """The LRU against a plain dict in order of use."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = write(Path(self.folder.name) / "a.npz", n=6)
        self.plain = [dict(sample) for sample in LazyNPZDataset(path)]
        self.dataset = LazyNPZDataset(path, cache_size=3)
        self.model, self.hits, self.misses = {}, 0, 0

    def use(self, index):
        if index in self.model:
            self.hits += 1
            del self.model[index]
        else:
            self.misses += 1
            if len(self.model) == 3:
                del self.model[next(iter(self.model))]
        self.model[index] = True

    @rule(index=st.integers(-6, 5))
    def read(self, index):
        self.use(index % 6)
        sample = self.dataset[index]
        assert_equal(sample, self.plain[index % 6])
        sample["image"][:] = 0
        sample["bboxes"][:] = 0

    @rule(indices=st.lists(st.integers(0, 5), max_size=5))
    def read_batch(self, indices):
        for index in indices:
            self.use(index)
        batch = self.dataset.get_batch(indices)
        for j, index in enumerate(indices):
            np.testing.assert_array_equal(batch["images"][j], self.plain[index]["image"])
            np.testing.assert_array_equal(batch["bboxes"][j], self.plain[index]["bboxes"])
        batch["images"][:] = 0

    @rule()
    def clear(self):
        self.dataset.cache_clear()
        self.model, self.hits, self.misses = {}, 0, 0

    @invariant()
    def counts_agree(self):
        assert self.dataset.cache_info() == (self.hits, self.misses, 3, len(self.model))

    def teardown(self):
        self.dataset.close()
        self.folder.cleanup()


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


def test_a_negative_cache_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cache_size must be at least 0, got -1"):
        LazyNPZDataset(write(tmp_path / "a.npz"), cache_size=-1)


def test_a_combined_cache_info_is_the_sum(tmp_path):
    combined = open_dataset([write(tmp_path / "a.npz"), write(tmp_path / "b.npz")], cache_size=5)
    combined.get_batch([0, 13, 0])
    assert combined.cache_info() == (1, 2, 10, 2)
    combined.cache_clear()
    assert combined.cache_info() == (0, 0, 10, 0)


class TestOlderFiles:
    def test_compressed_lists_of_boxes_are_a_detector(self, tmp_path):
        images = np.arange(3 * 48, dtype=np.uint8).reshape(3, 4, 4, 3)
        boxes = [[[1, 2, 3, 4], [5, 6, 7, 8]], [], [np.array([0.5, 1, 2, 3])]]
        paths = np.array(["a", "b", "c"])
        np.savez_compressed(
            tmp_path / "a.npz", images=images, bboxes=objects(boxes), image_paths=paths
        )
        dataset = LazyNPZDataset(tmp_path / "a.npz")
        assert dataset.task == "detector"
        assert dataset.metadata == {}
        assert dataset.category_names == ()
        assert dataset[0]["bboxes"].tolist() == boxes[0]
        assert dataset[1]["bboxes"].shape == (0, 4)
        assert dataset[2]["bboxes"].dtype == np.float32
        np.testing.assert_array_equal(dataset[2]["image"], images[2])
        assert not dataset.images.flags.owndata
        assert pickle.loads(pickle.dumps(dataset))[0]["bboxes"].tolist() == boxes[0]

    @pytest.mark.parametrize(
        ("members", "task", "shape"),
        [
            ({"bboxes": objects([[1, 2, 3, 4], (5, 6, 7, 8)])}, "teacher", (4,)),
            ({"bboxes": np.array([[1, 2, 3, 4]] * 2, dtype=object)}, "teacher", (4,)),
            ({"bboxes": np.zeros((2, 4), ">f8")}, "teacher", (4,)),
            ({"bboxes": np.array([[[1, 2, 3, 4]]] * 2, dtype=object)}, "detector", (1, 4)),
            ({"bboxes": np.zeros((2, 3, 4))}, "detector", (3, 4)),
            ({"bboxes": objects([[], []])}, "detector", (0, 4)),
            ({"keypoints": objects([np.zeros((5, 3))] * 2)}, "landmarker", (5, 3)),
            ({"keypoints": objects([[[1, 2, 3]], [[1, 2, 3]] * 2])}, "landmarker", (1, 3)),
            ({"keypoints": np.zeros((2, 5, 3), ">i2")}, "landmarker", (5, 3)),
        ],
    )
    def test_the_task_is_seen_from_the_members(self, tmp_path, members, task, shape):
        images = np.zeros((2, 4, 4, 3), np.uint8)
        np.savez(tmp_path / "a.npz", images=images, image_paths=objects(["a", "b"]), **members)
        dataset = LazyNPZDataset(tmp_path / "a.npz")
        assert dataset.task == task
        (name,) = members
        assert dataset[0][name].shape == shape
        assert dataset[0][name].dtype == np.float32
        assert dataset[1]["image_path"] == "b"
        batch = next(iter(DataLoader(dataset, batch_size=2)))
        assert tuple(batch[name][0].shape) == shape

    @pytest.mark.parametrize("dtype", [">f4", "<f8", ">u2", "u1"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_other_image_layouts_are_gathered(self, tmp_path, dtype, order):
        images = np.asarray(np.arange(96).reshape(2, 4, 4, 3), dtype=dtype, order=order)
        np.savez(tmp_path / "a.npz", images=images, bboxes=np.zeros((2, 4)), image_paths=["a", "b"])
        dataset = LazyNPZDataset(tmp_path / "a.npz")
        np.testing.assert_array_equal(dataset[1]["image"], images[1])
        batch = next(iter(DataLoader(dataset, batch_size=2)))
        np.testing.assert_array_equal(batch["image"].numpy(), images)
        dataset.verify()

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ({}, r"no member 'bboxes'; expected .* found \['image_paths', 'images'\]"),
            (
                {"bboxes": objects([[[1, 2, 3]], []])},
                r"'bboxes', row 0: expected .* found \(1, 3\)",
            ),
            ({"bboxes": objects([[], [["x"] * 4]])}, "'bboxes', row 1: not numbers"),
            ({"bboxes": np.zeros((2, 5))}, "'bboxes': expected 2 dimensions"),
            ({"bboxes": np.array(["a", "b"])}, "'bboxes': expected numbers"),
            ({"bboxes": np.zeros((3, 4))}, "members differ in length: .*'bboxes': 3"),
            ({"keypoints": np.zeros((2, 5, 2))}, "'keypoints': expected"),
            ({"images": np.zeros((2, 4)), "bboxes": np.zeros((2, 4))}, "'images': expected"),
            ({"image_paths": np.zeros(2), "bboxes": np.zeros((2, 4))}, "'image_paths': expected"),
            (
                {"bboxes": np.zeros((1, 4)), "bboxes_offsets": np.array([0, 1, 2])},
                "do not run from",
            ),
            ({"bboxes": np.zeros((1, 4)), "bboxes_offsets": np.array([0.5])}, "do not run from"),
            ({"bboxes": np.zeros((2, 4)), "metadata": np.array("{")}, "'metadata': not JSON"),
            ({"bboxes": np.zeros((2, 4)), "metadata": np.array("[]")}, "a JSON object"),
            (
                {"bboxes": np.zeros((2, 4)), "metadata": np.array('{"format_version": 3}')},
                "format version 3, this program reads up to 2",
            ),
            (
                {"bboxes": np.zeros((2, 4)), "metadata": np.array('{"task": "detector"}')},
                "says task 'detector', its members .* those of a teacher",
            ),
        ],
    )
    def test_what_is_no_dataset_is_refused(self, tmp_path, members, said):
        base = {"images": np.zeros((2, 4, 4, 3), np.uint8), "image_paths": np.array(["a", "b"])}
        np.savez(tmp_path / "a.npz", **{**base, **members})
        with pytest.raises(NPZFormatError, match=rf"a\.npz: .*{said}"):
            LazyNPZDataset(tmp_path / "a.npz")


class TestDamage:
    def flip(self, path, needle, at=0):
        data = bytearray(path.read_bytes())
        data[data.index(needle) + at] ^= 0x20
        path.write_bytes(data)

    @pytest.mark.parametrize("cache_size", [0, 3])
    def test_verify_names_the_row_as_it_is_read(self, tmp_path, cache_size):
        members = content()
        path = write(tmp_path / "a.npz")
        self.flip(path, members["images"][7].tobytes(), at=5)
        dataset = LazyNPZDataset(path, cache_size, verify=True)
        dataset.get_batch([0, 6, 8])
        for read in (lambda: dataset[7], lambda: dataset.get_batch([1, 7])):
            with pytest.raises(
                ChecksumError, match=r"a\.npz: member 'images', row 7 \(s0/7\.jpg\)"
            ):
                read()
        with pytest.raises(ChecksumError, match="member 'images', row 7"):
            dataset.verify()
        LazyNPZDataset(path)[7]

    def test_a_whole_file_verifies(self, tmp_path, task):
        LazyNPZDataset(write(tmp_path / "a.npz", task=task), verify=True).verify()

    @pytest.mark.parametrize("name", ["bboxes", "image_paths", "image_crc32", "source_rects"])
    def test_verify_checks_the_small_members(self, tmp_path, name):
        path = write(tmp_path / "a.npz")
        self.flip(path, content()[name].tobytes(), at=4)
        with pytest.raises(ChecksumError, match=f"member '{name}|member 'images', row 1"):
            LazyNPZDataset(path).verify()

    def test_verify_checks_the_header_of_the_images(self, tmp_path):
        path = write(tmp_path / "a.npz")
        self.flip(path, b"'fortran_order'", at=-2)
        with pytest.raises(NPZFormatError, match="member 'images'"):
            LazyNPZDataset(path).verify()

    def test_verify_without_checksums_says_what_to_do(self, tmp_path):
        members = content()
        del members["image_crc32"]
        np.savez(tmp_path / "a.npz", **members)
        with pytest.raises(NPZFormatError, match=r"needs the member 'image_crc32'.*call verify"):
            LazyNPZDataset(tmp_path / "a.npz", verify=True)
        LazyNPZDataset(tmp_path / "a.npz").verify()
        self.flip(tmp_path / "a.npz", members["images"][3].tobytes())
        with pytest.raises(ChecksumError, match="member 'images': CRC-32"):
            LazyNPZDataset(tmp_path / "a.npz").verify()

    @pytest.mark.parametrize("value", [-1, 10**15, 2])
    def test_damaged_offsets_are_named_not_followed(self, tmp_path, value):
        members = content(n=5)
        members["bboxes"] = np.zeros((10, 4), np.float32)
        members["bboxes_offsets"] = np.array([0, 3, value, 6, 8, 10])
        np.savez(tmp_path / "a.npz", **members)
        dataset = LazyNPZDataset(tmp_path / "a.npz")
        assert len(dataset[4]["bboxes"]) == 2
        with pytest.raises(NPZFormatError, match="'bboxes_offsets', row 1: 3 to"):
            dataset.get_batch([4, 1])
        with pytest.raises(NPZFormatError, match=r"a\.npz: member 'bboxes': offsets"):
            dataset.verify()

    def test_a_file_cut_while_open_is_an_error_not_a_crash(self, tmp_path):
        dataset = LazyNPZDataset(write(tmp_path / "a.npz", n=400, size=(32, 32)))
        os.truncate(tmp_path / "a.npz", 4096)
        for read in (lambda: dataset[399], lambda: dataset.verify()):
            with pytest.raises(NPZFormatError, match="it was cut while in use"):
                read()


def test_a_dropped_dataset_frees_its_map_at_once(tmp_path):
    path = write(tmp_path / "a.npz")
    dataset = LazyNPZDataset(path, cache_size=3)
    dataset[0]
    assert str(path) in Path("/proc/self/maps").read_text()
    del dataset
    assert str(path) not in Path("/proc/self/maps").read_text()


def _is_shared(samples):
    return default_collate(samples)["image"].is_shared()


def _length(dataset, queue):
    queue.put((len(dataset), int(dataset[2]["image"].sum())))


def test_a_dataset_travels_to_a_forkserver_process(tmp_path):
    dataset = LazyNPZDataset(write(tmp_path / "a.npz"))
    queue = PROCESSES.Queue()
    process = PROCESSES.Process(target=_length, args=(dataset, queue))
    process.start()
    assert queue.get(timeout=60) == (12, int(dataset[2]["image"].sum()))
    process.join()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: LazyNPZDataset([path]), "path must be a path, got "),
        (lambda path: LazyNPZDataset(None), "path must be a path, got None"),
        (lambda path: LazyNPZDataset(path, verify="no"), "verify must be true or false, got 'no'"),
        (lambda path: CombinedLazyDataset([path]), "expected a dataset, got .*open_dataset"),
        (lambda path: CombinedLazyDataset(str(path)), "expected a dataset, got '/'"),
        (BatchLoader, "expected a dataset, got .*open_dataset"),
    ],
)
def test_what_is_no_path_or_no_dataset_is_refused_by_name(tmp_path, make, message):
    with pytest.raises(TypeError, match=message):
        make(write(tmp_path / "a.npz"))


def test_a_file_that_is_opened_twice_is_read_twice_with_a_warning(tmp_path, caplog):
    path = write(tmp_path / "a.npz")
    (tmp_path / "link.npz").symlink_to(path)
    for same in (path, tmp_path / "link.npz", tmp_path / ".." / tmp_path.name / "a.npz"):
        with open_dataset([path, same]) as both, LazyNPZDataset(path) as one:
            assert "twice" in caplog.text
            assert len(both) == 2 * len(one)
            caplog.clear()
            repeated = CombinedLazyDataset([one, one])  # on purpose
            assert len(CombinedLazyDataset([repeated, repeated])) == 4 * len(one)
            assert not caplog.records
