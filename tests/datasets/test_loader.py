import contextlib
import gc
import itertools
import threading
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from processing import BatchLoader, CombinedLazyDataset, LazyNPZDataset
from processing.core.columns import RaggedArray
from processing.core.errors import ChecksumError
from processing.datasets.batch import Batch
from tests.orders import epoch_order

N, SIZE = 117, 4


def write(path, n=N, first=0):
    rows = [np.full((i % 4, 4), i, np.float32) for i in range(n)]
    boxes = RaggedArray.from_rows(rows, dtype=np.float32, row_shape=(4,))
    np.savez(
        path,
        images=np.broadcast_to(
            np.arange(first, first + n, dtype=np.uint8)[:, None, None, None], (n, SIZE, SIZE, 3)
        ),
        bboxes=boxes.values,
        bboxes_offsets=boxes.offsets,
        image_paths=np.array([f"{i}.jpg" for i in range(n)], dtype="U8"),
    )
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("loader") / "train_detector.npz")


@pytest.fixture
def dataset(path):
    with LazyNPZDataset(path, return_index=True) as dataset:
        yield dataset


@pytest.fixture
def many_cpus(monkeypatch):
    """Lets a loader start as many threads as it is told to."""
    monkeypatch.setattr("processing.datasets.loader.available_cpus", lambda: 8)


def seen(loader):
    return [batch["index"].tolist() for batch in loader]


def own(loader):
    """Returns the batches like `seen`, without samples that only fill up a batch."""
    batches = []
    for batch in loader:
        valid = batch.get("valid", torch.ones(len(batch["index"]), dtype=torch.bool))
        batches.append(batch["index"][valid].tolist())
    return batches


def flat(batches):
    return list(chain.from_iterable(batches))


def equal(a, b):
    assert a.keys() == b.keys()
    assert torch.equal(a["image"], b["image"])
    assert all(map(torch.equal, a["bboxes"], b["bboxes"]))
    assert len(a["bboxes"]) == len(b["bboxes"])
    assert a["image_path"] == b["image_path"]
    return True


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_are_those_of_a_dataloader(dataset, num_workers, drop_last):
    expected = list(DataLoader(dataset, batch_size=8, drop_last=drop_last))
    loader = BatchLoader(dataset, 8, num_workers=num_workers, drop_last=drop_last)
    found = list(loader)
    assert len(found) == len(loader) == len(expected) == (14 if drop_last else 15)
    assert all(equal(a, b) for a, b in zip(found, expected, strict=True))
    assert type(found[0]) is Batch


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_iteration_is_the_next_epoch(dataset, num_workers):
    loader = BatchLoader(dataset, 16, shuffle=True, num_workers=num_workers, seed=5)
    for epoch in range(3):
        assert flat(seen(loader)) == epoch_order(N, seed=5, epoch=epoch).tolist()


def test_an_epoch_left_early_is_over(dataset):
    loader = BatchLoader(dataset, 16, shuffle=True)
    for _ in loader:
        break
    assert flat(seen(loader)) == epoch_order(N, seed=0, epoch=1).tolist()


def test_the_epoch_may_be_named_until_the_first_batch(dataset):
    loader = BatchLoader(dataset, 16, shuffle=True)
    batches = iter(loader)
    loader.batch_sampler.sampler.set_epoch(7)
    found = [i for batch in batches for i in batch["index"].tolist()]
    assert found == epoch_order(N, seed=0, epoch=7).tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_that_is_held_never_changes(dataset, num_workers):
    loader = BatchLoader(dataset, 16, shuffle=True, num_workers=num_workers)
    held = [(batch["image"], batch["image"].clone()) for _ in range(3) for batch in loader]
    assert len({image.data_ptr() for image, _ in held}) == len(held)
    assert all(torch.equal(image, copy) for image, copy in held)


@pytest.mark.usefixtures("many_cpus")
@pytest.mark.parametrize("num_workers", [0, 2, 4])
def test_memory_is_used_again_once_nobody_holds_it(dataset, num_workers):
    loader = BatchLoader(dataset, 16, drop_last=True, num_workers=num_workers)
    addresses = {batch["image"].data_ptr() for _ in range(10) for batch in loader}
    assert len(addresses) <= 3 + 2 * num_workers  # of 70 batches


def test_a_loader_keeps_little_memory_between_epochs(dataset, monkeypatch):
    image_bytes = SIZE * SIZE * 3
    monkeypatch.setattr("processing.datasets.loader._KEPT_BYTES", 40 * image_bytes)
    loader = BatchLoader(dataset, 16, drop_last=True)
    held = list(loader)
    del held  # nobody has used this memory again
    for batch in loader:
        del batch
    assert len(loader._buffers._free) == 2  # batches of 16 images


