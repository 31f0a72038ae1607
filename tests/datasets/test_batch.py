"""Batch, TensorList and Sample behave as a plain dict of tensors and plain lists does."""

import copy
import io
import pickle
from collections import ChainMap, OrderedDict, namedtuple
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.distributed.utils import _to_kwargs
from torch.utils import _pytree as pytree
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only, tree_unflatten
from torch.utils.data import DataLoader, default_collate
from torch.utils.data._utils.pin_memory import pin_memory

from processing.datasets.batch import Batch, TensorList
from processing.datasets.collate import Sample, ragged_sample
from processing.datasets.loader import BatchLoader
from processing.lazy_dataset import LazyNPZDataset
from tests.processes import PROCESSES

apply_to_collection = pytest.importorskip("lightning_utilities.core.apply_func").apply_to_collection


def move_data_to_device(batch, device):
    """Moves as Lightning does; imported here, because spawned workers import this module too."""
    module = pytest.importorskip("lightning.fabric.utilities.apply_func")
    return module.move_data_to_device(batch, device)


META = torch.device("meta")
LENGTHS = [2, 0, 3]
NAMES = ["image", "bboxes", "image_path", "index"]
Pair = namedtuple("Pair", "left right")


def fields():
    """The fields of a batch, as plain lists and tensors."""
    flat = torch.arange(20.0).reshape(5, 4)
    return {
        "image": torch.arange(36, dtype=torch.uint8).reshape(3, 2, 2, 3),
        "bboxes": list(flat.split(LENGTHS)),
        "image_path": ["a", "b", "c"],
        "index": torch.arange(3),
    }


def batch():
    """The same fields as a loader yields them."""
    flat = torch.arange(20.0).reshape(5, 4)
    return Batch({**fields(), "bboxes": TensorList.split(flat, LENGTHS)})


def assert_alike(found, expected):
    """Compares two containers; a `TensorList` counts as a list, a `Batch` or `Sample` as a dict."""
    if isinstance(expected, torch.Tensor):
        assert type(found) is type(expected)
        assert (found.device, found.dtype, found.shape) == (
            expected.device,
            expected.dtype,
            expected.shape,
        )
        if expected.device != META:
            assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_alike(found[name], value)
    elif isinstance(expected, list | tuple):
        assert isinstance(found, list if isinstance(expected, list) else tuple)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    else:
        assert found == expected


def as_arguments(**fields):
    return fields


def shape_of(value):
    return tuple(value.shape) if isinstance(value, torch.Tensor) else value


