"""A set of shards behaves as one file: batches, workers, caches, resuming, ranks, datamodule."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules import LazyNPZDataModule
from processing import BatchLoader, CombinedLazyDataset, LazyNPZDataset, open_dataset
from processing.data_processor import DataProcessor
from processing.npz import set_contents
from tests.conftest import write_coco
from tests.processes import PROCESSES

SIZES = {"detector": 32, "landmarker": 24, "teacher": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_coco(folder / "raw", images=40)
    for name, shard in (("whole", None), ("parts", 3)):
        DataProcessor(
            *(folder / "raw", folder / name),
            image_size=SIZES,
            progress=False,
            samples_per_shard=shard,
        ).process_all()
    return folder


@pytest.fixture(params=["all open", "one open"])
def pair(made, request, monkeypatch):
    """The same data as one file and as a set, of which all shards or one may be open."""
    if request.param == "one open":
        monkeypatch.setattr(set_contents, "most_open", lambda **_: 1)
    with (
        open_dataset(made / "whole", "train_detector", return_index=True) as whole,
        open_dataset(made / "parts", "train_detector", return_index=True) as parts,
    ):
        yield whole, parts


def rows(value):
    return value if hasattr(value, "__len__") and not isinstance(value, str) else [value]


def equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[key]), key
        else:
            for mine, yours in zip(rows(value), rows(other[key]), strict=True):
                assert np.array_equal(mine, yours), key


def test_samples_batches_and_columns_are_those_of_one_file(pair):
    whole, parts = pair
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 7, 30):
        indices = rng.integers(-len(whole), len(whole), size)
        equal(whole.get_batch(indices), parts.get_batch(indices))
    for index in (0, 2, 3, -1):
        equal(dict(whole[index]), dict(parts[index]))
        box = np.array([1.0, 2.0, 9.0, 8.0])
        assert np.array_equal(whole.to_source(index, box), parts.to_source(index, box))
    assert np.array_equal(whole.image_paths, parts.image_paths)
    assert np.array_equal(whole.bboxes.values, parts.bboxes.values)
    assert np.array_equal(whole.bboxes.offsets, parts.bboxes.offsets)
    assert np.array_equal(whole.source_sizes, parts.source_sizes)
    with pytest.raises(TypeError, match="is a set of files"):
        _ = parts.images


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_loaders_deliver_the_batches_of_one_file(pair, num_workers, shuffle):
    whole, parts = pair
    options = {"batch_size": 8, "shuffle": shuffle, "seed": 3}
    expected = BatchLoader(whole, **options)
    for one, other in zip(
        expected, BatchLoader(parts, num_workers=num_workers, **options), strict=True
    ):
        equal(one, other)


@pytest.mark.parametrize("context", ["fork", PROCESSES])
def test_worker_processes_open_the_set_again(pair, context):
    whole, parts = pair
    loader = DataLoader(parts, 8, num_workers=1, multiprocessing_context=context)
    for one, other in zip(DataLoader(whole, 8), loader, strict=True):
        equal(one, other)


def test_the_order_by_shards_reads_each_sample_once_and_resumes_anywhere(pair):
    _, parts = pair
    loader = BatchLoader(parts, 5, shuffle="shards", seed=2, num_workers=1)
    batches = [batch["index"].tolist() for batch in loader]
    assert sorted(itertools.chain(*batches)) == list(range(len(parts)))
    assert list(itertools.chain(*batches)) != list(range(len(parts)))
    again = BatchLoader(parts, 5, shuffle="shards", seed=2)
    again.load_state_dict({"epoch": 0, "consumed": 15})
    assert [batch["index"].tolist() for batch in again] == batches[3:]
    ranks = []
    for rank in range(3):
        loader = BatchLoader(parts, 5, shuffle="shards", seed=2, rank=rank, world_size=3)
        ranks += [batch["index"][batch["valid"]].tolist() for batch in loader]
    assert sorted(itertools.chain(*ranks)) == list(range(len(parts)))


def test_a_single_file_may_be_read_in_the_order_by_shards(made):
    with open_dataset(made / "whole", "train_detector", return_index=True) as whole:
        found = [i for b in BatchLoader(whole, 5, shuffle="shards") for i in b["index"].tolist()]
        assert sorted(found) == list(range(len(whole)))


@pytest.mark.parametrize("wrong", ["shard", "", 1, None])
def test_another_order_is_refused(made, wrong):
    with (
        open_dataset(made / "whole", "train_detector") as whole,
        pytest.raises((TypeError, ValueError), match="shuffle"),
    ):
        BatchLoader(whole, 5, shuffle=wrong)


def test_caches_and_copies_work(made):
    path = made / "parts" / "train_teacher-*.npz"
    with LazyNPZDataset(path, cache_size=100, verify=True) as parts:
        first = parts.get_batch([0, 5, 5])
        assert parts.cache_info().hits == 1
        equal(first, parts.get_batch([0, 5, 5]))
        copy = pickle.loads(pickle.dumps(parts))
        equal(first, copy.get_batch([0, 5, 5]))
        assert "train_teacher-*.npz" in repr(parts)
        assert repr(parts).startswith(f"LazyNPZDataset(teacher, train, {len(parts)} rows of 16x16")
        copy.close()
    with pytest.raises(ValueError, match="closed"):
        parts[0]


def test_a_set_that_changed_after_pickling_is_refused(made, tmp_path):
    import shutil

    folder = shutil.copytree(made / "parts", tmp_path / "parts")
    with open_dataset(folder, "val_detector") as parts:
        data = pickle.dumps(parts)
    manifest = folder / "val_detector.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"val"', b'"train"'))
    with pytest.raises(ValueError, match="was replaced by another file"):
        pickle.loads(data)


def test_sets_and_files_combine(made):
    with open_dataset([made / "parts", made / "whole"], "val_detector") as both:
        assert isinstance(both, CombinedLazyDataset)
        half = len(both) // 2
        equal(dict(both[1]), dict(both[half + 1]))
        assert both.file_offsets[-1] == len(both)
        assert len(both.file_offsets) > 3


@pytest.mark.parametrize("task", SIZES)
def test_the_datamodule_reads_a_set_as_it_reads_a_file(made, task):
    modules = [
        LazyNPZDataModule(task=task, data_dir=made / name, batch_size=4)
        for name in ("whole", "parts")
    ]
    for module in modules:
        module.setup("fit")
    whole, parts = modules
    assert parts.num_classes == whole.num_classes
    assert parts.num_keypoints == whole.num_keypoints
    for split in ("train_dataloader", "val_dataloader"):
        for one, other in zip(getattr(whole, split)(), getattr(parts, split)(), strict=True):
            equal(one, other)
    for module in modules:
        module.teardown("fit")


def test_the_datamodule_makes_shards_and_trains_in_their_order(made, tmp_path):
    processor = DataProcessor(
        *(made / "raw", tmp_path), image_size=SIZES, progress=False, samples_per_shard=10
    )
    module = LazyNPZDataModule(task="detector", processor=processor, batch_size=4, shuffle="shards")
    module.prepare_data()
    module.setup("fit")
    seen = [i for batch in module.train_dataloader() for i in batch["index"].tolist()]
    assert sorted(seen) == list(range(len(module.datasets["train"])))
    module.teardown("fit")


def test_a_set_without_its_manifest_is_refused_by_the_datamodule(made, tmp_path):
    import shutil

    folder = shutil.copytree(made / "parts", tmp_path / "parts")
    (folder / "train_detector.json").unlink()
    with pytest.raises(ValueError, match=r"not the manifest train_detector\.json"):
        LazyNPZDataModule(task="detector", data_dir=folder).setup("fit")