@pytest.mark.parametrize(
    ("cpus", "num_workers", "threads"), [(1, 4, 1), (2, 1, 1), (2, 4, 1), (8, 4, 4), (8, 0, 0)]
)
def test_threads_leave_a_cpu_to_the_consumer(dataset, monkeypatch, cpus, num_workers, threads):
    monkeypatch.setattr("processing.datasets.loader.available_cpus", lambda: cpus)
    before = set(threading.enumerate())
    batches = iter(BatchLoader(dataset, 4, num_workers=num_workers))
    next(batches)
    assert len(set(threading.enumerate()) - before) == threads
    batches.close()


@settings(max_examples=40, deadline=None)
@given(
    batch_sizes=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    worlds=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    steps=st.integers(0, 200),
    shuffle=st.booleans(),
    num_workers=st.sampled_from([0, 2]),
)
def test_a_resumed_epoch_goes_on_in_the_same_order(
    path, batch_sizes, worlds, steps, shuffle, num_workers
):
    def loaders(batch_size, world_size):
        return [
            BatchLoader(
                dataset, batch_size, shuffle, num_workers, seed=2, rank=r, world_size=world_size
            )
            for r in range(world_size)
        ]

    with LazyNPZDataset(path, return_index=True) as dataset:
        first = loaders(batch_sizes[0], worlds[0])
        steps = min(steps, min(map(len, first)))
        consumed, states = [], set()
        for loader in first:
            with contextlib.closing(iter(loader)) as batches:
                consumed += flat(own(itertools.islice(batches, steps)))
            states.add(tuple(loader.state_dict().items()))
        (state,) = states  # the same on all ranks
        rest = loaders(batch_sizes[1], worlds[1])
        for loader in rest:
            loader.load_state_dict(dict(state))
        left = [own(loader) for loader in rest]
        if dict(state)["epoch"] == 0:  # unless the epoch was over: each sample is seen once
            together = consumed + flat(map(flat, left))
            assert sorted(together) == list(range(N))
        for loader in rest:  # and the next epoch is whole
            assert loader.next_position == (1, 0, 0)
        assert seen(rest[0]) == seen(_at_epoch(loaders(batch_sizes[1], worlds[1])[0], 1))


def _at_epoch(loader, epoch):
    loader.set_epoch(epoch)
    return loader


def test_a_resumed_epoch_equals_the_rest_of_the_whole(dataset):
    whole = seen(BatchLoader(dataset, 8, shuffle=True, seed=1))
    for step in range(len(whole)):
        loader = BatchLoader(dataset, 8, shuffle=True, seed=1)
        batches = iter(loader)
        for _ in range(step):
            next(batches)
        other = BatchLoader(dataset, 8, shuffle=True, seed=1, num_workers=2)
        other.load_state_dict(loader.state_dict())
        other.set_epoch(0)  # as a trainer does that resumes within this epoch
        assert seen(other) == whole[step:]


@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_share_the_samples(dataset, shuffle):
    loaders = [BatchLoader(dataset, 5, shuffle, rank=r, world_size=4) for r in range(4)]
    assert sorted(flat(flat(seen(loader)) for loader in loaders)) == list(range(N))
    assert (
        [len(loader) for loader in loaders] == [len(seen(loader)) for loader in loaders] == [6] * 4
    )


def test_a_rank_without_a_sample_repeats_one_and_marks_it(tmp_path):
    with LazyNPZDataset(write(tmp_path / "two.npz", 2), return_index=True) as dataset:
        loaders = [BatchLoader(dataset, 4, rank=r, world_size=3) for r in range(3)]
        batches = [next(iter(loader)) for loader in loaders]
    assert [batch["valid"].tolist() for batch in batches] == [[True], [True], [False]]
    assert [batch["index"].tolist() for batch in batches] == [[0], [1], [0]]


def test_one_rank_needs_no_marks(dataset):
    assert "valid" not in next(iter(BatchLoader(dataset, 4)))


def test_a_loader_takes_its_rank_from_the_process_group(dataset, tmp_path):
    loader = BatchLoader(dataset, 4)  # before the group exists, as in a script that starts ranks
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        assert (loader.rank, loader.world_size) == (0, 1)
    finally:
        torch.distributed.destroy_process_group()