# Each is called with a batch and with a plain dict of the same fields; the results must be alike.
USES = {
    "by name": lambda b: {name: b[name] for name in b},
    "get": lambda b: [b.get("bboxes"), b.get("boxes", 3)],
    "items": lambda b: dict(list(b.items())),
    "values": lambda b: list(b.values()),
    "pop": lambda b: [b.pop("bboxes"), b.pop("boxes", 3), b],
    "popitem": lambda b: [b.popitem() for _ in NAMES],
    "setdefault": lambda b: [b.setdefault("bboxes"), b.setdefault("boxes", 3), b],
    "dict()": dict,
    "{**b}": lambda b: {**b},
    "f(**b)": lambda b: as_arguments(**b),
    "update": lambda b: [d := {}, d.update(b)][0],
    "b | {}": lambda b: b | {"index": 1, "new": 2},
    "{} | b": lambda b: {"index": 1, "new": 2} | b,
    "|=": lambda b: copy.copy({}).__ior__(b),
    "copy": lambda b: b.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda b: pickle.loads(pickle.dumps(b)),
    "old pickle": lambda b: pickle.loads(pickle.dumps(b, protocol=2)),
    "to another process": lambda b: pickle.loads(ForkingPickler.dumps(b)),
    "type(b)(pairs)": lambda b: type(b)(list(b.items())),
    "type(b)(**b)": lambda b: type(b)(**b),
    "fromkeys": lambda b: type(b).fromkeys(b, 0),
    "ChainMap": lambda b: dict(ChainMap(b)),
    "reversed": lambda b: list(reversed(b)),
    "len, in": lambda b: [len(b), "bboxes" in b, "boxes" in b, bool(b)],
    "repr": repr,
    "json names": lambda b: sorted(b),
    "torch.cat": lambda b: torch.cat(b["bboxes"]),
    "torch.vstack": lambda b: torch.vstack(b["bboxes"]),
    "pad_sequence": lambda b: torch.nn.utils.rnn.pad_sequence(b["bboxes"]),
    "[*boxes]": lambda b: [*b["bboxes"]],
    "boxes + boxes": lambda b: b["bboxes"] + b["bboxes"],
    "boxes[1:]": lambda b: b["bboxes"][1:],
    "boxes, copied": lambda b: [copy.copy(b["bboxes"]), b["bboxes"].copy()],
    "foreach": lambda b: list(torch._foreach_mul(b["bboxes"], 2)),
    "_to_kwargs": lambda b: _to_kwargs((b,), {"batch": b}, META, False),
    "tree_map": lambda b: tree_map(shape_of, b),
    "tree_map_only": lambda b: tree_map_only(torch.Tensor, lambda t: t.to(META), b),
    "tree_leaves": lambda b: tree_flatten(b)[0],
    "tree_unflatten": lambda b: tree_unflatten(*tree_flatten(b)),
    "tree_map_with_path": lambda b: pytree.tree_map_with_path(
        lambda path, value: [pytree.keystr(path), value], b
    ),
    "apply_to_collection": lambda b: apply_to_collection(b, torch.Tensor, lambda t: t + 1),
    "move_data_to_device": lambda b: move_data_to_device(b, META),
    "default_collate": lambda b: default_collate([{**b, "bboxes": 0}] * 2),
    "torch.save": lambda b: [
        torch.save(b, buffer := io.BytesIO()),
        buffer.seek(0),
        torch.load(buffer, weights_only=False),
    ],
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_batch_is_used_as_a_plain_dict_is(use):
    assert_alike(use(batch()), use(fields()))


@pytest.mark.parametrize(
    "move",
    [
        lambda b: _to_kwargs((b,), {}, META, False)[0][0][0],
        lambda b: tree_map_only(torch.Tensor, lambda t: t.to(META), b),
        lambda b: move_data_to_device(b, META),
        lambda b: b.to(META),
    ],
    ids=["_to_kwargs", "tree_map", "move_data_to_device", "to"],
)
def test_every_tensor_of_a_batch_reaches_the_device(move):
    moved = move(batch())
    assert type(moved) is Batch
    assert {moved[name].device for name in ("image", "index")} == {META}
    assert [boxes.device for boxes in moved["bboxes"]] == [META] * 3
    assert moved["image_path"] == ["a", "b", "c"]


def test_a_shallow_copy_shares_tensors_and_a_deep_one_keeps_what_they_share():
    original = batch()
    original["again"] = original["bboxes"]
    shallow, deep = copy.copy(original), copy.deepcopy(original)
    assert all(a is b for a, b in zip(shallow["bboxes"], original["bboxes"], strict=True))
    assert deep["again"] is deep["bboxes"]
    assert deep["bboxes"] is not original["bboxes"]
    addresses = [
        {boxes.untyped_storage().data_ptr() for boxes in one["bboxes"]} for one in (original, deep)
    ]
    assert list(map(len, addresses)) == [1, 1]
    assert addresses[0] != addresses[1]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))]
)
def test_changes_of_a_copy_travel(copied):
    boxes = copied(batch())["bboxes"]
    boxes[2].fill_(7)
    assert boxes.to("cpu")[2].unique().tolist() == [7]


def test_types_survive_a_rebuild():
    for rebuild in (
        lambda b: tree_map(lambda leaf: leaf, b),
        lambda b: apply_to_collection(b, torch.Tensor, lambda t: t),
        copy.copy,
        copy.deepcopy,
        lambda b: pickle.loads(pickle.dumps(b)),
        lambda b: pickle.loads(ForkingPickler.dumps(b)),
    ):
        found = rebuild(batch())
        assert (type(found), type(found["bboxes"])) == (Batch, TensorList)


def test_the_structure_of_a_batch_can_be_written_as_json():
    leaves, spec = tree_flatten({"batch": batch(), "sample": sample()})
    again = pytree.treespec_loads(pytree.treespec_dumps(spec))
    found = tree_unflatten(leaves, again)
    assert_alike(found["batch"], fields())
    assert found["sample"].ragged == {"bboxes"}


