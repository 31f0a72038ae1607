"""Memory that processes share: what is put there, and that it has no name."""

import math
import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from processing.datasets.batch import Batch, TensorList
from processing.datasets.shared_tensors import empty_shared, stack_shared, to_shared

PLAIN = {
    "bytes": torch.arange(24, dtype=torch.uint8).view(2, 3, 4),
    "nothing": torch.empty(0, 4),
    "no extents": torch.tensor(3.5),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "transposed": torch.arange(6.0).view(2, 3).T,
    "truth": torch.tensor([True, False]),
}
OTHERS = {
    "sparse": torch.eye(3).to_sparse(),
    "trained": torch.ones(2, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "without memory": torch.empty(2, device="meta"),
}


def named():
    return set(Path("/dev/shm").glob("torch_*"))


@pytest.mark.parametrize("kind", PLAIN)
def test_values_are_the_same_in_memory_without_a_name(kind):
    before = named()
    shared = to_shared(PLAIN[kind])
    assert shared.is_shared()
    assert named() == before
    assert (shared.dtype, shared.shape) == (PLAIN[kind].dtype, PLAIN[kind].shape)
    assert shared.equal(PLAIN[kind])
    assert to_shared(shared) is shared


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_more_than_values_is_left_to_torch(kind):
    assert to_shared(OTHERS[kind]) is OTHERS[kind]


def test_stacks_as_torch_does():
    tensors = [torch.full((2, 3), i, dtype=torch.int16) for i in range(4)]
    assert stack_shared(tensors).equal(torch.stack(tensors))


def test_memory_goes_with_its_last_tensor():
    def resident():
        fields = Path("/proc/self/statm").read_text().split()
        return int(fields[0])

    empty_shared((1 << 28,), torch.uint8)
    before = resident()
    for _ in range(20):
        empty_shared((1 << 28,), torch.uint8)
    assert resident() - before < math.ceil((1 << 28) / 4096)


def test_all_of_a_batch_goes_to_other_processes_through_it():
    flat = [torch.zeros(2, 4), torch.ones(3, 4)]
    batch = Batch(
        {"image": PLAIN["bytes"], "bboxes": TensorList(flat), "more": {"x": [torch.ones(1)]}}
    )
    before = named()
    found = pickle.loads(ForkingPickler.dumps(batch))
    assert named() == before
    assert type(found) is Batch
    assert found["image"].equal(batch["image"])
    assert [boxes.tolist() for boxes in found["bboxes"]] == [boxes.tolist() for boxes in flat]
    assert found["more"]["x"][0].is_shared()
    assert not batch["image"].is_shared()
