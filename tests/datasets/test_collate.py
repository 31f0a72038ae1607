"""How batches travel: collating, pickling, moving, and what a user may change on the way."""

import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from processing.core.columns import RaggedArray
from processing.datasets.batch import TensorList
from processing.datasets.collate import Sample, SampleBatch


def boxes(*lengths, fill=None):
    return [torch.full((k, 4), float(i if fill is None else fill)) for i, k in enumerate(lengths)]


def batch_of(lengths=(2, 0, 3)):
    n = len(lengths)
    rows = [np.full((k, 4), i, np.float32) for i, k in enumerate(lengths)]
    return SampleBatch(
        {
            "images": np.arange(n * 12, dtype=np.uint8).reshape(n, 2, 2, 3),
            "bboxes": RaggedArray.from_rows(rows, dtype=np.float32, row_shape=(4,)),
            "image_paths": np.array([f"{i}.jpg" for i in range(n)]),
        }
    )


def assert_same(found, expected):
    assert type(found) is TensorList
    assert [t.tolist() for t in found] == [t.tolist() for t in expected]
    assert [t.shape for t in found] == [t.shape for t in expected]


def copied(value):
    return pickle.loads(ForkingPickler.dumps(value))


class TestTensorList:
    @pytest.mark.parametrize("lengths", [(2, 0, 3), (0, 0), (1,), ()])
    @pytest.mark.parametrize("move", [copied, lambda t: t.to("cpu", non_blocking=True)])
    def test_arrives_equal(self, lengths, move):
        assert_same(move(TensorList(boxes(*lengths))), boxes(*lengths))

    def test_travels_as_one_tensor(self):
        found = copied(TensorList(boxes(2, 0, 3)))
        assert len({t.untyped_storage().data_ptr() for t in found if len(t)}) == 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda t: t.pop(),
            lambda t: t.append(torch.ones(1, 4)),
            lambda t: t.reverse(),
            lambda t: t.__setitem__(0, torch.ones(3, 4)),
            lambda t: t.__setitem__(0, torch.ones(3, 5)),
            lambda t: t.__setitem__(0, torch.ones(3, 4, dtype=torch.float64)),
            lambda t: t.__setitem__(0, torch.tensor(1.0)),
            lambda t: t[0].fill_(9),
        ],
    )
    @pytest.mark.parametrize("move", [copied, lambda t: t.to("cpu")])
    def test_changes_of_the_user_travel_too(self, change, move):
        tensors = TensorList.split(torch.cat(boxes(2, 0, 3)), [2, 0, 3])
        change(tensors)
        found = move(tensors)
        assert_same(found, tensors)
        assert [t.dtype for t in found] == [t.dtype for t in tensors]

    def test_to_changes_the_dtype(self):
        assert TensorList(boxes(1, 2)).to(torch.float64)[1].dtype == torch.float64

    def test_pinning_pins_one_tensor(self, monkeypatch):
        pinned = []
        monkeypatch.setattr(
            torch.Tensor, "pin_memory", lambda self: pinned.append(self.shape) or self.clone()
        )
        assert_same(TensorList(boxes(2, 0, 3)).pin_memory(), boxes(2, 0, 3))
        assert pinned == [(5, 4)]

    def test_lightning_moves_it_as_a_whole(self):
        apply = pytest.importorskip("lightning.fabric.utilities.apply_func")
        batch = apply.move_data_to_device({"bboxes": TensorList(boxes(2, 1))}, torch.device("meta"))
        assert type(batch["bboxes"]) is TensorList
        assert batch["bboxes"][0].device.type == "meta"
        assert batch["bboxes"][0].untyped_storage()._cdata == (
            batch["bboxes"][1].untyped_storage()._cdata
        )


class TestSampleBatch:
    def test_is_a_sequence_of_samples(self):
        batch = batch_of()
        assert len(batch) == 3
        assert [s["image_path"] for s in batch] == ["0.jpg", "1.jpg", "2.jpg"]
        assert batch[-1] is batch[2]
        assert [s["image_path"] for s in batch[1:]] == ["1.jpg", "2.jpg"]
        assert isinstance(batch[0], dict)
        with pytest.raises(IndexError, match="sample 3 of a batch of 3"):
            batch[3]

    def test_collates_without_copying(self):
        batch = batch_of()
        collated = default_collate(batch)
        assert list(collated) == ["image", "bboxes", "image_path"]
        assert collated["image"].data_ptr() == batch.columns["images"].ctypes.data
        assert collated["bboxes"][0].data_ptr() == batch.columns["bboxes"].values.ctypes.data
        assert [len(b) for b in collated["bboxes"]] == [2, 0, 3]
        assert collated["image_path"] == ["0.jpg", "1.jpg", "2.jpg"]

    def test_collates_as_its_samples_do(self):
        gathered, stacked = default_collate(batch_of()), default_collate(list(batch_of()))
        assert gathered.keys() == stacked.keys()
        assert torch.equal(gathered["image"], stacked["image"])
        assert_same(stacked["bboxes"], gathered["bboxes"])
        assert gathered["image_path"] == stacked["image_path"]

    def test_equal_counts_of_boxes_stay_a_list(self):
        for batch in (batch_of((2, 2)), list(batch_of((2, 2)))):
            assert_same(default_collate(batch)["bboxes"], boxes(2, 2))

    def test_what_a_user_puts_into_samples_is_kept(self):
        batch = batch_of()
        batch[1]["image"] = np.full((2, 2, 3), 9, np.uint8)
        batch[2]["image"][:] = 8
        collated = default_collate(batch)
        assert collated["image"][1].unique().tolist() == [9]
        assert collated["image"][2].unique().tolist() == [8]

    @pytest.mark.parametrize("change", [lambda s: s.pop("bboxes"), lambda s: s.update(new=1)])
    def test_added_and_removed_keys_are_kept(self, change):
        batch = batch_of()
        for sample in batch:
            change(sample)
        assert default_collate(batch).keys() == batch[0].keys()

    def test_is_pickled_as_its_samples(self):
        batch = batch_of()
        batch[0]["image"] = np.zeros((2, 2, 3), np.uint8)
        found = copied(batch)
        assert [s["image_path"] for s in found] == ["0.jpg", "1.jpg", "2.jpg"]
        assert not found[0]["image"].any()
        assert_same(default_collate(found)["bboxes"], default_collate(batch_of())["bboxes"])


def test_samples_collate_like_dicts():
    samples = [Sample({"a": i, "b": np.zeros(2), "c": "x", "d": np.float32(1)}) for i in range(2)]
    plain = default_collate([dict(sample) for sample in samples])
    found = default_collate(samples)
    assert found["a"].tolist() == plain["a"].tolist()
    assert found["b"].shape == plain["b"].shape
    assert found["c"] == plain["c"]
    assert found["d"].dtype == plain["d"].dtype