def sample():
    values = {"image": np.zeros((2, 2, 3), np.uint8), "bboxes": np.ones((3, 4), np.float32)}
    return ragged_sample(values, frozenset({"bboxes"}))


@pytest.mark.parametrize(
    "make",
    [lambda: Sample({"a": 1}), lambda: Sample([("a", 1)]), lambda: Sample(a=1), lambda: Sample()],
)
def test_a_sample_is_made_as_a_dict_is(make):
    assert make() in ({"a": 1}, {})
    assert make().ragged == frozenset()


@pytest.mark.parametrize(
    "rebuild",
    [
        copy.copy,
        copy.deepcopy,
        lambda s: pickle.loads(pickle.dumps(s)),
        lambda s: pickle.loads(ForkingPickler.dumps(s)),
        lambda s: tree_map(lambda leaf: leaf, s),
    ],
)
def test_a_copy_of_a_sample_keeps_its_ragged_keys(rebuild):
    found = rebuild(sample())
    assert type(found) is Sample
    assert found.ragged == {"bboxes"}
    assert found.keys() == sample().keys()
    assert np.array_equal(found["bboxes"], sample()["bboxes"])


def test_tree_map_reaches_the_arrays_of_a_sample():
    assert tree_map(np.shape, sample()) == {"image": (2, 2, 3), "bboxes": (3, 4)}


def test_changes_of_a_list_travel():
    changed = batch()
    changed["bboxes"][0] = torch.ones(3, 4)
    changed["bboxes"].append(torch.zeros(1, 4))
    assert [len(boxes) for boxes in changed.to("cpu")["bboxes"]] == [3, 0, 3, 1]


def test_every_tensor_moves_wherever_a_user_put_it():
    original = batch()
    original["targets"] = [{"mask": torch.zeros(2)}, (torch.ones(1), "text")]
    original["pair"] = Pair(torch.zeros(1), "right")
    moved = original.to("meta")
    assert moved["targets"][0]["mask"].device == META
    assert moved["targets"][1][0].device == META
    assert moved["targets"][1][1] == "text"
    assert moved["pair"].left.device == META
    assert moved["pair"].right == "right"
    assert original["targets"][0]["mask"].device.type == "cpu"


class Labelled(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2, 4).as_subclass(Labelled),
        lambda: torch.eye(4).to_sparse(),
        lambda: torch.tensor(3.0),
        lambda: torch.nn.Parameter(torch.ones(2, 4)),
        lambda: torch.ones(2, 4, requires_grad=True),
    ],
    ids=["subclass", "sparse", "number", "parameter", "gradient"],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # torch's own call
def test_tensors_that_cannot_be_joined_travel_one_by_one(make):
    boxes = TensorList([make(), make()])
    for found in (boxes.to("cpu"), pickle.loads(ForkingPickler.dumps(boxes))):
        assert [type(one) for one in found] == [type(one) for one in boxes]
        assert [one.requires_grad for one in found] == [one.requires_grad for one in boxes]
        assert all(
            torch.equal(a.to_dense(), b.to_dense()) for a, b in zip(found, boxes, strict=True)
        )


def test_a_gradient_flows_through_a_moved_list():
    boxes = [torch.ones(k, 4, requires_grad=True) for k in (1, 2)]
    TensorList(boxes).to(torch.float64)[1].sum().backward()
    assert boxes[1].grad.tolist() == [[1.0] * 4] * 2


def test_one_tensor_a_field_is_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(
        torch.Tensor, "pin_memory", lambda self: pinned.append(tuple(self.shape)) or self.clone()
    )
    assert_alike(pin_memory(batch()), fields())
    assert pinned == [(3, 2, 2, 3), (5, 4), (3,)]


class Rows(torch.utils.data.Dataset):
    """Three samples; in worker processes too, which import this module again if spawned."""

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, index):
        rows = fields()
        values = {name: value[index] for name, value in rows.items()}
        values["bboxes"] = values["bboxes"].numpy()
        return self.kind(values)


def as_sample(values):
    return ragged_sample(values, frozenset({"bboxes"}))


def collate_plainly(samples):
    boxes = [torch.from_numpy(one.pop("bboxes")) for one in samples]
    rest = default_collate(samples)
    return {name: boxes if name == "bboxes" else rest[name] for name in NAMES}


