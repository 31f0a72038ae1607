"""Samples that a user wraps: ragged values stay apart, and several samples are read at once."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler, Subset

from processing.datasets.batch import TensorList
from processing.datasets.ragged_row import RaggedRow, ragged_row
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset
from tests.datasets.test_lazy_dataset import write


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.npz", labels=True)


@pytest.fixture
def dataset(path):
    with LazyNPZDataset(path, return_index=True) as opened:
        yield opened


@pytest.fixture(params=["one file", "two files"])
def any_dataset(request, path):
    with LazyNPZDataset(path, return_index=True) as one:
        yield one if request.param == "one file" else CombinedLazyDataset([one, one])


class Wrapped(Dataset):
    def __init__(self, dataset, change):
        self.dataset, self.change = dataset, change

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.change(self.dataset[index])


WRAPPERS = {
    "same": (lambda s: s, lambda b: b["bboxes"]),
    "dict(s)": (dict, lambda b: b["bboxes"]),
    "s | {}": (lambda s: s | {"n": 1}, lambda b: b["bboxes"]),
    "{**s}": (lambda s: {**s}, lambda b: b["bboxes"]),
    "tuple": (lambda s: (s["image"], s["bboxes"]), lambda b: b[1]),
    "list": (lambda s: [s["image"], s["bboxes"]], lambda b: b[1]),
    "renamed": (lambda s: {"x": s["image"], "boxes": s["bboxes"]}, lambda b: b["boxes"]),
    "nested": (lambda s: (s["image"], {"boxes": s["bboxes"]}), lambda b: b[1]["boxes"]),
    "copied": (lambda s: {"boxes": s["bboxes"].copy()}, lambda b: b["boxes"]),
    "doubled": (lambda s: {"boxes": s["bboxes"].astype(float) * 2 / 2}, lambda b: b["boxes"]),
    "masked": (lambda s: {"boxes": s["bboxes"][s["labels"] >= 0]}, lambda b: b["boxes"]),
    "pickled": (lambda s: pickle.loads(pickle.dumps({**s})), lambda b: b["bboxes"]),
    "deep copy": (lambda s: copy.deepcopy({**s}), lambda b: b["bboxes"]),
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("how", ["wrapper", "transform"])
def test_boxes_of_a_wrapped_sample_stay_a_list(path, dataset, name, how):
    change, boxes_of = WRAPPERS[name]
    if how == "wrapper":
        loader = DataLoader(Wrapped(dataset, change), 12)
    else:
        loader = DataLoader(LazyNPZDataset(path, transform=change), 12)
    (batch,) = loader
    found = boxes_of(batch)
    assert type(found) is TensorList
    assert len({len(boxes) for boxes in found}) > 1
    for boxes, index in zip(found, range(12), strict=True):
        np.testing.assert_array_equal(boxes.numpy(), dataset[index]["bboxes"])


def test_wrapped_samples_arrive_from_worker_processes(path):
    with LazyNPZDataset(path) as dataset:
        loader = DataLoader(Wrapped(dataset, dict), 12, num_workers=1)
        (batch,) = loader
        assert [len(b) for b in batch["bboxes"]] == dataset.bboxes.lengths.tolist()


# What has one shape in every sample makes a tensor, as it would of plain arrays.
FIXED = {
    "first box": lambda b: b[0],
    "mean": lambda b: b.mean(0),
    "largest": lambda b: b.max(axis=0, keepdims=True),
    "padded": lambda b: np.concatenate([b, np.zeros((4 - len(b), 4), np.float32)]),
    "cut": lambda b: b[:1],
    "number": lambda b: len(b),
    "sum": lambda b: b.sum(),
}


@pytest.mark.parametrize("make", FIXED.values(), ids=FIXED)
def test_values_of_one_shape_make_a_tensor(dataset, make):
    rows = [i for i, count in enumerate(dataset.bboxes.lengths) if count]
    loader = DataLoader(Subset(Wrapped(dataset, lambda s: make(s["bboxes"])), rows), len(rows))
    (found,) = loader
    expected = [make(np.array(dataset[i]["bboxes"])) for i in rows]
    np.testing.assert_array_equal(found.numpy(), np.stack(expected))


def test_a_row_behaves_like_a_plain_array():
    plain = np.arange(12.0).reshape(3, 4)
    row = ragged_row(plain)
    assert isinstance(row, np.ndarray)
    assert repr(row) == repr(plain)
    assert str(row) == str(plain)
    assert type(np.asarray(row)) is np.ndarray
    assert type(row[1]) is np.ndarray
    assert type(row[0, 0]) is np.float64
    assert type(row.sum()) is np.float64
    assert np.shares_memory(torch.from_numpy(row).numpy(), plain)
    assert type(torch.as_tensor(row)) is torch.Tensor
    row *= 2
    row[0] = 7
    assert plain[1, 0] == 8
    assert plain[0].tolist() == [7] * 4
    assert isinstance(row, RaggedRow)
    assert row.is_ragged


def test_a_loader_without_batches_converts_boxes_to_tensors(dataset):
    sample = next(iter(DataLoader(dataset, batch_size=None)))
    assert all(type(sample[key]) is torch.Tensor for key in ("image", "bboxes", "labels"))
    np.testing.assert_array_equal(sample["bboxes"].numpy(), dataset[0]["bboxes"])


def test_a_sampler_of_batches_reads_each_batch_at_once(any_dataset):
    sampler = BatchSampler(SequentialSampler(any_dataset), 5, drop_last=False)
    batches = list(DataLoader(any_dataset, batch_size=None, sampler=sampler))
    assert [len(batch["images"]) for batch in batches][:2] == [5, 5]
    first, expected = batches[0], any_dataset.get_batch(range(5))
    assert first.keys() == expected.keys()
    np.testing.assert_array_equal(first["images"].numpy(), expected["images"])
    assert first["index"].tolist() == [0, 1, 2, 3, 4]
    assert first["image_paths"].tolist() == expected["image_paths"].tolist()
    for found, boxes in zip(first["bboxes"], expected["bboxes"], strict=True):
        np.testing.assert_array_equal(found, boxes)


def mask(n, *chosen):
    return np.isin(np.arange(n), chosen)


SELECTIONS = {
    "slice": (lambda n: slice(2, 5), [2, 3, 4]),
    "step": (lambda n: slice(None, None, -5), None),
    "no rows": (lambda n: slice(3, 3), []),
    "list": (lambda n: [0, 3], [0, 3]),
    "negative": (lambda n: [-1, 0, -1], None),
    "empty list": (lambda n: [], []),
    "tuple": (lambda n: (4, 1), [4, 1]),
    "range": (lambda n: range(1, 4), [1, 2, 3]),
    "array": (lambda n: np.array([5, 5], np.uint8), [5, 5]),
    "tensor": (lambda n: torch.tensor([1, 2]), [1, 2]),
    "mask": (lambda n: mask(n, 1, 7), [1, 7]),
    "list of bool": (lambda n: mask(n, 1, 7).tolist(), [1, 7]),
    "tensor of bool": (lambda n: torch.from_numpy(mask(n, 1, 7)), [1, 7]),
    "nothing": (lambda n: mask(n), []),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_several_indices_behave_like_get_batch(any_dataset, name):
    make, rows = SELECTIONS[name]
    n = len(any_dataset)
    if rows is None:
        rows = np.arange(n)[make(n)].tolist()
    found, expected = any_dataset[make(n)], any_dataset.get_batch(rows)
    assert found.keys() == expected.keys()
    assert found["index"].tolist() == rows
    for key, values in expected.items():
        assert found[key].dtype == values.dtype
        for row, value in zip(found[key], values, strict=True):
            np.testing.assert_array_equal(row, value)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([True, False], IndexError, r"one bool for each of 12 samples, got \(2,\)"),
        (np.ones(13, bool), IndexError, r"one bool for each of 12 samples, got \(13,\)"),
        ([0, 12], IndexError, "12 is out of range for 12 samples"),
        ([[0, 1]], TypeError, "must be integers"),
        ([0.5], TypeError, "must be integers"),
        (["a"], TypeError, "must be integers"),
        (0.5, TypeError, "float"),
        ("a", TypeError, "str"),
        (None, TypeError, "NoneType"),
    ],
)
def test_other_indices_are_refused(dataset, index, error, message):
    with pytest.raises(error, match=message):
        dataset[index]


@pytest.mark.parametrize("index", [slice(2), [0], np.ones(12, bool)])
def test_several_samples_are_not_read_past_a_transform(path, index):
    with (
        LazyNPZDataset(path, transform=dict) as dataset,
        pytest.raises(TypeError, match=r"has a transform: use \[dataset\[i\] for i"),
    ):
        dataset[index]


def test_shapes_that_make_no_tensor_are_named_with_the_remedy(path):
    dataset = LazyNPZDataset(path, transform=lambda s: {"points": np.zeros((len(s["bboxes"]), 2))})
    with pytest.raises(ValueError, match=r"'points' has other shapes .* collate_fn"):
        next(iter(DataLoader(dataset, 12)))