def test_the_length_outlives_the_dataset(path):
    with LazyNPZDataset(path) as dataset:
        loader = BatchLoader(dataset, 10)
    assert len(loader) == 12


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_row_is_an_error_at_its_batch(path, tmp_path, num_workers):
    with np.load(path) as whole:
        members = dict(whole)
    checksums = np.zeros(N, np.uint32)
    np.savez(tmp_path / "bad.npz", **members, image_crc32=checksums)
    with (
        LazyNPZDataset(tmp_path / "bad.npz", verify=True) as dataset,
        pytest.raises(ChecksumError, match="row 0"),
    ):
        next(iter(BatchLoader(dataset, 8, num_workers=num_workers)))


@pytest.mark.usefixtures("many_cpus")
def test_threads_end_with_the_iteration(dataset):
    before = set(threading.enumerate())
    loader = BatchLoader(dataset, 4, num_workers=3)
    batches = iter(loader)
    next(batches)
    assert len(set(threading.enumerate()) - before) == 3
    batches.close()
    assert set(threading.enumerate()) <= before
    for _ in loader:
        break
    gc.collect()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_transform_sees_each_sample_and_boxes_stay_ragged(path, num_workers):
    def brighten(sample):
        return {"image": sample["image"].astype(np.float32) + 1, "bboxes": sample["bboxes"]}

    with LazyNPZDataset(path, transform=brighten) as dataset:
        batch = next(iter(BatchLoader(dataset, 6, num_workers=num_workers)))
    assert batch["image"].dtype == torch.float32
    assert batch["image"][:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert [len(boxes) for boxes in batch["bboxes"]] == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_several_files_and_a_cache_read_alike(path, tmp_path, num_workers):
    parts = [
        LazyNPZDataset(path, cache_size=10),
        LazyNPZDataset(write(tmp_path / "more.npz", 30, first=117)),
    ]
    with CombinedLazyDataset(parts) as dataset:
        loader = BatchLoader(dataset, 10, shuffle=True, num_workers=num_workers)
        values = torch.cat([batch["image"][:, 0, 0, 0] for batch in loader])
    assert values.tolist() == epoch_order(147, seed=0, epoch=0).tolist()


def test_no_samples_are_no_batches(tmp_path):
    with LazyNPZDataset(write(tmp_path / "none.npz", 0)) as dataset:
        assert list(BatchLoader(dataset, 4, shuffle=True, num_workers=2)) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"prefetch_factor": 0}, "prefetch_factor must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "world_size must be at least 3, got 2"),
        ({"rank": 1}, "give rank and world_size together, got 1 and None"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_arguments_out_of_range_are_refused(dataset, wrong, message):
    with pytest.raises(ValueError, match=message):
        BatchLoader(dataset, **wrong)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({}, ValueError),
        ({"epoch": 1}, ValueError),
        ({"epoch": 1, "consumed": 0, "batch": 3}, ValueError),
        ({"epoch": 1, "consumed": -1}, ValueError),
        ({"epoch": "1", "consumed": 0}, TypeError),
    ],
)
def test_a_state_that_is_not_a_loaders_is_refused(dataset, state, error):
    with pytest.raises(error, match=r"epoch|consumed"):
        BatchLoader(dataset, 2).load_state_dict(state)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"samples": 3}, "samples in the dataset was 3 and is 117"), ({"seed": 1}, "seed was 1 and")],
)
def test_an_epoch_of_other_data_is_not_continued(dataset, changed, message):
    loader = BatchLoader(dataset, 2, shuffle=True)
    state = {**loader.state_dict(), **changed}
    loader.load_state_dict(state)  # at the start of an epoch, all data are welcome
    with pytest.raises(ValueError, match=f"cannot continue within epoch 0: the {message}"):
        loader.load_state_dict({**state, "consumed": 4})


def test_lightning_is_not_left_to_count_steps_of_another_size(dataset):
    """A data module tells Lightning how many steps are left; a loader alone cannot."""
    loader = BatchLoader(dataset, 4, shuffle=True)
    with contextlib.closing(iter(loader)) as batches:
        next(batches)
    same, other = (BatchLoader(dataset, size, shuffle=True) for size in (4, 6))
    for resumed in (same, other):
        resumed.load_state_dict(loader.state_dict())
    same.batch_sampler.sampler.set_epoch(0)
    assert same.next_position.consumed == 4
    with pytest.raises(ValueError, match=r"had 4 samples on all ranks and has 6 now.*Resume"):
        other.batch_sampler.sampler.set_epoch(0)
    other.batch_sampler.sampler.set_epoch(1)  # a whole epoch has steps of one size
    assert seen(other) == seen(_at_epoch(BatchLoader(dataset, 6, shuffle=True), 1))