@pytest.mark.parametrize("context", [None, "fork", PROCESSES])
@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork.*:DeprecationWarning"  # other tests' idle threads
)
def test_a_dataloader_gives_what_a_plain_collate_gives(context):
    (found,) = DataLoader(
        Rows(as_sample),
        batch_size=3,
        multiprocessing_context=context,
        num_workers=int(context is not None),
    )
    (expected,) = DataLoader(Rows(dict), batch_size=3, collate_fn=collate_plainly)
    assert (type(found), type(found["bboxes"])) == (Batch, TensorList)
    assert_alike(found, expected)


class Model(torch.nn.Module):
    """Fails unless it is given boxes as a list, and paths as text."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch, weights):
        assert batch["image_path"][0] in ("a", "b", "c")
        boxes = torch.cat(batch["bboxes"]).sum() + sum(b.sum() for b in weights["bboxes"])
        return self.scale * (batch["image"].float().mean() + boxes)


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_a_distributed_model_trains_on_the_batches_of_a_loader(tmp_path, process_group):
    rows = fields()
    np.savez(
        tmp_path / "a.npz",
        images=rows["image"].numpy(),
        bboxes=torch.cat(rows["bboxes"]).numpy(),
        bboxes_offsets=np.array([0, 2, 2, 5]),
        image_paths=np.array(rows["image_path"]),
    )
    model = torch.nn.parallel.DistributedDataParallel(Model())
    model.device_ids = [0]  # as on a GPU: batches are rebuilt on their way to the device
    with LazyNPZDataset(tmp_path / "a.npz") as dataset:
        for one in BatchLoader(dataset, batch_size=3):
            model(one, weights=one).backward()
    expected = rows["image"].float().mean() + 2 * torch.arange(20.0).sum()
    assert model.module.scale.grad == expected


def plain_and_split():
    flat = torch.arange(8.0).view(4, 2)
    return [flat[:2].clone(), flat[2:].clone()], TensorList.split(flat, [2, 2])


IN_PLACE = {
    "another value": lambda tensor: tensor.add_(1),
    "another order of dimensions": lambda tensor: tensor.t_(),
    "another shape": lambda tensor: tensor.unsqueeze_(0),
    "other memory": lambda tensor: tensor.set_(torch.full((5, 2), 9.0)),
    "other data": lambda tensor: setattr(tensor, "data", torch.full((5, 2), 9.0)),
    "a gradient": lambda tensor: tensor.requires_grad_(),
}


@pytest.mark.parametrize("change", IN_PLACE)
def test_a_change_of_an_item_in_place_moves_with_the_list(change):
    plain, tensors = plain_and_split()
    for items in (plain, tensors):
        IN_PLACE[change](items[1])
    moved = tensors.to(torch.float64)
    for expected, found in zip([tensor.to(torch.float64) for tensor in plain], moved, strict=True):
        assert torch.equal(expected, found)
        assert expected.requires_grad == found.requires_grad


def test_a_list_of_lengths_may_be_changed_after_the_split():
    lengths = [1, 3]
    tensors = TensorList.split(torch.zeros(4, 2), lengths)
    lengths.reverse()
    assert [len(tensor) for tensor in tensors.to(torch.float64)] == [1, 3]


def test_a_pickled_list_holds_its_memory_once():
    tensors = TensorList.split(torch.zeros(2048, 4), [8] * 256)
    assert len(pickle.dumps(Batch(bboxes=tensors))) < 2 * 2048 * 4 * 4


def test_containers_in_a_batch_keep_their_types_when_they_move():
    nested = {
        "batch": Batch(image=torch.zeros(1)),
        "ordered": OrderedDict(a=torch.zeros(1)),
        "packed": torch.nn.utils.rnn.pack_sequence([torch.zeros(2)]),
        "named": torch.max(torch.zeros(2, 2), 1),
        "text": "abc",
    }
    moved = Batch(nested).to("meta")
    assert [type(moved[name]) for name in nested] == [type(value) for value in nested.values()]
    assert moved["batch"]["image"].device.type == "meta"
    assert moved["ordered"]["a"].device.type == "meta"
    assert moved["packed"].data.device.type == "meta"
    assert moved["named"].values.device.type == "meta"
