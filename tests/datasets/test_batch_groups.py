"""Groups of batches: the annotations of several are gathered together, and each batch is its own.

Groups have at most 24 samples here, so that an epoch has several, and the last one is smaller.
"""

import contextlib
import pickle
import threading

import numpy as np
import pytest
import torch

from processing import BatchLoader, CombinedLazyDataset, LazyNPZDataset
from processing.core.errors import NPZFormatError
from processing.datasets import batch_groups
from processing.datasets.batch_groups import BatchGroup
from tests.datasets.test_lazy_dataset import content, write

N, BATCH = 70, 7  # four groups: batches of 7, 7, 7 samples, and one batch in the last


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(batch_groups, "_SAMPLES", 24)
    monkeypatch.setattr("processing.datasets.loader.available_cpus", lambda: 4)


def halved(sample):
    sample["image"] = sample["image"] // 2
    return sample


def assert_batch_is(batch, dataset, indices, halved=False):
    """Compares a batch of a loader with the rows of the dataset."""
    expected = dataset.get_batch(indices)
    images = expected.pop("images")
    assert batch["image"].tolist() == (images // 2 if halved else images).tolist()
    assert batch["image_path"] == expected.pop("image_paths").tolist()
    assert batch.keys() - {"image", "image_path", "valid"} == expected.keys()
    for name, column in expected.items():
        found = [torch.as_tensor(row) for row in batch[name]]
        assert [row.tolist() for row in found] == [np.asarray(row).tolist() for row in column]
        assert {row.dtype for row in found} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"rank": 1, "world_size": 3}])
@pytest.mark.parametrize("kind", ["plain", "verify", "cache", "transform", "combined"])
@pytest.mark.parametrize("task", ["detector", "landmarker", "teacher"])
def test_batches_are_the_rows_of_the_dataset(tmp_path, task, kind, options, num_workers):
    settings = {
        "verify": {"verify": True},
        "cache": {"cache_size": 20},
        "transform": {"transform": halved},
    }.get(kind, {})
    with contextlib.ExitStack() as opened:
        path = write(tmp_path / "a.npz", task=task, n=N, labels=task != "landmarker")
        dataset = LazyNPZDataset(path, return_index=True, **settings)
        if kind == "combined":
            other = write(tmp_path / "b.npz", task=task, n=9, seed=1, labels=task != "landmarker")
            parts = [dataset, LazyNPZDataset(other, return_index=True, transform=halved)]
            dataset = CombinedLazyDataset(parts)
        opened.enter_context(dataset)
        loader = BatchLoader(dataset, BATCH, True, num_workers, **options)
        batches = list(loader)  # held, so that a batch that changes later is found
        assert len(batches) == len(loader)
        for batch in batches:
            if kind != "combined":
                assert_batch_is(batch, dataset, batch["index"], halved=kind == "transform")
                continue
            for row, index in enumerate(batch["index"].tolist()):
                expected = dataset.get_batch([index])["images"][0] // (1 if index < N else 2)
                assert batch["image"][row].tolist() == expected.tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("step", [1, 4, 8])
def test_an_iteration_goes_on_in_the_middle_of_a_group(tmp_path, step, num_workers):
    with LazyNPZDataset(write(tmp_path / "a.npz", n=N), return_index=True) as dataset:
        first = BatchLoader(dataset, BATCH, True, num_workers)
        with contextlib.closing(iter(first)) as batches:
            seen = [next(batches)["index"] for _ in range(step)]
        rest = BatchLoader(dataset, BATCH, True, num_workers)
        rest.load_state_dict(first.state_dict())
        left = list(rest)
        for batch in left:
            assert_batch_is(batch, dataset, batch["index"])
        indices = torch.cat([*seen, *(batch["index"] for batch in left)])
        assert sorted(indices.tolist()) == list(range(N))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("bad_batch", [0, 1, 2, 9])
def test_a_bad_annotation_is_the_error_of_its_own_batch(tmp_path, bad_batch, num_workers):
    members = content(n=N)
    members["bboxes_offsets"][bad_batch * BATCH + 4] += 1000
    np.savez(tmp_path / "a.npz", **members)
    with LazyNPZDataset(tmp_path / "a.npz", return_index=True) as dataset:
        batches = iter(BatchLoader(dataset, BATCH, num_workers=num_workers))
        for batch in range(bad_batch):
            indices = next(batches)["index"].tolist()
            assert indices == list(range(batch * BATCH, (batch + 1) * BATCH))
        with pytest.raises(NPZFormatError, match=f"row {bad_batch * BATCH + 3}"):
            next(batches)
        assert not any(t.name.startswith("npz-worker") for t in threading.enumerate())


@pytest.mark.parametrize("task", ["detector", "landmarker", "teacher"])
def test_a_batch_owns_its_memory(tmp_path, task):
    path = write(tmp_path / "a.npz", task=task, n=N, labels=task != "landmarker")
    with LazyNPZDataset(path, return_index=True) as dataset:
        batches = list(BatchLoader(dataset, BATCH))
        for batch in batches:
            for name in batch.keys() - {"image", "image_path"}:
                items = batch[name] if isinstance(batch[name], list) else [batch[name]]
                held = {item.untyped_storage().nbytes() for item in items if item.numel()}
                # A row that is kept keeps the rows of its batch, and no others.
                assert held <= {sum(item.numel() * item.element_size() for item in items)}
                for item in items:
                    item.fill_(-1)  # seen by no other batch
        for batch, again in zip(batches, BatchLoader(dataset, BATCH), strict=True):
            assert_batch_is(again, dataset, again["index"])
            assert batch["image"].tolist() == again["image"].tolist()


def test_a_pickled_batch_holds_its_own_rows_only(tmp_path):
    members = content("landmarker", n=N, size=(1, 1))
    members["keypoints"] = np.zeros((N, 500, 3), np.float32)
    np.savez(tmp_path / "a.npz", **members)
    with LazyNPZDataset(tmp_path / "a.npz") as dataset:
        batch = next(iter(BatchLoader(dataset, BATCH)))
    assert len(pickle.dumps(batch)) < 1.2 * BATCH * 500 * 3 * 4


def test_annotations_are_gathered_once_for_a_group(tmp_path, monkeypatch):
    asked = []
    annotations = LazyNPZDataset.annotations
    monkeypatch.setattr(
        LazyNPZDataset,
        "annotations",
        lambda self, indices: asked.append(len(indices)) or annotations(self, indices),
    )
    with LazyNPZDataset(write(tmp_path / "a.npz", n=N)) as dataset:
        for num_workers in (0, 2):
            list(BatchLoader(dataset, BATCH, num_workers=num_workers))
            assert sorted(asked) == [7, 21, 21, 21]
            asked.clear()


def test_threads_get_the_batches_of_one_group_each_once(tmp_path):
    with LazyNPZDataset(write(tmp_path / "a.npz", n=N), return_index=True) as dataset:
        for _ in range(20):
            group = BatchGroup(dataset, list(np.arange(N).reshape(-1, BATCH)))
            found = {}

            def read(position, group=group, found=found):
                group.prepare()
                found[position] = group.batch(position, torch.zeros(BATCH))["index"].tolist()

            threads = [threading.Thread(target=read, args=(p,)) for p in range(N // BATCH)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [found[p] for p in range(N // BATCH)] == np.arange(N).reshape(-1, BATCH).tolist()
